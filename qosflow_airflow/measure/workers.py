"""A pool of worker processes that transfer at the same time, as the tasks of a stage do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from qosflow_airflow.exceptions import MeasurementError

LEAD_S = 0.01
"""How long before the common start the workers are told: enough to wake up and fill their buffers."""
_PROGRAM = Path(__file__).with_name("worker.py")


class FilePart(NamedTuple):
    """A file and how many of its bytes to move; ``source`` is what to copy into it, where it is a copy."""

    source: Path
    path: Path
    bytes: int


@dataclass(frozen=True)
class Transfer:
    """What one worker does, one file after the other: write, read or copy it."""

    operation: str
    files: Sequence[FilePart]
    access_bytes: int
    direct: bool = False


class Workers:
    """Processes that live as long as the ``with`` block and answer one transfer each at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Workers:
        try:
            for _ in range(self._count):
                self._processes.append(
                    # A session of its own: an interrupt at the terminal reaches us, and we end the workers.
                    # Where we are killed, their input ends and so do they.
                    subprocess.Popen(
                        [sys.executable, "-I", "-S", str(_PROGRAM)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        start_new_session=True,
                    )
                )
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # a request that a dead worker never took
                        pipe.close()

    def run(self, transfers: Sequence[Transfer]) -> float:
        """Do all transfers at once; return the seconds from the first begin to the last end.

        Raises
        ------
        OSError
            When the system refuses a transfer.
        MeasurementError
            When a worker has died.
        """
        start_s = time.monotonic() + LEAD_S
        busy = self._processes[: len(transfers)]
        for process, transfer in zip(busy, transfers, strict=True):
            self._tell(process, transfer, start_s)
        answers = [self._hear(process) for process in busy]
        for answer in answers:
            if "error" in answer:
                raise OSError(answer["errno"] or 0, answer["error"])
        return float(max(a["end_s"] for a in answers) - min(a["begin_s"] for a in answers))

    def _tell(self, process: subprocess.Popen[str], transfer: Transfer, start_s: float) -> None:
        request = {
            "operation": transfer.operation,
            "files": [(str(part.source), str(part.path), part.bytes) for part in transfer.files],
            "access_bytes": transfer.access_bytes,
            "direct": transfer.direct,
            "start_s": start_s,
        }
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise _dead(process) from error

    def _hear(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise _dead(process)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _dead(process: subprocess.Popen[str]) -> MeasurementError:
    return MeasurementError(
        f"a measuring process ended with code {process.wait()}",
        cure="See its message above; memory may be short.",
    )
