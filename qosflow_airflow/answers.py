"""Answers from the newest model: what the operator and the command line ask for.

Nothing here needs more than numpy: asking must not cost a task a second of imports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.replan import model_of_the_rest
from qosflow_airflow.store.base import ModelVersion, RecommendationRecord, Store


class LoadedModel(NamedTuple):
    """A model version with what it holds."""

    version: ModelVersion
    model: Model


def load_model(store: Store, workflow: str) -> LoadedModel:
    """Return the newest model of a workflow."""
    return _load(store, store.newest_model(workflow))


def load_model_version(store: Store, model_id: str) -> LoadedModel:
    """Return one model version."""
    return _load(store, store.model(model_id))


def answer_request(
    store: Store,
    workflow: str,
    request: QoSRequest,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    try_number: int | None = None,
) -> tuple[RecommendationRecord, Recommendation | Infeasible, LoadedModel]:
    """Answer a request by the newest model, and keep the answer."""
    loaded = load_model(store, workflow)
    answer = recommend(loaded.model, request)
    record = RecommendationRecord(
        model_id=loaded.version.model_id,
        workflow=workflow,
        request=request.to_json(),
        answer=dict(answer.answer),
        status="feasible" if isinstance(answer, Recommendation) else "infeasible",
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        try_number=try_number,
    )
    return store.add_recommendation(record), answer, loaded


def answer_again(
    store: Store,
    first: RecommendationRecord,
    nodes: int,
    begun: Mapping[str, str],
    failed: Mapping[str, str],
    **task: Any,
) -> tuple[RecommendationRecord, Recommendation | Infeasible, LoadedModel]:
    """Answer the request of a run once more, by the same model, for what has not begun; keep the answer.

    ``nodes`` is how many the run has. ``begun`` is the tier of each stage that keeps it, ``failed`` why each
    tier cannot be used any more. ``task`` says who asks: ``dag_id``, ``run_id``, ``task_id`` and
    ``try_number``. The answer's ``replans`` names the recommendation that it takes the place of.
    """
    loaded = load_model_version(store, first.model_id)
    rest = model_of_the_rest(loaded.model, nodes, begun, failed)
    answer = recommend(rest, QoSRequest.parse(first.request))
    lost = ", ".join(f"{tier} ({reason})" for tier, reason in failed.items())
    kept = ", ".join(f"{stage} on {tier}" for stage, tier in begun.items()) or "nothing"
    why = f"Planned again without {lost}; {kept} has begun and stays."
    # Nothing was left unmeasured: what is not known here must not be chosen.
    closed = answer.answer.get("binding") == ["measurements"]
    found = "No other tier can take its place." if closed else answer.answer["explanation"]
    record = RecommendationRecord(
        model_id=first.model_id,
        workflow=first.workflow,
        request=first.request,
        answer={
            **answer.answer,
            "explanation": f"{why} {found}",
            "replans": {
                "recommendation_id": first.recommendation_id,
                "begun": dict(begun),
                "failed": dict(failed),
            },
        },
        status="feasible" if isinstance(answer, Recommendation) else "infeasible",
        **task,
    )
    return store.add_recommendation(record), answer, loaded


def _load(store: Store, version: ModelVersion) -> LoadedModel:
    model, found = (json.loads(store.model_part(version.model_id, kind)) for kind in ("model", "regions"))
    return LoadedModel(version, Model.from_json(model, found))
