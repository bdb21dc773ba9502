"""Run the whole workflow on this machine, without Airflow: each task a process, each stage on its tier.

The rows of a placement say what to do: the same rows that an Airflow Dag maps its tasks over.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from errors import GenomeError

from qosflow_airflow.core.placement import Placement, Row, place
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.measure.folder_copy import copy_folder

PROGRAM = Path(__file__).with_name("genome.py")
Job = Callable[[], object]


@dataclass(frozen=True)
class StageRun:
    """When a stage's tasks ran, in seconds from the start of the run; copies between tiers are outside."""

    begin_s: float
    end_s: float


@dataclass(frozen=True)
class LocalRun:
    """A finished run: where each stage's output lies, and where the records of the tasks are."""

    seconds: float
    stages: Mapping[str, StageRun]
    outputs: Mapping[str, Path]
    records: Path


def run_workflow(
    workflow: Workflow,
    catalog: TierCatalog,
    tiers: Mapping[str, str],
    *,
    run_id: str,
    initial_data: Path,
    processes: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> LocalRun:
    """Run every task, at most ``processes`` at once (default: one a processor); copy where tiers differ.

    ``tiers`` names the tier of each stage. Folders are made below ``run_id`` on the tiers' mounts and stay.
    A stage starts when its predecessors are done. The first failure or an interrupt ends the tasks that run.

    Raises
    ------
    GenomeError
        When a task fails: its stage, and what it said.
    """
    placement = place(
        workflow,
        catalog,
        Configuration(1, tiers),
        recommendation_id=run_id,
        initial_data=str(initial_data),
    )
    run = _Run(workflow, placement, say)
    with ThreadPoolExecutor(processes or os.cpu_count() or 1) as pool:
        try:
            run.finish(pool)
        except BaseException:
            run.abort(pool)
            raise
    first_rows = {name: rows[0] for name, rows in placement.stages.items()}
    return LocalRun(
        seconds=time.monotonic() - run.started_s,
        stages=run.stages,
        outputs={name: Path(row["output"]) for name, row in first_rows.items()},
        records=Path(next(iter(first_rows.values()))["env"]["QOSFLOW_RECORDS"]),
    )


@dataclass
class _Run:
    workflow: Workflow
    placement: Placement
    say: Callable[[str], None]
    started_s: float = field(default_factory=time.monotonic)
    stages: dict[str, StageRun] = field(default_factory=dict)
    steps: dict[str, deque[list[Job]]] = field(default_factory=dict)
    jobs: dict[Future[object], str] = field(default_factory=dict)
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    aborted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish(self, pool: ThreadPoolExecutor) -> None:
        """Run every stage when its predecessors are done, each in three steps: copy in, run, copy out."""
        waiting = {stage.name: set(stage.stage_predecessors) for stage in self.workflow.stages}
        while waiting or self.jobs:
            for name in [name for name, needs in waiting.items() if not needs]:
                del waiting[name]
                self.steps[name] = self._steps(name)
                self._advance(pool, name)
            finished, _ = wait(self.jobs, return_when=FIRST_COMPLETED)
            stages = {self.jobs.pop(future) for future in finished}
            for future in finished:
                future.result()
            for name in stages - set(self.jobs.values()):
                if not self._advance(pool, name):
                    for needs in waiting.values():
                        needs.discard(name)

    def abort(self, pool: ThreadPoolExecutor) -> None:
        """Start nothing more and end the tasks that run."""
        with self.lock:
            self.aborted = True
            for process in self.running:
                process.terminate()
        pool.shutdown(cancel_futures=True)

    def _steps(self, name: str) -> deque[list[Job]]:
        copies_in: list[Job] = [partial(self._copy, row) for row in self.placement.stage_in[name]]
        tasks: list[Job] = [partial(self._run_task, row) for row in self.placement.stages[name]]
        copies_out: list[Job] = [partial(self._copy, row) for row in self.placement.stage_out[name]]
        return deque([step for step in (copies_in, tasks, copies_out) if step])

    def _advance(self, pool: ThreadPoolExecutor, name: str) -> bool:
        """Submit the next step of a stage; return whether there was one."""
        if not self.steps[name]:
            times = self.stages[name]
            self.say(
                f"{name}: {len(self.placement.stages[name])} tasks in {times.end_s - times.begin_s:.1f} s"
            )
            return False
        for job in self.steps[name].popleft():
            self.jobs[pool.submit(job)] = name
        return True

    def _copy(self, row: Row) -> None:
        copied = copy_folder(Path(row["source"]), Path(row["destination"]), row["patterns"])
        way = f"{row['source_tier']} to {row['tier']}"
        self.say(f"{row['stage']}: {copied.bytes / 2**20:.1f} MiB of {row['data_of']} copied from {way}")

    def _run_task(self, row: Row) -> None:
        begin_s = time.monotonic() - self.started_s
        process = self._start({**os.environ, **row["env"]})
        try:
            output, _ = process.communicate()
        finally:
            with self.lock:
                self.running.discard(process)
        if process.returncode != 0:
            raise GenomeError(
                f"task {row['index']} of stage {row['stage']} ended with code {process.returncode}: "
                f"{output.strip()}"
            )
        end_s = time.monotonic() - self.started_s
        with self.lock:
            before = self.stages.get(row["stage"], StageRun(begin_s, end_s))
            self.stages[row["stage"]] = StageRun(min(before.begin_s, begin_s), max(before.end_s, end_s))

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        with self.lock:
            if self.aborted:
                raise GenomeError("the run was ended")
            process: subprocess.Popen[str] = subprocess.Popen(
                [sys.executable, str(PROGRAM), "run"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.running.add(process)
            return process
