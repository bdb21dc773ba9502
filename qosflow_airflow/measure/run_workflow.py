"""Run a workflow on this machine, without Airflow: each task a process, each stage on its tier.

The rows of a placement say what to do, the same rows that a Dag maps its tasks over: copies in, the stage's
tasks, copies of what is kept to the home tier. A stage starts when its predecessors' tasks are done, and up
to ``slots`` of its tasks run at once, whatever else runs: stages that are ready at the same time share the
processors, as they do under an executor.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from qosflow_airflow.core.placement import Placement, Row, place
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.folder_copy import copy_folder

COPIES_AT_ONCE = 4
"""Per stage, as the operators copy."""


@dataclass(frozen=True)
class StageRun:
    """When a stage's tasks ran, in seconds from the start of the run; copies between tiers are outside."""

    begin_s: float
    end_s: float


class CopyRun(NamedTuple):
    """A copy that was made: for which stage, of whose data, and how long it took without the comparison.

    ``begin_s`` and ``end_s`` are seconds from the start of the run, the comparison with the source included.
    """

    stage: str
    data_of: str
    source_tier: str
    tier: str
    bytes: int
    copy_s: float
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class WorkflowRun:
    """A finished run: its wall clock, its stages and copies, their outputs, and the records of the tasks."""

    seconds: float
    stages: Mapping[str, StageRun]
    copies: tuple[CopyRun, ...]
    outputs: Mapping[str, Path]
    records: Path


def run_workflow(
    workflow: Workflow,
    catalog: TierCatalog,
    tiers: Mapping[str, str],
    command: Sequence[str],
    *,
    run_id: str,
    initial_data: Path,
    slots: int | None = None,
    one_by_one: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> WorkflowRun:
    """Run ``command`` once per task, with the row's ``QOSFLOW_*`` variables; copy where tiers differ.

    ``tiers`` names the tier of each stage; ``slots`` is how many tasks of a stage run at once (default: one a
    processor). ``one_by_one`` runs one stage after the other, so that each is seen as it is alone. Folders
    are made below ``run_id`` on the tiers' mounts and stay. The first failure or an interrupt ends the tasks
    that run.

    Raises
    ------
    MeasurementError
        When a task fails: its stage, and what it said.
    OSError, ValueError
        When a copy fails.
    """
    placement = place(
        workflow,
        catalog,
        Configuration(1, tiers),
        recommendation_id=run_id,
        initial_data=str(initial_data),
    )
    run = _Run(workflow, placement, tuple(command), slots or os.cpu_count() or 1, one_by_one, say)
    run.finish()
    first_rows = {name: rows[0] for name, rows in placement.stages.items()}
    return WorkflowRun(
        seconds=run.now_s(),
        stages=run.stages,
        copies=tuple(sorted(run.copies, key=lambda copy: copy.begin_s)),
        outputs={name: Path(row["output"]) for name, row in first_rows.items()},
        records=Path(next(iter(first_rows.values()))["env"]["QOSFLOW_RECORDS"]),
    )


@dataclass
class _Run:
    workflow: Workflow
    placement: Placement
    command: tuple[str, ...]
    slots: int
    one_by_one: bool
    say: Callable[[str], None]
    started_s: float = field(default_factory=time.monotonic)
    stages: dict[str, StageRun] = field(default_factory=dict)
    copies: list[CopyRun] = field(default_factory=list)
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    failure: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now_s(self) -> float:
        return time.monotonic() - self.started_s

    def finish(self) -> None:
        """Run every stage when its predecessors are done, and copy out what is kept."""
        # A thread waits for each stage and for its copies out, and a pool of its own does the stage's work.
        pool = ThreadPoolExecutor(2 * len(self.workflow.stages))
        try:
            self._follow_the_edges(pool)
        except BaseException as error:
            first = self._abort(error)
            if first is error:
                raise
            # Tasks that were ended fail as well; the first failure is the one to tell.
            raise first from error
        finally:
            pool.shutdown(cancel_futures=True)

    def _follow_the_edges(self, pool: ThreadPoolExecutor) -> None:
        waiting = {stage.name: set(stage.stage_predecessors) for stage in self.workflow.stages}
        at_work: dict[Future[None], str | None] = {}
        while waiting or at_work:
            ready = [name for name, needs in waiting.items() if not needs]
            for name in ready[: len(ready) if not self.one_by_one else not at_work]:
                del waiting[name]
                at_work[pool.submit(self._run_stage, name)] = name
            finished, _ = wait(at_work, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                name_done = at_work.pop(future)
                if name_done is not None:
                    for needs in waiting.values():
                        needs.discard(name_done)
                    at_work[pool.submit(self._copy_all, self.placement.stage_out[name_done])] = None

    def _run_stage(self, name: str) -> None:
        self._copy_all(self.placement.stage_in[name])
        rows = self.placement.stages[name]
        begin_s = self.now_s()
        self._side_by_side(self._run_task, rows, self.slots)
        times = self.stages[name] = StageRun(begin_s, self.now_s())
        self.say(f"{name}: {len(rows)} tasks in {times.end_s - times.begin_s:.1f} s")

    def _copy_all(self, rows: Sequence[Row]) -> None:
        self._side_by_side(self._copy, rows, COPIES_AT_ONCE)

    def _side_by_side(self, work: Callable[[Row], None], rows: Sequence[Row], at_once: int) -> None:
        if not rows:
            return
        with ThreadPoolExecutor(min(at_once, len(rows))) as pool:
            futures = [pool.submit(work, row) for row in rows]
            try:
                for future in futures:
                    future.result()
            except BaseException as error:
                self._abort(error)
                pool.shutdown(cancel_futures=True)
                raise

    def _copy(self, row: Row) -> None:
        self._refuse_when_aborted()
        begin_s = self.now_s()
        copied = copy_folder(Path(row["source"]), Path(row["destination"]), row["patterns"])
        self.copies.append(
            CopyRun(
                stage=row["stage"],
                data_of=row["data_of"],
                source_tier=row["source_tier"],
                tier=row["tier"],
                bytes=copied.bytes,
                copy_s=copied.copy_s or 0.0,
                begin_s=begin_s,
                end_s=self.now_s(),
            )
        )
        way = f"{row['source_tier']} to {row['tier']}"
        self.say(f"{row['stage']}: {copied.bytes / 2**20:.1f} MiB of {row['data_of']} copied from {way}")

    def _run_task(self, row: Row) -> None:
        process = self._start({**os.environ, **row["env"]})
        try:
            output, _ = process.communicate()
        finally:
            with self.lock:
                self.running.discard(process)
        if process.returncode != 0:
            raise MeasurementError(
                f"task {row['index']} of stage {row['stage']} ended with code {process.returncode}: "
                f"{output.strip()}",
                cure="Cure what it says, and run again.",
            )

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        with self.lock:
            self._refuse_when_aborted()
            process: subprocess.Popen[str] = subprocess.Popen(
                self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.running.add(process)
            return process

    def _refuse_when_aborted(self) -> None:
        if self.failure is not None:
            raise MeasurementError("the run was ended", cure="Run again.")

    def _abort(self, error: BaseException) -> BaseException:
        """Start nothing more, end the tasks that run, and return the first failure."""
        with self.lock:
            first = self.failure = self.failure or error
            for process in self.running:
                process.terminate()
        return first
