"""From what the store holds of finished runs to what they tell of numbers of tasks.

A stage's runs count where they were on one tier and node count. Nothing here needs more than numpy; scipy is
imported where runs tell something.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.learn.amdahl import StageTiming
from qosflow_airflow.learn.chunk_request import ChunkRequest
from qosflow_airflow.learn.division import Cell, Division
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.finished_runs import Observation, RunRecord, StageRun

RUNS = 50
"""So many of the newest runs are looked at."""


class SizedTiming(NamedTuple):
    """What a run took for a stage, and the bytes that it read, ``None`` where not known."""

    timing: StageTiming
    read_bytes: int | None


def division_for(
    store: Store, model: Model, runs: Sequence[RunRecord], request: QoSRequest, asked: ChunkRequest
) -> Division:
    """Return what numbers of tasks are chosen by, for a request to a model.

    ``runs`` are those of its workflow, newest first: the :data:`RUNS` newest are worth looking at.

    Raises
    ------
    WorkflowError
        When a limit is for a stage that the workflow does not have.
    RequestError
        When the objective is unknown.
    """
    for stage in asked.limits:
        model.workflow.stage(stage)
    timings, startup_s = _timings(store, model, runs, asked.limits)
    fits = {}
    if timings:
        # Only here: it imports scipy.
        from qosflow_airflow.learn.parallelism_fit import fit_parallelism

        found = {cell: fit_parallelism(taken) for cell, taken in timings.items()}
        fits = {cell: fit for cell, fit in found.items() if fit is not None}
    return Division.asked(asked, request, fits=fits, startup_s=startup_s)


def _timings(
    store: Store, model: Model, runs: Sequence[RunRecord], stages: Iterable[str]
) -> tuple[dict[Cell, list[StageTiming]], float]:
    """Return what finished runs took per stage, tier and node count, oldest first; and what starting took."""
    found: dict[Cell, list[SizedTiming]] = {}
    units: dict[Cell, set[str | None]] = {}
    starts_s: list[float] = []
    for run in reversed(runs):
        cells = [cell for stage in stages if (cell := _cell(model, run, stage)) is not None]
        observations = store.observations(run.recommendation_id) if cells and run.stages else ()
        starts_s += [
            start_s for one in observations if one.teaches and (start_s := _start_s(one)) is not None
        ]
        for cell in cells:
            timing = timing_of(run, cell[0], observations)
            if timing is not None:
                found.setdefault(cell, []).append(timing)
                units.setdefault(cell, set()).update(
                    one.load_source for one in run.stages if one.stage == cell[0]
                )
    # Loads of several units cannot be compared: then none of them counts.
    timings = {cell: _scaled(taken, len(units[cell]) == 1) for cell, taken in found.items()}
    return timings, max(0.0, statistics.median(starts_s)) if starts_s else 0.0


def _cell(model: Model, run: RunRecord, stage: str) -> Cell | None:
    """Return where a run had a stage, ``None`` where the model does not know of such a place."""
    ran = run.configuration or {}
    tier, nodes = ran.get("tiers", {}).get(stage), ran.get("nodes")
    return (stage, tier, nodes) if tier in model.catalog.index and nodes in model.nodes else None


def timing_of(run: RunRecord, stage: str, observations: Iterable[Observation]) -> SizedTiming | None:
    """Return what a run tells of a stage; ``None`` where it does not teach.

    All tasks must have succeeded by themselves at the first try. What they waited and took to start is the
    median over them. Where there are no observations, the run's outcome counts, without waiting.
    """
    seen: StageRun | None = next((one for one in run.stages if one.stage == stage), None)
    if seen is None:
        measured = (run.outcome or {}).get("stages", {}).get(stage) if not run.stages else None
        if not measured:
            return None
        return SizedTiming(StageTiming(int(measured["tasks"]), float(measured["measured_s"])), None)
    if seen.others or seen.skewed or seen.tasks != seen.count or None in (seen.start_s, seen.end_s):
        return None
    waits = [(one.queue_s or 0.0) + (_start_s(one) or 0.0) for one in observations if _is_of(one, stage)]
    startup_s = max(0.0, statistics.median(waits)) if waits else 0.0
    took_s = float(seen.end_s or 0.0) - float(seen.start_s or 0.0) + startup_s
    timing = StageTiming(seen.count, took_s, startup_s=startup_s, load=seen.load)
    return SizedTiming(timing, seen.read_bytes)


def _is_of(found: Observation, stage: str) -> bool:
    return found.stage == stage and found.teaches


def _start_s(found: Observation) -> float | None:
    """Return how long a task took until its program was at work, ``None`` where not known."""
    if found.start_s is None or found.work_start_s is None:
        return None
    return found.work_start_s - found.start_s


def _scaled(timings: Sequence[SizedTiming], one_unit: bool) -> list[StageTiming]:
    """Return timings with the size of their data over the median one, where that is known of all.

    Loads are left out unless all are of ``one_unit``.
    """
    sizes = [one.read_bytes for one in timings if one.read_bytes]
    usual = statistics.median(sizes) if sizes and len(sizes) == len(timings) else None
    return [
        one.timing._replace(
            data_scale=1.0 if usual is None else (one.read_bytes or usual) / usual,
            load=one.timing.load if one_unit else None,
        )
        for one in timings
    ]
