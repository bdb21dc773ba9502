"""How the recommendations of a workflow fared: what was predicted beside what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qosflow_airflow.answers import load_model
from qosflow_airflow.learned import lesson_for
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.finished_runs import RunRecord


def track_record(store: Store, workflow: str, limit: int = 200) -> dict[str, Any]:
    """Return, as plain JSON, how the newest ``limit`` recommendations fared, and what they teach.

    An error is predicted over observed, minus 1; ``median_error`` and ``p90_error`` are of its size. They are
    ``None`` where no run was compared.
    """
    loaded = load_model(store, workflow)
    records = store.runs(workflow, limit=limit, with_unfinished=True)
    compared = [_compared(record) for record in records if _is_compared(record)]
    met = [run["met_deadline"] for run in compared]
    return {
        "workflow": workflow,
        "model": {"version": loaded.version.version, "model_id": loaded.version.model_id},
        "recommendations": {
            "made": len(records),
            "infeasible": sum(record.status == "infeasible" for record in records),
        },
        "runs": len(compared),
        "not_compared": sum(record.is_told and not _is_compared(record) for record in records),
        "deadlines": {"met": met.count(True), "missed": met.count(False)},
        "error": _errors(compared),
        "compared": compared,
        "calibration": lesson_for(PastRuns(store), loaded.version, loaded.model).to_json(),
    }


def _is_compared(record: RunRecord) -> bool:
    numbers = (_predicted_s(record), (record.outcome or {}).get("measured_s"))
    return all(isinstance(number, int | float) and number > 0 for number in numbers)


def _predicted_s(record: RunRecord) -> Any:
    return (record.outcome or {}).get("predicted_s", record.predicted_s)


def _compared(record: RunRecord) -> dict[str, Any]:
    outcome = record.outcome or {}
    return {
        "recommendation_id": record.recommendation_id,
        "model_id": record.model_id,
        "when": record.created_at.isoformat(),
        "configuration": record.configuration,
        "predicted_s": float(_predicted_s(record) or 0.0),
        "observed_s": float(outcome["measured_s"]),
        "deadline_s": record.deadline_s,
        "met_deadline": outcome.get("met_deadline"),
        "dag_id": record.dag_id,
        "run_id": record.run_id,
    }


def _errors(compared: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    if not compared:
        return dict.fromkeys(("median_error", "p90_error", "bias"))
    errors = np.array([run["predicted_s"] / run["observed_s"] - 1 for run in compared])
    return {
        "median_error": float(np.median(np.abs(errors))),
        "p90_error": float(np.quantile(np.abs(errors), 0.9)),
        "bias": float(np.median(errors)),
    }
