"""From what the store holds of a run to what is known of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qosflow_airflow.core.model import Model
from qosflow_airflow.learn.finished_run import FinishedRun
from qosflow_airflow.store.finished_runs import RunRecord, StageRun


def finished_run(record: RunRecord) -> FinishedRun:
    """Return what is known of a run; what cannot be read teaches nothing, and that is said.

    Observations of its tasks tell which stages teach: they know first tries from others. How long a stage
    took its outcome says, which comes from what the programs recorded; only without one, it is what
    observations say. Airflow's own times of a task that is a pod hold what starting the pod took.
    """
    try:
        return _finished_run(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"its outcome cannot be read: {type(error).__name__} {error}"[:200]
        return FinishedRun(
            record.recommendation_id, record.created_at.timestamp(), 0, {}, {}, left_out=(reason,)
        )


def run_beside(record: RunRecord, model: Model) -> FinishedRun:
    """Return what is known of a run, to be held against a model.

    A stage that was done in another number of tasks than the model has is held against what the run's answer
    foretold of that number. Where it foretold nothing of it, the stage is left out.
    """
    run = finished_run(record)
    if not run.stage_s:
        return run
    of_outcome: Mapping[str, Any] = (record.outcome or {}).get("stages", {})
    planned = {stage.name: stage.tasks for stage in model.workflow.stages}
    numbers = {stage: found.get("tasks") for stage, found in of_outcome.items()}
    numbers |= {stage.stage: stage.count for stage in record.stages}
    other = {
        stage: numbers[stage]
        for stage in run.stage_s
        if numbers.get(stage) is not None and numbers[stage] != planned.get(stage, numbers[stage])
    }
    foretold_s = {
        stage: float(of_outcome[stage]["predicted_s"])
        for stage, count in other.items()
        if of_outcome.get(stage, {}).get("predicted_tasks") == count
    }
    unknown = {stage: count for stage, count in other.items() if stage not in foretold_s}
    said = tuple(f"{stage} ran in {count} tasks, not {planned[stage]}" for stage, count in unknown.items())
    kept = {stage: seconds for stage, seconds in run.stage_s.items() if stage not in unknown}
    return run._replace(stage_s=kept, left_out=(*run.left_out, *said), foretold_s=foretold_s)


def _finished_run(record: RunRecord) -> FinishedRun:
    configuration, outcome = record.configuration or {}, record.outcome or {}
    of_outcome: Mapping[str, Any] = outcome.get("stages", {})
    reasons: list[str] = []
    stage_s = _observed_s(record.stages, reasons) if record.stages else dict.fromkeys(of_outcome, 0.0)
    told = [stage for stage, taken_s in stage_s.items() if stage in of_outcome and not math.isnan(taken_s)]
    stage_s |= {stage: float(of_outcome[stage]["measured_s"]) for stage in told}
    measured_s = outcome.get("measured_s")
    return FinishedRun(
        record.recommendation_id,
        record.created_at.timestamp(),
        int(configuration["nodes"]),
        dict(configuration["tiers"]),
        stage_s,
        {stage: _copies_s(found) for stage, found in of_outcome.items()},
        None if measured_s is None else float(measured_s),
        tuple(reasons),
        _moved_bytes(record.stages),
        *_load(record.stages),
        dag_versions=tuple(sorted({version for stage in record.stages for version in stage.dag_versions})),
        images=tuple(sorted({image for stage in record.stages for image in stage.images})),
    )


def _load(stages: tuple[StageRun, ...]) -> tuple[float | None, str | None]:
    """Return how busy it was on the mean of all stages, and in which unit, where they have one."""
    loads = [stage.load for stage in stages if stage.load is not None]
    units = {stage.load_source for stage in stages if stage.load is not None}
    return (math.fsum(loads) / len(loads), units.pop()) if len(units) == 1 else (None, None)


def _moved_bytes(stages: tuple[StageRun, ...]) -> float | None:
    """Return what all tasks read and wrote, ``None`` where it is not known of every stage."""
    moved = [(stage.read_bytes, stage.write_bytes) for stage in stages if not stage.others]
    known = [read + write for read, write in moved if read is not None and write is not None]
    return float(sum(known)) if known and len(known) == len(stages) else None


def _observed_s(stages: tuple[StageRun, ...], reasons: list[str]) -> dict[str, float]:
    """Return the wall clock of each stage all of whose tasks teach; NaN where its clock cannot be right."""
    found: dict[str, float] = {}
    for stage in stages:
        if stage.others:
            reasons.append(f"{stage.stage} had tasks that failed, were tried again, or were set by somebody")
        elif stage.skewed:
            reasons.append(f"{stage.stage} has tasks that end before they begin")
            found[stage.stage] = math.nan
        elif stage.tasks < stage.count or stage.start_s is None or stage.end_s is None:
            reasons.append(
                f"{stage.stage} is known of {min(stage.tasks, stage.count)} of {stage.count} tasks"
            )
        else:
            found[stage.stage] = stage.end_s - stage.start_s
    return found


def _copies_s(found: Mapping[str, Any]) -> tuple[float, float]:
    measured = found.get("measured", {})
    before_s, after_s = measured.get("stage_in_s"), measured.get("stage_out_s")
    return float(before_s or 0.0), float(after_s or 0.0)
