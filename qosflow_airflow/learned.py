"""From what the store holds of finished runs to what they teach.

Nothing here needs more than numpy: a task that recommends must not import for seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.learn.calibration import WINDOW_RUNS
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.lessons import Lesson
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.store.base import ModelVersion

if TYPE_CHECKING:
    from qosflow_airflow.learn.finished_run import FinishedRun
    from qosflow_airflow.store.finished_runs import RunRecord

MAX_OTHERS, OTHER_RUNS = 10, 20
"""So many other workflows are looked at, by name, and so many of the newest runs of each."""


def lesson_for(
    past: PastRuns,
    version: ModelVersion,
    model: Model,
    layers: Layers = Layers(),  # noqa: B008  # immutable
) -> Lesson:
    """Return what the newest runs of a model's workflow teach about it.

    While they are too few to tell how far foretold makespans are off, runs of other workflows tell it.
    """
    lesson = Lesson()
    if records := past.runs(model.workflow.name, WINDOW_RUNS):
        # Imported here, as below: where nothing has run, an answer does without.
        from qosflow_airflow.learn.teaching import learn

        lesson = learn(model, _beside(model, records), version.created_at.timestamp(), layers)
    if not layers.intervals or lesson.errors.suffice:
        return lesson
    others = _errors_of_others(past, model, lesson.calibration.runs)
    return lesson._replace(errors=lesson.errors.with_others(others))


def _errors_of_others(past: PastRuns, model: Model, taught: int) -> Iterator[tuple[bool, tuple[float, ...]]]:
    """Yield, per other workflow, whether its stages are the same, and how far its runs were off.

    They count as they were foretold when ``taught`` runs had taught.
    """
    names = [name for name in past.workflows if name != model.workflow.name]
    for name in names[:MAX_OTHERS]:
        records = past.runs(name, taught + OTHER_RUNS)
        other = past.model(name) if len(records) > taught else None
        if other is not None:
            from qosflow_airflow.learn.run_errors import early_errors
            from qosflow_airflow.learn.teaching import whole_runs

            whole = whole_runs(other, _beside(other, records))
            errors = early_errors([timed.run for timed in whole], taught)
            yield _stages(other.workflow) == _stages(model.workflow), errors


def _stages(workflow: Workflow) -> dict[str, frozenset[str]]:
    """Return the stages of a workflow, each with those that it reads from."""
    return {stage.name: frozenset(stage.stage_predecessors) for stage in workflow.stages}


def _beside(model: Model, records: Sequence[RunRecord]) -> list[FinishedRun]:
    """Return runs of a model's workflow, oldest first, as they can be held against it."""
    from qosflow_airflow.run_records import run_beside

    told = [record for record in reversed(records) if record.configuration is not None]
    return [run_beside(record, model) for record in told]
