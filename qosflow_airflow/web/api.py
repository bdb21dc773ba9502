"""The JSON API: what the pages show, for programs; ``docs/api.md`` describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from qosflow_airflow.core.figure_data import signature
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.rules import sentence
from qosflow_airflow.store.base import MAX_ROWS, ModelVersion, RecommendationRecord, ReportCard, Store
from qosflow_airflow.store.summaries import RunLine, WorkflowSummary
from qosflow_airflow.web.access import DagReader, check_name, check_readable, readable
from qosflow_airflow.web.answer_types import AnswerOut
from qosflow_airflow.web.api_types import (
    Drift,
    FiguresOut,
    ModelOut,
    Models,
    ModelVersionOut,
    Question,
    RecommendationLineOut,
    RecommendationOut,
    Recommendations,
    Refusal,
    RegionOut,
    RunOut,
    Runs,
    ScaleOut,
    WorkflowOut,
    Workflows,
)
from qosflow_airflow.web.citations import readable_record, readable_runs
from qosflow_airflow.web.known_models import KnownModel, KnownModels

PREFIX = "/api/v1"
RUNS = 200
"""How many of its newest runs are counted for a workflow."""
RECENT = 20
"""How many of these are told one by one."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 403, 404, 422, 503)
}
# Described and not validated: what an answer says must never be lost to its description.
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": AnswerOut}}

Limit = Annotated[int, Query(ge=1, le=MAX_ROWS)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]


def build_api(
    open_store: Callable[[], Store], reader_of: Callable[..., DagReader], known: KnownModels
) -> APIRouter:
    """Return the routes, which read from a store and give what ``reader_of``, a dependency, lets them."""
    router = APIRouter(
        prefix=PREFIX, responses=REFUSALS, generate_unique_id_function=lambda route: route.name
    )
    reader_dependency = Depends(reader_of)

    @router.get("/workflows")
    def workflows(reader: DagReader = reader_dependency) -> Workflows:
        """Workflows by name, each with its newest model and the deadlines of its runs."""
        with open_store() as store:
            return Workflows(workflows=list_workflows(store, reader))

    @router.get("/workflows/{name:path}/models")
    def models(name: str, limit: Limit = 50) -> Models:
        """The model versions of a workflow, newest first."""
        with open_store() as store:
            check_name(name, "workflow")
            store.workflow(name)
            return Models(models=[model_version(one) for one in store.models(name, limit)])

    @router.post("/workflows/{name:path}/ask", response_model=None, responses=ANSWERS)
    def ask_workflow(name: str, question: Question) -> dict[str, Any]:
        """What the newest model of a workflow answers; nothing is kept."""
        request = QoSRequest.parse(question.model_dump())
        with open_store() as store:
            newest = store.newest_model(check_name(name, "workflow"))
            return known.get(store, newest.model_id).answer(store, request)

    @router.get("/models/{model_id}")
    def model(model_id: str) -> ModelOut:
        """What is in a model."""
        with open_store() as store:
            found = known.get(store, model_id)
            cards = store.report_cards(model_id, limit=1)
            return model_out(found, cards[0] if cards else None)

    @router.get("/models/{model_id}/figures")
    def figures(model_id: str, nodes: int, region: int = 0) -> FiguresOut:
        """The numbers of a model's figures at a node count."""
        with open_store() as store:
            return figures_out(known.get(store, model_id), nodes, region)

    @router.post("/models/{model_id}/ask", response_model=None, responses=ANSWERS)
    def ask_model(model_id: str, question: Question) -> dict[str, Any]:
        """What a model answers; nothing is kept."""
        request = QoSRequest.parse(question.model_dump())
        with open_store() as store:
            return known.get(store, model_id).answer(store, request)

    @router.get("/recommendations")
    def recommendations(
        workflow: str | None = None,
        limit: Limit = 50,
        offset: Offset = 0,
        reader: DagReader = reader_dependency,
    ) -> Recommendations:
        """Recommendations, newest first, without those that the user may not see."""
        if workflow is not None:
            check_name(workflow, "workflow")
        with open_store() as store:
            records = store.recommendations(workflow, limit, offset)
        lines = [RecommendationLineOut(**_line(record)) for record in readable(reader, records)]
        following = offset + limit if len(records) == limit else None
        return Recommendations(recommendations=lines, next_offset=following)

    @router.get("/recommendations/{recommendation_id}")
    def recommendation(recommendation_id: str, reader: DagReader = reader_dependency) -> RecommendationOut:
        """A recommendation with what was asked, answered and measured."""
        with open_store() as store:
            record = store.recommendation(recommendation_id)
            check_readable(reader, record)
            record = readable_record(record, readable_runs(store, reader, record.answer))
            outcomes = store.outcomes(recommendation_id)
        measured = [{**one.outcome, "created_at": one.created_at.isoformat()} for one in outcomes]
        return RecommendationOut(
            **_line(record), request=record.request, answer=record.answer, outcomes=measured
        )

    return router


def list_workflows(store: Store, reader: DagReader) -> list[WorkflowOut]:
    """Return the workflows by name, with their newest models and how their runs fared."""
    found = store.summaries(RUNS)
    seen = {line.recommendation_id for line in readable(reader, [run for one in found for run in one.runs])}
    return [_workflow(one, [run for run in one.runs if run.recommendation_id in seen]) for one in found]


def _workflow(found: WorkflowSummary, runs: Sequence[RunLine]) -> WorkflowOut:
    taught = found.calibration or {}
    drift = taught.get("drift") or {"state": "unknown", "words": "no run has been compared yet"}
    met = [run.met_deadline for run in runs]
    names = RunOut.model_fields
    return WorkflowOut(
        name=found.workflow.name,
        description=found.workflow.description,
        newest_model=None if found.newest_model is None else model_version(found.newest_model),
        corrected_by=taught.get("runs", 0),
        drift=Drift(state=drift["state"], words=drift["words"]),
        runs=Runs(met=met.count(True), missed=met.count(False), other=met.count(None)),
        recent=[RunOut(**{name: getattr(run, name) for name in names}) for run in runs[:RECENT]],
    )


def model_version(version: ModelVersion) -> ModelVersionOut:
    """Return a model version as the API gives it."""
    names = ModelVersionOut.model_fields
    return ModelVersionOut(**{name: getattr(version, name) for name in names})


def model_out(known: KnownModel, card: ReportCard | None) -> ModelOut:
    """Return a model as the API gives it."""
    model, found = known.model, known.figures()
    return ModelOut(
        model=model_version(known.version),
        stages=list(model.workflow.stage_names),
        tiers=list(model.catalog.names),
        rules=model.rules.name,
        scales=[scale_out(known, nodes, scale) for nodes, scale in found["scales"].items()],
        bottleneck_shift=model.regions_to_json()["bottleneck_shift"],
        report_card=None if card is None else card.report,
        report_card_at=None if card is None else card.created_at,
    )


def scale_out(known: KnownModel, nodes: int, found: dict[str, Any]) -> ScaleOut:
    """Return one node count of a model as the API gives it."""
    scale = known.model.scale(nodes)
    regions = [] if scale.regions is None else scale.regions.regions
    return ScaleOut(
        nodes=nodes,
        states=found["states"],
        evaluation=found["evaluation"],
        quality=dict(scale.quality),
        regions=[
            RegionOut(
                id=one.id,
                size=one.size,
                min_s=one.min_s,
                median_s=one.median_s,
                max_s=one.max_s,
                rule=sentence(one, known.model.catalog, known.model.workflow),
                bottleneck=one.bottleneck.to_json(),
            )
            for one in regions
        ],
    )


def figures_out(known: KnownModel, nodes: int, region: int) -> FiguresOut:
    """Return the numbers of the figures of one node count."""
    scale = known.model.scale(nodes)
    figures = known.figures()
    found = figures["scales"][nodes]
    return FiguresOut(
        nodes=nodes,
        regions=found["regions"],
        costs=found["costs"],
        signature=None if scale.regions is None else signature(known.model, nodes, region),
        totals=figures["totals"],
        shift=figures["shift"],
    )


def _line(record: RecommendationRecord) -> dict[str, Any]:
    names = RecommendationLineOut.model_fields
    return {name: getattr(record, name) for name in names}
