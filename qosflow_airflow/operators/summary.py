"""What is worth passing on of a recommendation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from qosflow_airflow.store.base import RecommendationRecord

Status = Literal["feasible", "nearest", "infeasible", "skipped"]
"""How a request was answered; ``skipped`` is an infeasible one whose run was to be skipped."""


def described(record: RecommendationRecord) -> dict[str, Any]:
    """Return what an answer says of its configuration: the best one, or the nearest; empty without either."""
    return record.answer if record.status == "feasible" else record.answer["nearest"] or {}


def foretold_tasks(record: RecommendationRecord) -> dict[str, int]:
    """Return the numbers of tasks that were chosen and for which the answer's times hold, per stage."""
    chunks = record.answer.get("chunks") or {}
    return {stage: one["chunks"] for stage, one in chunks.items() if one.get("foretold")}


def summarise(record: RecommendationRecord, status: Status) -> dict[str, Any]:
    """Return what is worth passing on of a recommendation, as plain JSON."""
    found = described(record)
    return {
        "status": status,
        "recommendation_id": record.recommendation_id,
        "model_id": record.model_id,
        "workflow": record.workflow,
        "configuration": found.get("configuration"),
        "makespan_s": found.get("makespan_s"),
        "run_s": found.get("run_s"),
        "explanation": record.answer["explanation"],
        "learned": record.answer.get("calibration", {}).get("words", []),
        "critical_stages": found.get("critical_stages", []),
        "flexible_stages": found.get("flexible_stages", []),
        "region": found.get("region"),
        "binding": record.answer.get("binding", []),
    }
