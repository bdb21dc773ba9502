"""Darshan logs (https://www.mcs.anl.gov/research/projects/darshan): what ranks read and wrote."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qosflow_airflow.exceptions import BundleError, MeasurementError
from qosflow_airflow.readers.files import MAX_FILE_BYTES

TIMEOUT_S = 600.0
"""How long all logs of a call may take to be read."""
MAX_PROCESSES = 1_000_000
ALL_RANKS = -1
_WORKER = Path(__file__).with_name("darshan_worker.py")


@dataclass(frozen=True)
class DarshanRecord:
    """What one rank, or all of them together (``rank`` -1), did in one file through POSIX or STDIO.

    Counters are negative where the log does not have them. ``read_s``, ``write_s`` and ``meta_s`` are summed
    over the ranks.
    """

    module: str
    file: str
    rank: int
    reads: int
    writes: int
    bytes_read: int
    bytes_written: int
    read_s: float
    write_s: float
    meta_s: float
    last_s: float


@dataclass(frozen=True)
class DarshanLog:
    """One log: a run of ``processes`` ranks from ``start_s`` to ``end_s`` (seconds since the epoch).

    ``modules`` maps each kind of record in the log to whether it is only a part, for lack of memory.
    """

    path: Path
    job_id: int
    processes: int
    start_s: float
    end_s: float
    modules: Mapping[str, bool]
    records: tuple[DarshanRecord, ...]


def read_darshan_logs(paths: Sequence[str | Path]) -> list[DarshanLog]:
    """Read logs, with the library ``darshan`` in a process of its own.

    Raises
    ------
    BundleError
        When the library is not installed, or a log is missing, empty, truncated or otherwise damaged.
    MeasurementError
        When a log's times or counts cannot be.
    """
    _require_library()
    logs = [Path(path) for path in paths]
    for path in logs:
        _check_file(path)
    answers = _answers(logs)
    return [_log(path, answer) for path, answer in zip(logs, answers, strict=True)]


def _require_library() -> None:
    if importlib.util.find_spec("darshan") is None:
        raise BundleError(
            "Darshan logs are read by the library darshan, which is not installed",
            cure="Install it with pip install 'airflow-provider-qosflow[darshan]', on Python 3.11 or 3.12.",
        )


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise BundleError("is not a file", source=path, cure="Give a Darshan log.")
    size_bytes = path.stat().st_size
    if not 0 < size_bytes <= MAX_FILE_BYTES:
        raise BundleError(
            f"is {size_bytes:,} bytes", source=path, cure=f"Give a log of 1 to {MAX_FILE_BYTES:,} bytes."
        )


def _answers(logs: Sequence[Path]) -> list[dict[str, Any]]:
    # -P: the folder of the program holds modules with common names, which the library must not find.
    command = [sys.executable, "-P", str(_WORKER), *(str(path.resolve()) for path in logs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"reading took more than {TIMEOUT_S:g} s", source=logs[0], cure="Give fewer logs at once."
        ) from None
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) < len(logs):
        said = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        raise _damaged(logs[len(answers)], said)
    return answers


def _damaged(path: Path, said: str) -> BundleError:
    return BundleError(
        f"cannot be read as a Darshan log: {said}",
        source=path,
        cure="It is truncated, damaged or something else; copy it again.",
    )


def _log(path: Path, answer: Mapping[str, Any]) -> DarshanLog:
    if "error" in answer:
        raise _damaged(path, answer["error"])
    if not 1 <= answer["processes"] <= MAX_PROCESSES:
        raise _impossible(path, f"{answer['processes']} processes")
    if not 0 < answer["start_s"] <= answer["end_s"]:
        raise _impossible(path, f"a start at {answer['start_s']} and an end at {answer['end_s']}")
    records = tuple(DarshanRecord(**record) for record in answer["records"])
    for record in records:
        if not all(map(math.isfinite, (record.read_s, record.write_s, record.meta_s, record.last_s))):
            raise _impossible(path, f"times of {record.file!r} that are no numbers")
        if not ALL_RANKS <= record.rank < answer["processes"]:
            raise _impossible(path, f"rank {record.rank} of {answer['processes']}")
    known = {name: answer[name] for name in ("job_id", "processes", "start_s", "end_s", "modules")}
    return DarshanLog(path=path, records=records, **known)


def _impossible(path: Path, what: str) -> MeasurementError:
    return MeasurementError(f"has {what}", source=path, cure="The log is damaged; leave it out.")
