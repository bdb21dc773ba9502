"""The store in a Postgres database, in its schema ``qosflow``."""

# ruff: noqa: D102 - what each method promises is said once, in base.py
from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import extensions

from qosflow_airflow.store import checks
from qosflow_airflow.store.base import (
    MAX_ROWS,
    Build,
    JsonObject,
    ModelVersion,
    OutcomeRecord,
    Part,
    RecommendationRecord,
    RegisteredWorkflow,
    ReportCard,
    Store,
)
from qosflow_airflow.store.connections import Database, Row, row, rows
from qosflow_airflow.store.migrate import require_current
from qosflow_airflow.store.payload import checked_text, decode, encode
from qosflow_airflow.store.pool import ConnectionPool

if TYPE_CHECKING:
    from qosflow_airflow.store.finished_runs import Observation, RunRecord, StageRun
    from qosflow_airflow.store.summaries import RunLine, WorkflowSummary

_NAME = "the name of a workflow"


class PostgresStore(Store):
    """A store that threads may share; it connects at the first call, to at most ``max_connections``.

    A statement that takes longer than ``statement_timeout_s`` is stopped and raises :class:`StoreError`. A
    database that has not exactly the migrations of this code is refused.
    """

    def __init__(
        self,
        dsn: str,
        *,
        statement_timeout_s: float = 10.0,
        connect_timeout_s: int = 5,
        max_connections: int = 4,
    ) -> None:
        self.database = Database.from_url(dsn)
        self._pool = ConnectionPool(
            self.database,
            lambda cursor: require_current(cursor, self.database),
            size=max_connections,
            statement_timeout_s=statement_timeout_s,
            connect_timeout_s=connect_timeout_s,
        )

    def __repr__(self) -> str:
        return f"PostgresStore({self.database})"

    # Workflows

    def register_workflow(self, name: str, bundle_path: str, description: str = "") -> RegisteredWorkflow:
        checked_text(name, _NAME)
        checked_text(bundle_path, "the bundle path", checks.MAX_PATH_CHARS)
        checked_text(description, "the description", checks.MAX_DESCRIPTION_CHARS, may_be_empty=True)
        with self._pool.transaction() as cursor:
            (found,) = rows(
                cursor, "register_workflow", name=name, bundle_path=bundle_path, description=description
            )
        return RegisteredWorkflow(**found)

    def workflow(self, name: str) -> RegisteredWorkflow:
        with self._pool.transaction() as cursor:
            return _workflow(cursor, name)

    def list_workflows(self, limit: int = MAX_ROWS) -> tuple[RegisteredWorkflow, ...]:
        checks.checked_limit(limit)
        return tuple(RegisteredWorkflow(**found) for found in self._rows("workflows", limit=limit))

    def summaries(self, runs: int = 50, limit: int = MAX_ROWS) -> tuple[WorkflowSummary, ...]:
        # Imported here, as runs are further down: a task that asks for a model pays for no more.
        from qosflow_airflow.store.summaries import RunLine, WorkflowSummary

        checks.checked_limit(runs)
        checks.checked_limit(limit)
        newest: dict[str, ModelVersion] = {}
        taught: dict[str, JsonObject | None] = {}
        lines: dict[str, list[RunLine]] = {}
        with self._pool.transaction() as cursor:
            workflows = [RegisteredWorkflow(**one) for one in rows(cursor, "workflows", limit=limit)]
            for one in rows(cursor, "newest_models", limit=limit):
                calibration = one.pop("calibration")
                newest[one["workflow"]] = _model(one)
                taught[one["workflow"]] = None if calibration is None else json.loads(calibration)
            for one in rows(cursor, "run_lines", limit=limit, runs=runs):
                lines.setdefault(one.pop("workflow"), []).append(RunLine(**one))
        return tuple(
            WorkflowSummary(one, newest.get(one.name), taught.get(one.name), tuple(lines.get(one.name, ())))
            for one in workflows
        )

    # Builds

    def create_build(self, workflow: str, options: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        build_id = str(uuid.uuid4())
        options_text, inputs_text = encode(options, "options"), checks.checked_inputs(inputs)
        with self._pool.transaction() as cursor:
            name = _workflow(cursor, workflow).name
            rows(
                cursor,
                "create_build",
                build_id=build_id,
                workflow=name,
                options=options_text,
                inputs=inputs_text,
            )
        return build_id

    def build(self, build_id: str) -> Build:
        with self._pool.transaction() as cursor:
            return _build(cursor, build_id)

    def put_part(
        self,
        build_id: str,
        kind: str,
        scale: str | None,
        content: bytes,
        content_type: str = "application/octet-stream",
    ) -> Part:
        key = checks.checked_part_key(kind, scale)
        binary = psycopg2.Binary(checks.checked_content(content))
        checked_text(content_type, "the content type")
        build_id = checks.checked_id(build_id, "build")
        with self._pool.transaction() as cursor:
            locked = row(cursor, "lock_build_for_part", build_id=build_id)
            # Asked only now: a publisher that held the lock has committed.
            published = row(cursor, "model_of_build", build_id=build_id)
            if published is not None:
                raise checks.already_published(build_id, published["model_id"])
            if locked is None:
                raise checks.no_such("build", build_id)
            (found,) = rows(
                cursor,
                "put_part",
                build_id=build_id,
                kind=key.kind,
                scale=key.scale or "",
                content=binary,
                content_type=content_type,
            )
        return Part(**found)

    def part(self, build_id: str, kind: str, scale: str | None = None) -> bytes:
        key = checks.checked_part_key(kind, scale)
        build_id = checks.checked_id(build_id, "build")
        with self._pool.transaction() as cursor:
            found = row(cursor, "build_part", build_id=build_id, kind=key.kind, scale=key.scale or "")
            if found is None:
                raise checks.no_such_part("build", _build(cursor, build_id).build_id, key)
            return bytes(found["content"])

    def list_parts(self, build_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        checks.checked_limit(limit)
        with self._pool.transaction() as cursor:
            build_id = _build(cursor, build_id).build_id
            return tuple(
                Part(**found) for found in rows(cursor, "build_parts", build_id=build_id, limit=limit)
            )

    def purge_builds(self, older_than: timedelta) -> int:
        age = checks.checked_age(older_than)
        with self._pool.transaction() as cursor:
            (clock,) = rows(cursor, "clock")
        purged = 0
        while portion := len(self._rows("purge_builds", created_before=clock["now"] - age)):
            purged += portion
        return purged

    # Models

    def publish(
        self,
        build_id: str,
        summary: Mapping[str, Any],
        kinds: Sequence[tuple[str, str | None]],
        *,
        qosflow_version: str,
    ) -> ModelVersion:
        keys = checks.checked_part_keys(kinds)
        summary_text = encode(summary, "summary")
        checked_text(qosflow_version, "the version of QoSFlow")
        build_id = checks.checked_id(build_id, "build")
        with self._pool.transaction() as cursor:
            build = row(cursor, "lock_build_for_publishing", build_id=build_id)
            published = row(cursor, "model_of_build", build_id=build_id)
            if published is not None:
                return _model(published)
            if build is None:
                raise checks.no_such("build", build_id)
            rows(cursor, "lock_workflow", workflow=build["workflow"])
            (model,) = rows(
                cursor,
                "insert_model",
                model_id=str(uuid.uuid4()),
                build_id=build_id,
                summary=summary_text,
                qosflow_version=qosflow_version,
            )
            for key in keys:
                if not rows(
                    cursor,
                    "copy_part",
                    model_id=model["model_id"],
                    build_id=build_id,
                    kind=key.kind,
                    scale=key.scale or "",
                ):
                    raise checks.no_such_part("build", build_id, key)
        return _model(model)

    def model(self, model_id: str) -> ModelVersion:
        with self._pool.transaction() as cursor:
            return _model_version(cursor, model_id)

    def newest_model(self, workflow: str) -> ModelVersion:
        checked_text(workflow, _NAME)
        with self._pool.transaction() as cursor:
            found = row(cursor, "models_of_workflow", workflow=workflow, limit=1)
            if found is None:
                raise checks.no_model_yet(_workflow(cursor, workflow).name)
        return _model(found)

    def models(self, workflow: str | None = None, limit: int = 50) -> tuple[ModelVersion, ...]:
        checks.checked_limit(limit)
        if workflow is None:
            return tuple(map(_model, self._rows("models", limit=limit)))
        checked_text(workflow, _NAME)
        return tuple(map(_model, self._rows("models_of_workflow", workflow=workflow, limit=limit)))

    def model_part(self, model_id: str, kind: str, scale: str | None = None) -> bytes:
        key = checks.checked_part_key(kind, scale)
        model_id = checks.checked_id(model_id, "model")
        with self._pool.transaction() as cursor:
            found = row(cursor, "model_part", model_id=model_id, kind=key.kind, scale=key.scale or "")
            if found is None:
                raise checks.no_such_part("model", _model_version(cursor, model_id).model_id, key)
            return bytes(found["content"])

    def model_parts(self, model_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        checks.checked_limit(limit)
        with self._pool.transaction() as cursor:
            model_id = _model_version(cursor, model_id).model_id
            return tuple(
                Part(**found) for found in rows(cursor, "model_parts", model_id=model_id, limit=limit)
            )

    def add_report_card(self, model_id: str, report: Mapping[str, Any]) -> ReportCard:
        model_id = checks.checked_id(model_id, "model")
        added = self._rows("add_report_card", model_id=model_id, report=encode(report, "report"))
        if not added:
            raise checks.no_such("model", model_id)
        return _report_card(added[0])

    def report_cards(self, model_id: str, limit: int = 50) -> tuple[ReportCard, ...]:
        checks.checked_limit(limit)
        with self._pool.transaction() as cursor:
            model_id = _model_version(cursor, model_id).model_id
            found = rows(cursor, "report_cards", model_id=model_id, limit=limit)
        return tuple(map(_report_card, found))

    # Recommendations and outcomes

    def add_recommendation(self, record: RecommendationRecord) -> RecommendationRecord:
        record, request, answer = checks.checked_record(record)
        values = vars(record) | {"request": request, "answer": answer}
        with self._pool.transaction() as cursor:
            if not rows(cursor, "add_recommendation", **values):
                checks.same_workflow(record, _model_version(cursor, record.model_id))
                if _recommendation(cursor, record.recommendation_id) != record:
                    raise checks.already_recommended(record.recommendation_id)
        return record

    def recommendation(self, recommendation_id: str) -> RecommendationRecord:
        with self._pool.transaction() as cursor:
            return _recommendation(cursor, recommendation_id)

    def recommendations(
        self,
        workflow: str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
    ) -> tuple[RecommendationRecord, ...]:
        checks.checked_limit(limit, offset)
        of = checks.checked_of(workflow, dag_id, run_id)
        return tuple(map(_record, self._rows("recommendations", **of, limit=limit, offset=offset)))

    def dags_of(self, recommendation_ids: Collection[str]) -> dict[str, str | None]:
        known = checks.known_ids(recommendation_ids)
        found = self._rows("dags_of", recommendation_ids=list(known.values())) if known else []
        dags = {one["recommendation_id"]: one["dag_id"] for one in found}
        return {given: dags[kept] for given, kept in known.items() if kept in dags}

    def dag_ids(self, workflow: str, limit: int = 50) -> tuple[str, ...]:
        checks.checked_limit(limit)
        found = self._rows("dag_ids", workflow=checked_text(workflow, _NAME), limit=limit)
        return tuple(str(one["dag_id"]) for one in found)

    def add_outcome(self, recommendation_id: str, outcome: Mapping[str, Any]) -> OutcomeRecord:
        recommendation_id = checks.checked_id(recommendation_id, "recommendation")
        text = encode(outcome, "outcome")
        added = self._rows("add_outcome", recommendation_id=recommendation_id, outcome=text)
        if not added:
            raise checks.no_such("recommendation", recommendation_id)
        return _outcome(added[0])

    def outcomes(self, recommendation_id: str, limit: int = 50) -> tuple[OutcomeRecord, ...]:
        checks.checked_limit(limit)
        with self._pool.transaction() as cursor:
            recommendation_id = _recommendation(cursor, recommendation_id).recommendation_id
            found = rows(cursor, "outcomes", recommendation_id=recommendation_id, limit=limit)
        return tuple(map(_outcome, found))

    def add_observations(self, observations: Sequence[Observation]) -> int:
        checked = checks.checked_observations(observations)
        with self._pool.transaction() as cursor:
            for identifier in {found.recommendation_id for found in checked}:
                if row(cursor, "has_recommendation", recommendation_id=identifier) is None:
                    raise checks.no_such("recommendation", identifier)
            return sum(len(rows(cursor, "add_observation", **vars(found))) for found in checked)

    def observations(self, recommendation_id: str, limit: int = MAX_ROWS) -> tuple[Observation, ...]:
        checks.checked_limit(limit)
        identifier = checks.checked_id(recommendation_id, "recommendation")
        with self._pool.transaction() as cursor:
            if row(cursor, "has_recommendation", recommendation_id=identifier) is None:
                raise checks.no_such("recommendation", recommendation_id)
            found = rows(cursor, "observations", recommendation_id=identifier, limit=limit)
        return tuple(map(_observation, found))

    def task_observations(
        self, dag_id: str, run_id: str, task_id: str, limit: int = MAX_ROWS
    ) -> tuple[Observation, ...]:
        checks.checked_limit(limit)
        task = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        checks.check_airflow_ids(task)
        found = self._rows("task_observations", **task, limit=limit)
        return tuple(map(_observation, found))

    def runs(
        self,
        workflow: str | None = None,
        limit: int = 50,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
        with_unfinished: bool = False,
    ) -> tuple[RunRecord, ...]:
        checks.checked_limit(limit)
        of = checks.checked_of(workflow, dag_id, run_id)
        return tuple(map(_run, self._rows("runs", **of, limit=limit, all=bool(with_unfinished))))

    # Connection

    def reading(self) -> AbstractContextManager[None]:
        return self._pool.shared_transaction()

    def ping(self) -> None:
        with self._pool.transaction():
            pass

    def close(self) -> None:
        self._pool.close()

    def _rows(self, query: str, **parameters: object) -> list[Row]:
        with self._pool.transaction() as cursor:
            return rows(cursor, query, **parameters)


def _workflow(cursor: extensions.cursor, name: str) -> RegisteredWorkflow:
    found = row(cursor, "workflow", name=checked_text(name, _NAME))
    if found is None:
        raise checks.no_such_workflow(name)
    return RegisteredWorkflow(**found)


def _build(cursor: extensions.cursor, build_id: str) -> Build:
    found = row(cursor, "build", build_id=checks.checked_id(build_id, "build"))
    if found is None:
        raise checks.no_such("build", build_id)
    return Build(**_decoded(found, "options", "inputs"))


def _model_version(cursor: extensions.cursor, model_id: str) -> ModelVersion:
    found = row(cursor, "model", model_id=checks.checked_id(model_id, "model"))
    if found is None:
        raise checks.no_such("model", model_id)
    return _model(found)


def _recommendation(cursor: extensions.cursor, recommendation_id: str) -> RecommendationRecord:
    identifier = checks.checked_id(recommendation_id, "recommendation")
    found = row(cursor, "recommendation", recommendation_id=identifier)
    if found is None:
        raise checks.no_such("recommendation", recommendation_id)
    return _record(found)


def _model(found: Row) -> ModelVersion:
    return ModelVersion(**_decoded(found, "inputs", "options", "summary"))


def _report_card(found: Row) -> ReportCard:
    return ReportCard(**_decoded(found, "report"))


def _record(found: Row) -> RecommendationRecord:
    return RecommendationRecord(**_decoded(found, "request", "answer"))


def _outcome(found: Row) -> OutcomeRecord:
    return OutcomeRecord(**_decoded(found, "outcome"))


def _observation(found: Row) -> Observation:
    from qosflow_airflow.store.finished_runs import Observation

    return Observation(**found)


def _run(found: Row) -> RunRecord:
    from qosflow_airflow.store.finished_runs import RunRecord

    values = {
        name: None if found[name] is None else json.loads(found[name])
        for name in ("configuration", "outcome")
    }
    stages = tuple(map(_stage_run, json.loads(found["stages"])))
    return RunRecord(**(found | values | {"stages": stages}))


def _stage_run(found: Row) -> StageRun:
    from qosflow_airflow.store.finished_runs import StageRun

    # Sorted here: databases have alphabets of their own.
    texts = {name: tuple(sorted(found[name])) for name in ("dag_versions", "images")}
    return StageRun(**(found | texts))


def _decoded(found: Row, *columns: str) -> Row:
    return found | {column: decode(found[column]) for column in columns}
