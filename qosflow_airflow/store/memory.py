"""The store in memory: the twin of the Postgres store, for tests and for work that need not last."""

# ruff: noqa: D102 - what each method promises is said once, in base.py
from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store import checks
from qosflow_airflow.store.base import (
    MAX_ROWS,
    Build,
    ModelVersion,
    OutcomeRecord,
    Part,
    PartKey,
    RecommendationRecord,
    RegisteredWorkflow,
    ReportCard,
    Store,
)
from qosflow_airflow.store.finished_runs import Observation, RunRecord, stage_runs
from qosflow_airflow.store.payload import checked_text, decode, encode
from qosflow_airflow.store.summaries import WorkflowSummary, run_line

_NAME = "the name of a workflow"


@dataclass(frozen=True)
class _Content:
    part: Part
    content: bytes


@dataclass
class _BuildState:
    workflow: str
    created_at: datetime
    options: str
    inputs: str
    parts: dict[PartKey, _Content] = field(default_factory=dict)


@dataclass(frozen=True)
class _ModelState:
    """``summary`` and the like are kept as JSON text, so that no caller holds what is stored."""

    model_id: str
    workflow: str
    version: int
    created_at: datetime
    inputs: str
    options: str
    summary: str
    qosflow_version: str
    parts: Mapping[PartKey, _Content]

    def value(self) -> ModelVersion:
        return ModelVersion(
            model_id=self.model_id,
            workflow=self.workflow,
            version=self.version,
            created_at=self.created_at,
            inputs=decode(self.inputs),
            options=decode(self.options),
            summary=decode(self.summary),
            qosflow_version=self.qosflow_version,
        )


class MemoryStore(Store):
    """A store that threads may share and that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_closed = False
        self._workflows: dict[str, RegisteredWorkflow] = {}
        self._builds: dict[str, _BuildState] = {}
        self._models: dict[str, _ModelState] = {}
        self._model_of_build: dict[str, str] = {}
        self._recommendations: dict[str, RecommendationRecord] = {}
        self._outcomes: list[tuple[str, str, datetime]] = []
        self._report_cards: list[tuple[str, str, datetime]] = []
        self._observations: dict[tuple[str, str, int, int, str], Observation] = {}

    # Workflows

    def register_workflow(self, name: str, bundle_path: str, description: str = "") -> RegisteredWorkflow:
        checked_text(name, _NAME)
        checked_text(bundle_path, "the bundle path", checks.MAX_PATH_CHARS)
        checked_text(description, "the description", checks.MAX_DESCRIPTION_CHARS, may_be_empty=True)
        with self._open():
            now = datetime.now(UTC)
            created_at = self._workflows[name].created_at if name in self._workflows else now
            workflow = RegisteredWorkflow(name, bundle_path, description, created_at, now)
            self._workflows[name] = workflow
            return workflow

    def workflow(self, name: str) -> RegisteredWorkflow:
        checked_text(name, _NAME)
        with self._open():
            if name not in self._workflows:
                raise checks.no_such_workflow(name)
            return self._workflows[name]

    def list_workflows(self, limit: int = MAX_ROWS) -> tuple[RegisteredWorkflow, ...]:
        checks.checked_limit(limit)
        with self._open():
            return tuple(self._workflows[name] for name in sorted(self._workflows)[:limit])

    def summaries(self, runs: int = 50, limit: int = MAX_ROWS) -> tuple[WorkflowSummary, ...]:
        checks.checked_limit(runs)
        with self._open():
            return tuple(self._summary(workflow, runs) for workflow in self.list_workflows(limit))

    def _summary(self, workflow: RegisteredWorkflow, runs: int) -> WorkflowSummary:
        newest = next(iter(self.models(workflow.name, limit=1)), None)
        asked = [
            one
            for one in self._recommendations.values()
            if newest is not None and one.model_id == newest.model_id
        ]
        last = max(asked, key=lambda one: (one.created_at, one.recommendation_id), default=None)
        return WorkflowSummary(
            workflow,
            newest,
            None if last is None else _copy(last).answer.get("calibration"),
            tuple(map(run_line, self.runs(workflow.name, runs))),
        )

    # Builds

    def create_build(self, workflow: str, options: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        options_text, inputs_text = encode(options, "options"), checks.checked_inputs(inputs)
        with self._open():
            name = self.workflow(workflow).name
            build_id = str(uuid.uuid4())
            self._builds[build_id] = _BuildState(name, datetime.now(UTC), options_text, inputs_text)
            return build_id

    def build(self, build_id: str) -> Build:
        with self._open():
            build_id, state = self._build_state(build_id)
            return Build(
                build_id=build_id,
                workflow=state.workflow,
                created_at=state.created_at,
                options=decode(state.options),
                inputs=decode(state.inputs),
                model_id=self._model_of_build.get(build_id),
            )

    def put_part(
        self,
        build_id: str,
        kind: str,
        scale: str | None,
        content: bytes,
        content_type: str = "application/octet-stream",
    ) -> Part:
        key = checks.checked_part_key(kind, scale)
        checks.checked_content(content)
        checked_text(content_type, "the content type")
        build_id = checks.checked_id(build_id, "build")
        part = Part(kind, scale, content_type, len(content), hashlib.sha256(content).hexdigest())
        with self._open():
            if build_id in self._model_of_build:
                raise checks.already_published(build_id, self._model_of_build[build_id])
            _, state = self._build_state(build_id)
            state.parts[key] = _Content(part, content)
        return part

    def part(self, build_id: str, kind: str, scale: str | None = None) -> bytes:
        key = checks.checked_part_key(kind, scale)
        with self._open():
            build_id, state = self._build_state(build_id)
            if key not in state.parts:
                raise checks.no_such_part("build", build_id, key)
            return state.parts[key].content

    def list_parts(self, build_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        checks.checked_limit(limit)
        with self._open():
            return _listed(self._build_state(build_id)[1].parts, limit)

    def purge_builds(self, older_than: timedelta) -> int:
        age = checks.checked_age(older_than)
        with self._open():
            created_before = datetime.now(UTC) - age
            old = [key for key, state in self._builds.items() if state.created_at < created_before]
            for key in old:
                del self._builds[key]
            return len(old)

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
        with self._open():
            if build_id in self._model_of_build:
                return self._models[self._model_of_build[build_id]].value()
            _, build = self._build_state(build_id)
            for key in keys:
                if key not in build.parts:
                    raise checks.no_such_part("build", build_id, key)
            model = _ModelState(
                model_id=str(uuid.uuid4()),
                workflow=build.workflow,
                version=1 + sum(model.workflow == build.workflow for model in self._models.values()),
                created_at=datetime.now(UTC),
                inputs=build.inputs,
                options=build.options,
                summary=summary_text,
                qosflow_version=qosflow_version,
                parts={key: build.parts[key] for key in keys},
            )
            self._models[model.model_id] = model
            self._model_of_build[build_id] = model.model_id
            return model.value()

    def model(self, model_id: str) -> ModelVersion:
        with self._open():
            return self._model_state(model_id).value()

    def newest_model(self, workflow: str) -> ModelVersion:
        with self._open():
            name = self.workflow(workflow).name
            newest = self.models(name, limit=1)
        if not newest:
            raise checks.no_model_yet(name)
        return newest[0]

    def models(self, workflow: str | None = None, limit: int = 50) -> tuple[ModelVersion, ...]:
        checks.checked_limit(limit)
        if workflow is not None:
            checked_text(workflow, _NAME)
        with self._open():
            # Models are published one after the other, so the order of the dict is that of their age.
            newest_first = [
                model for model in reversed(self._models.values()) if workflow in (None, model.workflow)
            ]
            return tuple(model.value() for model in newest_first[:limit])

    def model_part(self, model_id: str, kind: str, scale: str | None = None) -> bytes:
        key = checks.checked_part_key(kind, scale)
        with self._open():
            model = self._model_state(model_id)
            if key not in model.parts:
                raise checks.no_such_part("model", model.model_id, key)
            return model.parts[key].content

    def model_parts(self, model_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        checks.checked_limit(limit)
        with self._open():
            return _listed(self._model_state(model_id).parts, limit)

    def add_report_card(self, model_id: str, report: Mapping[str, Any]) -> ReportCard:
        text = encode(report, "report")
        with self._open():
            identifier = self._model_state(model_id).model_id
            self._report_cards.append((identifier, text, datetime.now(UTC)))
            return self.report_cards(identifier, limit=1)[0]

    def report_cards(self, model_id: str, limit: int = 50) -> tuple[ReportCard, ...]:
        checks.checked_limit(limit)
        with self._open():
            identifier = self._model_state(model_id).model_id
            found = [entry for entry in reversed(self._report_cards) if entry[0] == identifier]
            return tuple(ReportCard(owner, decode(text), at) for owner, text, at in found[:limit])

    # Recommendations and outcomes

    def add_recommendation(self, record: RecommendationRecord) -> RecommendationRecord:
        record = checks.checked_record(record).record
        with self._open():
            checks.same_workflow(record, self.model(record.model_id))
            if self._recommendations.setdefault(record.recommendation_id, record) != record:
                raise checks.already_recommended(record.recommendation_id)
        return _copy(record)

    def recommendation(self, recommendation_id: str) -> RecommendationRecord:
        identifier = checks.checked_id(recommendation_id, "recommendation")
        with self._open():
            if identifier not in self._recommendations:
                raise checks.no_such("recommendation", recommendation_id)
            return _copy(self._recommendations[identifier])

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
        with self._open():
            return tuple(map(_copy, self._newest_first(of)[offset : offset + limit]))

    def dags_of(self, recommendation_ids: Collection[str]) -> dict[str, str | None]:
        known = checks.known_ids(recommendation_ids)
        with self._open():
            kept = self._recommendations
            return {given: kept[found].dag_id for given, found in known.items() if found in kept}

    def _newest_first(self, of: Mapping[str, str | None]) -> list[RecommendationRecord]:
        found = [
            record
            for record in self._recommendations.values()
            if all(asked in (None, getattr(record, name)) for name, asked in of.items())
        ]
        return sorted(found, key=lambda one: (one.created_at, one.recommendation_id), reverse=True)

    def dag_ids(self, workflow: str, limit: int = 50) -> tuple[str, ...]:
        checks.checked_limit(limit)
        checked_text(workflow, _NAME)
        with self._open():
            newest = {}
            for one in sorted(self._recommendations.values(), key=lambda one: one.created_at):
                if one.workflow == workflow and one.dag_id is not None:
                    newest[one.dag_id] = one.created_at
            return tuple(sorted(newest, key=lambda dag: (-newest[dag].timestamp(), dag))[:limit])

    def add_outcome(self, recommendation_id: str, outcome: Mapping[str, Any]) -> OutcomeRecord:
        text = encode(outcome, "outcome")
        with self._open():
            identifier = self.recommendation(recommendation_id).recommendation_id
            self._outcomes.append((identifier, text, datetime.now(UTC)))
            return self.outcomes(identifier, limit=1)[0]

    def outcomes(self, recommendation_id: str, limit: int = 50) -> tuple[OutcomeRecord, ...]:
        checks.checked_limit(limit)
        with self._open():
            identifier = self.recommendation(recommendation_id).recommendation_id
            found = [entry for entry in reversed(self._outcomes) if entry[0] == identifier]
            return tuple(OutcomeRecord(owner, decode(text), at) for owner, text, at in found[:limit])

    def add_observations(self, observations: Sequence[Observation]) -> int:
        checked = checks.checked_observations(observations)
        with self._open():
            for found in checked:
                if found.recommendation_id not in self._recommendations:
                    raise checks.no_such("recommendation", found.recommendation_id)
            before = len(self._observations)
            for found in checked:
                self._observations.setdefault(_observation_key(found), found)
            return len(self._observations) - before

    def observations(self, recommendation_id: str, limit: int = MAX_ROWS) -> tuple[Observation, ...]:
        checks.checked_limit(limit)
        with self._open():
            identifier = self.recommendation(recommendation_id).recommendation_id
            found = [key for key in sorted(self._observations) if key[0] == identifier]
            return tuple(self._observations[key] for key in found[:limit])

    def task_observations(
        self, dag_id: str, run_id: str, task_id: str, limit: int = MAX_ROWS
    ) -> tuple[Observation, ...]:
        checks.checked_limit(limit)
        checks.check_airflow_ids({"dag_id": dag_id, "run_id": run_id, "task_id": task_id})
        with self._open():
            task = (dag_id, run_id, task_id)
            found = [
                one
                for one in self._observations.values()
                if (one.dag_id, one.run_id, one.task_id) == task
                and _of_run(self._recommendations[one.recommendation_id], dag_id, run_id)
            ]
            found.sort(key=lambda one: (one.map_index, one.try_number, one.source, one.recommendation_id))
            return tuple(found[:limit])

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
        with self._open():
            found = [run for run in map(self._run, self._newest_first(of)) if with_unfinished or run.is_told]
            return tuple(found[:limit])

    def _run(self, record: RecommendationRecord) -> RunRecord:
        identifier = record.recommendation_id
        outcomes = self.outcomes(identifier, limit=1)
        answer = decode(encode(record.answer, "answer"))
        described = answer if record.status == "feasible" else answer.get("nearest") or {}
        observations = [one for one in self._observations.values() if one.recommendation_id == identifier]
        return RunRecord(
            recommendation_id=identifier,
            model_id=record.model_id,
            workflow=record.workflow,
            created_at=record.created_at,
            status=record.status,
            deadline_s=record.request.get("deadline_s"),
            predicted_s=described.get("run_s", described.get("makespan_s")),
            configuration=described.get("configuration"),
            outcome=outcomes[0].outcome if outcomes else None,
            stages=stage_runs(observations),
            dag_id=record.dag_id,
            run_id=record.run_id,
            task_id=record.task_id,
            replans=(answer.get("replans") or {}).get("recommendation_id"),
        )

    # Connection

    def ping(self) -> None:
        with self._open():
            pass

    def close(self) -> None:
        with self._lock:
            self._is_closed = True

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise StoreError("The store is closed.", cure="Open it again.")
            yield

    def _build_state(self, build_id: str) -> tuple[str, _BuildState]:
        identifier = checks.checked_id(build_id, "build")
        if identifier not in self._builds:
            raise checks.no_such("build", build_id)
        return identifier, self._builds[identifier]

    def _model_state(self, model_id: str) -> _ModelState:
        identifier = checks.checked_id(model_id, "model")
        if identifier not in self._models:
            raise checks.no_such("model", model_id)
        return self._models[identifier]


def _of_run(record: RecommendationRecord, dag_id: str, run_id: str) -> bool:
    return (record.dag_id, record.run_id) == (dag_id, run_id)


def _observation_key(found: Observation) -> tuple[str, str, int, int, str]:
    return found.recommendation_id, found.stage, found.map_index, found.try_number, found.source


def _listed(parts: Mapping[PartKey, _Content], limit: int) -> tuple[Part, ...]:
    keys = sorted(parts, key=lambda key: (key.kind, key.scale or ""))
    return tuple(parts[key].part for key in keys[:limit])


def _copy(record: RecommendationRecord) -> RecommendationRecord:
    return replace(
        record,
        request=decode(encode(record.request, "request")),
        answer=decode(encode(record.answer, "answer")),
    )
