"""Everything that the page of a recommendation shows, from a fixed number of statements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from qosflow_airflow.core.makespan_rules import rules_named
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.learn.stage_chunks import StageChunks
from qosflow_airflow.store.base import ModelVersion, RecommendationRecord, Store
from qosflow_airflow.store.finished_runs import RunRecord, stage_runs
from qosflow_airflow.web.access import DagReader, check_readable
from qosflow_airflow.web.citations import (
    LearnedView,
    SimilarView,
    learned_view,
    readable_record,
    readable_runs,
    similar_view,
)
from qosflow_airflow.web.insights import RecommendationView, configured, recommendation_view
from qosflow_airflow.web.plans import PlansView, plans_of, plans_view
from qosflow_airflow.web.what_happened import HappenedView, Told, happened_view, told_of
from qosflow_airflow.web.what_if import facts, form_query

MAX_PLANS = 200
"""So many of the newest recommendations of a Dag run are looked at."""


@dataclass(frozen=True)
class RecommendationPage:
    """What the page of a recommendation shows.

    ``what_if`` is the query that asks the same of its model again, empty where that cannot be asked any more;
    ``newer`` is a model version that has been published since, if any.
    """

    answer: RecommendationView
    facts: tuple[tuple[str, str], ...]
    happened: HappenedView
    plans: PlansView | None
    similar: SimilarView | None
    learned: LearnedView | None
    chunks: tuple[str, ...]
    what_if: str
    newer: ModelVersion | None


def outline(store: Store, model_id: str) -> Model:
    """Return a model without its times: its workflow, its tiers and its rules, however old its format is."""
    held = json.loads(store.model_part(model_id, "model"))
    workflow, catalog = Workflow.from_json(held["workflow"]), TierCatalog.from_json(held["tiers"])
    return Model(workflow, catalog, rules_named(held["rules"]), ())


def recommendation_page(store: Store, reader: DagReader, recommendation_id: str) -> RecommendationPage:
    """Return what is shown of a recommendation.

    Raises
    ------
    ForbiddenError
        When the user may not read its Dag.
    NotFoundError
        When there is no such recommendation.
    """
    kept = store.recommendation(recommendation_id)
    check_readable(reader, kept)
    readable = readable_runs(store, reader, kept.answer)
    record = readable_record(kept, readable)
    version, model = store.model(record.model_id), outline(store, record.model_id)
    outcomes = store.outcomes(record.recommendation_id)
    told = _told(store, record, outcomes[0].outcome if outcomes else None)
    newest = store.newest_model(record.workflow)
    workflow = model.workflow
    return RecommendationPage(
        answer=recommendation_view(record, version, in_tasks(workflow, record), outcomes),
        facts=tuple(facts(record.answer, configured(record))),
        happened=happened_view(told, workflow, level_barrier=model.rules.level_barrier),
        plans=plans_view(record, told.plans, workflow),
        similar=similar_view(record.answer),
        learned=learned_view(record.answer, readable),
        chunks=tuple(_chunks(record)),
        what_if=_what_if(record, model),
        newer=None if newest.model_id == version.model_id else newest,
    )


def in_tasks(workflow: Workflow, record: RecommendationRecord) -> Workflow:
    """Return the workflow in the numbers of tasks that were chosen for it."""
    chunks = record.answer.get("chunks") or {}
    return workflow.with_tasks({stage: one["chunks"] for stage, one in chunks.items()})


def _told(store: Store, record: RecommendationRecord, outcome: dict[str, object] | None) -> Told:
    runs = _runs(store, record)
    if len(runs) < 2:
        return told_of([record], runs, outcome)
    of_run = store.recommendations(limit=MAX_PLANS, dag_id=record.dag_id, run_id=record.run_id)
    records = {one.recommendation_id: one for one in of_run}
    plans = [records[run.recommendation_id] for run in runs if run.recommendation_id in records]
    return told_of(plans, runs, outcome)


def _runs(store: Store, record: RecommendationRecord) -> Sequence[RunRecord]:
    """Return what is known of the run that a recommendation belongs to, by its plans, oldest first."""
    if record.dag_id is not None and record.run_id is not None:
        of_run = store.runs(limit=MAX_PLANS, dag_id=record.dag_id, run_id=record.run_id, with_unfinished=True)
        plans = plans_of(record.recommendation_id, of_run)
        if any(run.recommendation_id == record.recommendation_id for run in plans):
            return plans
    # Tasks may follow a recommendation that no task asked for.
    found = configured(record)
    return [
        RunRecord(
            record.recommendation_id,
            record.model_id,
            record.workflow,
            record.created_at,
            record.status,
            record.request.get("deadline_s"),
            found.get("makespan_s"),
            found.get("configuration"),
            None,
            stage_runs(store.observations(record.recommendation_id)),
        )
    ]


def _chunks(record: RecommendationRecord) -> list[str]:
    chunks = record.answer.get("chunks") or {}
    return [StageChunks.from_json(one).sentence(stage) for stage, one in sorted(chunks.items())]


def _what_if(record: RecommendationRecord, model: Model) -> str:
    try:
        query = form_query(QoSRequest.parse(record.request), model)
    except QoSFlowError:
        return ""  # asked by a version that understood more, or otherwise
    nodes = (configured(record).get("configuration") or {}).get("nodes")
    return query if nodes is None else f"{query}&nodes={nodes}"
