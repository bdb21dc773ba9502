"""What a task instance did for a recommended run: its stage as predicted, and itself as observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qosflow_airflow.core.timeline import answered_seconds
from qosflow_airflow.store.base import RecommendationRecord, Store
from qosflow_airflow.store.finished_runs import Observation, RunRecord, StageRun
from qosflow_airflow.web.access import check_name
from qosflow_airflow.web.insights import NOTHING, PARTS, configured, seconds
from qosflow_airflow.web.plans import plans_of
from qosflow_airflow.web.recommendation_page import MAX_PLANS
from qosflow_airflow.web.what_happened import off_by

MAX_TRIES = 200
"""So many tries of a task are listed."""


@dataclass(frozen=True)
class TryLine:
    """One try of one instance of a task, as it ended."""

    map_index: str
    number: str
    state: str
    tasks: str
    took: str
    waited: str
    read: str
    written: str
    tier: str
    host: str
    load: str


@dataclass(frozen=True)
class TaskView:
    """A task instance beside its stage's prediction.

    ``parts`` are the predicted seconds of the stage by :data:`~qosflow_airflow.web.insights.PARTS`. A task
    that only recommended has no ``stage``; one that is no part of a recommended run has no
    ``recommendation_id`` either.
    """

    recommendation_id: str
    workflow: str
    stage: str
    tier: str
    parts: tuple[str, ...]
    predicted: str
    observed: str
    off_by: str
    tries: tuple[TryLine, ...]
    left_out: int
    words: str


NO_TASK = TaskView("", "", "", "", (), "", "", "", (), 0, "")


def task_view(store: Store, dag_id: str, run_id: str, task_id: str, map_index: int | None) -> TaskView:
    """Return what is known of a task instance; of all instances of a mapped task without ``map_index``.

    Raises
    ------
    NotFoundError
        When a name cannot be one of Airflow's.
    """
    for name, what in ((dag_id, "Dag"), (run_id, "Dag run"), (task_id, "task")):
        check_name(name, what, 1000)
    runs = store.runs(limit=MAX_PLANS, dag_id=dag_id, run_id=run_id, with_unfinished=True)
    if not runs:
        return NO_TASK
    told = store.task_observations(dag_id, run_id, task_id)
    own = [one for one in told if map_index is None or one.map_index == map_index]
    if told:
        followed = (own or told)[-1]
        stage, recommendation_id = followed.stage, followed.recommendation_id
    elif (named := _named(task_id, runs)) is not None:
        stage, recommendation_id = named
    else:
        asked = next((run for run in runs if run.task_id == task_id), None)
        return NO_TASK if asked is None else _asking(asked)
    record = store.recommendation(recommendation_id)
    return _of_stage(record, stage, own, _stage_run(runs, recommendation_id, stage))


def _named(task_id: str, runs: Sequence[RunRecord]) -> tuple[str, str] | None:
    """Return the stage that a task is for by its name, as ``stage_group`` gives them, and the newest plan."""
    parts = task_id.split(".")[::-1]
    for run in runs:
        known = (run.configuration or {}).get("tiers") or {}
        stage = next((part for part in parts if part in known), None)
        if stage is not None:
            return stage, run.recommendation_id
    return None


def _asking(run: RunRecord) -> TaskView:
    words = "This task made the recommendation."
    if run.replans is not None:
        words = "This task planned the run again."
    return TaskView(run.recommendation_id, run.workflow, "", "", (), "", "", "", (), 0, words)


def _stage_run(runs: Sequence[RunRecord], recommendation_id: str, stage: str) -> StageRun | None:
    """Return what all tasks of a stage told, by the plan that they followed."""
    of_run = [run for run in plans_of(recommendation_id, runs) if run.recommendation_id == recommendation_id]
    return next((one for run in of_run for one in run.stages if one.stage == stage), None)


def _of_stage(
    record: RecommendationRecord, stage: str, own: Sequence[Observation], together: StageRun | None
) -> TaskView:
    found = configured(record)
    parts = (found.get("stage_s") or {}).get(stage) or {}
    known = answered_seconds({stage: parts}).get(stage)
    took_s = None
    if together is not None and together.first_s is not None and together.last_s is not None:
        took_s = together.last_s - together.first_s
    planned = (found.get("configuration") or {}).get("tiers") or {}
    return TaskView(
        recommendation_id=record.recommendation_id,
        workflow=record.workflow,
        stage=stage,
        tier=str(planned.get(stage, "")),
        parts=tuple(seconds(parts.get(name)) for name in PARTS),
        predicted=seconds(known.work_s if known else None),
        observed=seconds(took_s),
        off_by=off_by(known.work_s if known else None, took_s),
        tries=tuple(map(_try, own[:MAX_TRIES])),
        left_out=max(0, len(own) - MAX_TRIES),
        words=_words(own, together),
    )


def _try(one: Observation) -> TryLine:
    span = one.span_s
    return TryLine(
        map_index="" if one.map_index < 0 else str(one.map_index),
        number=str(one.try_number),
        state=one.state if one.source == "task" else f"{one.state}, set by somebody",
        tasks=f"{one.tasks} of {one.count}",
        took=seconds(None if span is None else span[1] - span[0]),
        waited=seconds(one.queue_s),
        read=mebibytes(one.read_bytes),
        written=mebibytes(one.write_bytes),
        tier=one.tier or "",
        host=one.host or "",
        load=NOTHING if one.load is None else f"{one.load:.0%} ({one.load_source})",
    )


def mebibytes(amount: int | None) -> str:
    """Return bytes as they are shown.

    >>> mebibytes(3 << 20), mebibytes(None)
    ('3.0 MiB', '–')
    """
    return NOTHING if amount is None else f"{amount / (1 << 20):,.1f} MiB"


def _words(own: Sequence[Observation], together: StageRun | None) -> str:
    if not own:
        return "It has told nothing yet; a task tells what it did when it ends."
    if together is not None and together.tasks < together.count:
        return f"So far {together.tasks} of the stage's {together.count} tasks succeeded at the first try."
    return ""
