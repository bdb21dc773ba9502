"""What the store tells of a workflow in a list: its newest model, and how its newest runs fared."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.store.base import JsonObject, ModelVersion, RegisteredWorkflow
from qosflow_airflow.store.finished_runs import RunRecord


@frozen
class RunLine:
    """A run that followed a recommendation, as one line; ``None`` is what is not known or not asked."""

    recommendation_id: str
    model_id: str
    created_at: datetime
    dag_id: str | None
    deadline_s: float | None
    predicted_s: float | None
    measured_s: float | None
    met_deadline: bool | None


@frozen
class WorkflowSummary:
    """A workflow with its newest model, if any, and its newest runs, newest first.

    ``calibration`` is what runs had taught when the newest model answered last, ``None`` before it did.
    """

    workflow: RegisteredWorkflow
    newest_model: ModelVersion | None
    calibration: JsonObject | None
    runs: tuple[RunLine, ...]


def run_line(record: RunRecord) -> RunLine:
    """Return a run as one line; what its outcome says of the prediction comes before what was answered."""
    outcome = record.outcome or {}
    predicted_s, met = _number(outcome.get("predicted_s")), outcome.get("met_deadline")
    return RunLine(
        recommendation_id=record.recommendation_id,
        model_id=record.model_id,
        created_at=record.created_at,
        dag_id=record.dag_id,
        deadline_s=record.deadline_s,
        predicted_s=record.predicted_s if predicted_s is None else predicted_s,
        measured_s=_number(outcome.get("measured_s")),
        met_deadline=met if isinstance(met, bool) else None,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
