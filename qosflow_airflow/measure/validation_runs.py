"""Run configurations of a workload, to be held against what a model predicts for them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qosflow_airflow.core.measured_run import CopyParts, MeasuredRun, stage_parts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import FINAL_DATA, Edge, Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.run_workflow import CopyRun, WorkflowRun, run_workflow
from qosflow_airflow.measure.scratch import usable_bytes

Layout = tuple[int, ...]
CLEANING_S = 0.3
"""About what lies between two runs: removing what the last one wrote, and losing the input from the cache."""
ROOM = 1.5
"""A run must leave room for so many times what it keeps on a tier."""


@dataclass(frozen=True)
class Workload:
    """A workflow that runs here: the command of a task, its input, and the tiers with their mounts."""

    workflow: Workflow
    catalog: TierCatalog
    command: tuple[str, ...]
    initial_data: Path
    slots: int | None

    def run(self, layout: Layout) -> MeasuredRun:
        """Run one configuration from cold input, and remove what it wrote.

        Raises
        ------
        MeasurementError
            When a task fails, or a record cannot be read.
        """
        run_id = f"validate-{os.getpid()}-{time.monotonic_ns()}"
        names = self.catalog.names
        tiers = {stage: names[t] for stage, t in zip(self.workflow.stage_names, layout, strict=True)}
        evict([self.initial_data])
        try:
            done = run_workflow(
                self.workflow,
                self.catalog,
                tiers,
                self.command,
                run_id=run_id,
                initial_data=self.initial_data,
                slots=self.slots,
            )
            return _measured(layout, done)
        finally:
            for mount in {tier.mount for tier in self.catalog.tiers if tier.mount}:
                _remove(Path(mount, run_id))

    def check_space(self, needed_bytes: float) -> None:
        """Raise where a tier could not hold all that a run writes."""
        for tier in self.catalog.tiers:
            free = usable_bytes(Path(tier.mount or "."))
            if free < ROOM * needed_bytes:
                raise MeasurementError(
                    f"tier {tier.name!r} has {free >> 20} MiB to use, and a run may need "
                    f"{int(ROOM * needed_bytes) >> 20} MiB",
                    cure="Free some space, or choose a smaller size.",
                )


def choose(
    predicted_s: Mapping[Layout, float], repeats: int, budget_s: float, seed: int
) -> tuple[list[Layout], bool]:
    """Return the layouts to run ``repeats`` times each in random order, and whether they are all of them.

    Where all do not fit the budget by their predictions, it is a random sample that does, of two at least.
    """
    ordered = sorted(predicted_s)
    shuffled = [ordered[at] for at in np.random.default_rng(seed).permutation(len(ordered))]
    chosen: list[Layout] = []
    left_s = budget_s
    for layout in shuffled:
        left_s -= repeats * (predicted_s[layout] + CLEANING_S)
        if left_s < 0 and len(chosen) >= 2:
            break
        chosen.append(layout)
    return chosen, len(chosen) == len(shuffled)


def run_all(
    workload: Workload,
    layouts: Sequence[Layout],
    repeats: int,
    budget_s: float,
    seed: int,
    progress: Callable[[str], None] = lambda message: None,
) -> list[MeasuredRun]:
    """Run every layout once, in random order, then all again in another, until ``repeats`` or the time is up.

    The first round is always finished.
    """
    random, started_s = np.random.default_rng([seed, repeats]), time.monotonic()
    runs: list[MeasuredRun] = []
    for repeat in range(1, repeats + 1):
        order = [layouts[at] for at in random.permutation(len(layouts))]
        for at, layout in enumerate(order, start=1):
            used_s = time.monotonic() - started_s
            if repeat > 1 and used_s > budget_s:
                progress(f"validate: the time is up after {len(runs)} runs")
                return runs
            runs.append(workload.run(layout))
            if at % 10 == 0 or at == len(order):
                progress(f"validate: round {repeat} of {repeats}: {at} of {len(order)} runs, {used_s:.0f} s")
    return runs


def _measured(layout: Layout, done: WorkflowRun) -> MeasuredRun:
    records = [_record(path) for path in sorted(done.records.glob("*.json"))]
    copies: dict[Edge, list[CopyRun]] = {}
    for copy in done.copies:
        kept = copy.data_of == copy.stage
        edge = Edge(copy.stage, FINAL_DATA) if kept else Edge(copy.data_of, copy.stage)
        copies.setdefault(edge, []).append(copy)
    parts = {
        edge: CopyParts(sum(copy.copy_s for copy in made), float(sum(copy.bytes for copy in made)))
        for edge, made in copies.items()
    }
    return MeasuredRun(layout, done.seconds, stage_parts(records), parts)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasurementError(f"is no record of a task: {error}", source=path, cure="Run again.") from error
    if not isinstance(record, dict) or not {"stage", "start_s", "end_s", "files"} <= record.keys():
        raise MeasurementError("is no record of a task", source=path, cure="Run again.")
    return record


def _remove(folder: Path) -> None:
    """Remove a run's folder, and have the filesystem do it now: not while the next run is timed."""
    shutil.rmtree(folder, ignore_errors=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
