"""Answers from the newest model: what the operator and the command line ask for.

Nothing here needs more than numpy: asking must not cost a task a second of imports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.lessons import Lesson, recommend_with
from qosflow_airflow.learned import lesson_for
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.similar_runs import citing, known_runs, with_cases
from qosflow_airflow.store.base import ModelVersion, RecommendationRecord, Store

if TYPE_CHECKING:
    from qosflow_airflow.learn.chunk_request import ChunkRequest
    from qosflow_airflow.learn.division import Division
    from qosflow_airflow.store.load import Load


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


def answer_with_lesson(
    store: Store,
    workflow: str,
    request: QoSRequest,
    layers: Layers = Layers(),  # noqa: B008  # immutable
    load: Load | None = None,
    chunks: ChunkRequest | None = None,
) -> tuple[Recommendation | Infeasible, LoadedModel]:
    """Answer a request by the newest model and what finished runs teach about it; keep nothing.

    Runs that are similar to what is recommended are cited as ``cases`` of the answer, where there are any;
    ``load``, where it is known, is compared too. ``chunks`` names the stages that may be done in another
    number of tasks than their workflow's: these numbers are chosen, and the answer holds for them.
    """
    division = None
    with store.reading():
        loaded = load_model(store, workflow)
        past = PastRuns(store, loaded.model)
        lesson = lesson_for(past, loaded.version, loaded.model, layers)
        if chunks is not None and chunks.limits and layers.parallelism:
            from qosflow_airflow.stage_timings import RUNS, division_for

            division = division_for(store, loaded.model, past.runs(workflow, RUNS), request, chunks)
        load_source = None if load is None else load.source
        known = known_runs(past, workflow, load_source=load_source) if layers.cases else None
    answer = _answered(loaded.model, request, lesson, division)
    if known is None:
        return answer, loaded
    cases = citing(known, loaded.model, answer.answer, lesson.calibration.runs, load)
    return answer._replace(answer=with_cases(answer.answer, cases)), loaded


def answer_request(
    store: Store,
    workflow: str,
    request: QoSRequest,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    try_number: int | None = None,
    chunks: ChunkRequest | None = None,
    layers: Layers = Layers(),  # noqa: B008  # immutable
    load: Load | None = None,
) -> tuple[RecommendationRecord, Recommendation | Infeasible, LoadedModel]:
    """Answer a request by the newest model and what finished runs teach about it, and keep the answer.

    ``chunks``, ``layers`` and ``load`` are those of :func:`answer_with_lesson`.
    """
    # As it will be read again: 20 s and 20.0 s are the same, and not the same text.
    request = QoSRequest.parse(request.to_json())
    answer, loaded = answer_with_lesson(store, workflow, request, layers, load, chunks)
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


def _answered(
    model: Model, request: QoSRequest, lesson: Lesson, division: Division | None
) -> Recommendation | Infeasible:
    if division is None:
        return recommend_with(model, request, lesson)
    from qosflow_airflow.learn.division import recommend_divided

    return recommend_divided(model, request, lesson, division)


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
    answer = _of_the_rest(loaded.model, first, nodes, begun, failed)
    record = RecommendationRecord(
        model_id=first.model_id,
        workflow=first.workflow,
        request=first.request,
        answer=dict(answer.answer),
        status="feasible" if isinstance(answer, Recommendation) else "infeasible",
        **task,
    )
    return store.add_recommendation(record), answer, loaded


def _of_the_rest(
    model: Model, first: RecommendationRecord, nodes: int, begun: Mapping[str, str], failed: Mapping[str, str]
) -> Recommendation | Infeasible:
    """Return the answer to the request of ``first`` for what has not begun, with what it was taught."""
    # Imported here: only a run that has lost a tier is planned again.
    from qosflow_airflow.core.replan import model_of_the_rest

    rest = model_of_the_rest(model, nodes, begun, failed)
    answer = _in_numbers_of(first, rest)
    lost = ", ".join(f"{tier} ({reason})" for tier, reason in failed.items())
    kept = ", ".join(f"{stage} on {tier}" for stage, tier in begun.items()) or "nothing"
    why = f"Planned again without {lost}; {kept} has begun and stays."
    # Nothing was left unmeasured: what is not known here must not be chosen.
    closed = bool(answer.answer.get("missing")) or answer.answer.get("binding") == ["measurements"]
    asked = ", ".join(name for name in answer.answer.get("binding", ()) if name != "measurements")
    found = f"No other tier can take its place{f' with the {asked} asked for' if asked else ''}."
    found = found if closed else answer.answer["explanation"]
    planned = {
        "recommendation_id": first.recommendation_id,
        "begun": dict(begun),
        "failed": dict(failed),
    }
    said = {**answer.answer, "explanation": f"{why} {found}", "replans": planned}
    return answer._replace(answer={**said, "missing": []} if "missing" in said else said)


def _in_numbers_of(first: RecommendationRecord, rest: Model) -> Recommendation | Infeasible:
    """Return the answer of a model to the request of ``first``, in the numbers of tasks that it chose."""
    request, lesson, division = (
        QoSRequest.parse(first.request),
        Lesson.of(first.answer),
        _division_of(first.answer),
    )
    if division is None:
        return recommend_with(rest, request, lesson)
    from qosflow_airflow.learn.division import recommend_in_numbers
    from qosflow_airflow.learn.stage_chunks import StageChunks

    chosen = {stage: StageChunks.from_json(one) for stage, one in first.answer["chunks"].items()}
    return recommend_in_numbers(rest, request, lesson, division, chosen)


def replay(store: Store, recommendation_id: str) -> tuple[RecommendationRecord, Mapping[str, Any]]:
    """Return a kept recommendation, and the answer that its model and what it was taught give to it now."""
    record = store.recommendation(recommendation_id)
    return record, _chunked_again(record, _replayed(store, record))


def _chunked_again(record: RecommendationRecord, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer with the numbers of tasks chosen again from what they were chosen from."""
    if "chunks" not in record.answer or "chunks" in answer:
        return answer
    # Kept before answers were given in these numbers.
    from qosflow_airflow.learn.stage_chunks import StageChunks

    kept = record.answer["chunks"].items()
    return {**answer, "chunks": {stage: StageChunks.from_json(one).again().to_json() for stage, one in kept}}


def _division_of(answer: Mapping[str, Any]) -> Division | None:
    """Return what the numbers of tasks of an answer were chosen by, ``None`` where none were."""
    if "division" not in answer:
        return None
    from qosflow_airflow.learn.division import Division

    return Division.from_json(answer["division"])


def _replayed(store: Store, record: RecommendationRecord) -> Mapping[str, Any]:
    model, request = load_model_version(store, record.model_id).model, QoSRequest.parse(record.request)
    replans = record.answer.get("replans")
    if replans is None:
        if "calibration" in record.answer:
            lesson, division = Lesson.of(record.answer), _division_of(record.answer)
            taught = _answered(model, request, lesson, division).answer
            return with_cases(taught, record.answer.get("cases"))
        return recommend(model, request).answer
    first = store.recommendation(replans["recommendation_id"])
    ran = first.answer if first.status == "feasible" else first.answer["nearest"]
    nodes = ran["configuration"]["nodes"]
    return _of_the_rest(model, first, nodes, replans["begun"], replans["failed"]).answer


def _load(store: Store, version: ModelVersion) -> LoadedModel:
    model, found = (json.loads(store.model_part(version.model_id, kind)) for kind in ("model", "regions"))
    return LoadedModel(version, Model.from_json(model, found))
