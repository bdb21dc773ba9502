"""The contract of a store, and the values it takes and returns.

Most are named tuples: Python defines those several times faster than dataclasses, and every task that
recommends waits for it.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from qosflow_airflow.core.frozen import frozen

if TYPE_CHECKING:
    from qosflow_airflow.store.finished_runs import Observation, RunRecord
    from qosflow_airflow.store.summaries import WorkflowSummary

JsonObject = dict[str, Any]
"""Plain JSON: text keys; text, whole and finite numbers, booleans, ``None``, lists and objects as values."""

RecommendationStatus = Literal["feasible", "infeasible"]

MAX_ROWS = 1000
"""The most rows one listing returns."""
MAX_PART_BYTES = 64 * 1024 * 1024
"""The largest part: it travels, and is held in memory a few times over, in one piece."""


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


class RegisteredWorkflow(NamedTuple):
    """A workflow that models are built for, and the bundle that describes it."""

    name: str
    bundle_path: str
    description: str
    created_at: datetime
    updated_at: datetime


class Build(NamedTuple):
    """The working state of one pipeline run. ``model_id`` is set once the build is published."""

    build_id: str
    workflow: str
    created_at: datetime
    options: JsonObject
    inputs: dict[str, str]
    model_id: str | None


class PartKey(NamedTuple):
    """The name of a part: what it is, and the scale it belongs to (``None`` when to the whole model)."""

    kind: str
    scale: str | None = None

    def __str__(self) -> str:
        return self.kind if self.scale is None else f"{self.kind} at scale {self.scale}"


class Part(NamedTuple):
    """What is known of a stored part without reading it. ``sha256`` is 64 hexadecimal digits."""

    kind: str
    scale: str | None
    content_type: str
    size_bytes: int
    sha256: str


class ModelVersion(NamedTuple):
    """A published model. It never changes.

    ``inputs`` maps each file the model was built from to its SHA-256; ``options`` are the build's.
    """

    model_id: str
    workflow: str
    version: int
    created_at: datetime
    inputs: dict[str, str]
    options: JsonObject
    summary: JsonObject
    qosflow_version: str


@frozen
class RecommendationRecord:
    """An answer that was given: to which request, by which model, for which task. It never changes."""

    model_id: str
    workflow: str
    request: JsonObject
    answer: JsonObject
    status: RecommendationStatus
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    try_number: int | None = None
    recommendation_id: str = field(default_factory=_new_id)
    created_at: datetime = field(default_factory=_now)


class OutcomeRecord(NamedTuple):
    """What one run that followed a recommendation measured, beside what was predicted. It never changes."""

    recommendation_id: str
    outcome: JsonObject
    created_at: datetime


class ReportCard(NamedTuple):
    """How well the predictions of a model version held in runs. It never changes."""

    model_id: str
    report: JsonObject
    created_at: datetime


class Store(ABC):
    """Where workflows, builds, models, recommendations and outcomes are kept.

    What holds for every store:

    - **Values.** Whatever goes in or comes out is a copy: changing a returned ``dict`` changes nothing that
      is stored. Timestamps are timezone-aware, in UTC. Identifiers are UUIDs as text; text that is no UUID
      names nothing, so it is :class:`NotFoundError`.
    - **JSON.** Objects (``options``, ``summary``, ``request``, ``answer``, ``outcome``, ``report``) must be
      plain JSON and come back equal, with no promise about the order of keys. NaN and infinity are refused:
      what is unknown is ``None``. So are whole numbers beyond 64 bits, keys that are not text, and the
      characters Postgres cannot keep (NUL, lone surrogates).
    - **The past stays.** A model version and its parts, a recommendation, an outcome, an observation and
      a report card are never changed or removed. Versions of a workflow are numbered 1, 2, 3, … without
      holes or duplicates.
    - **Calls are whole.** Each call happens entirely or not at all, whatever breaks in between. Calls may
      come from several threads and processes at once.
    - **Listings are bounded.** ``limit`` is 1 to :data:`MAX_ROWS`.

    Every method raises :class:`StoreError` for values it refuses and for calls after :meth:`close`,
    :class:`NotFoundError` (a ``StoreError``) for names and identifiers that are not there, and
    :class:`StoreUnavailableError` (a ``StoreError``) when the store cannot be reached; the next call tries
    again.
    """

    # Workflows

    @abstractmethod
    def register_workflow(self, name: str, bundle_path: str, description: str = "") -> RegisteredWorkflow:
        """Register a workflow, or replace the bundle path and description of a registered one."""

    @abstractmethod
    def workflow(self, name: str) -> RegisteredWorkflow:
        """Return a registered workflow."""

    @abstractmethod
    def list_workflows(self, limit: int = MAX_ROWS) -> tuple[RegisteredWorkflow, ...]:
        """Return the registered workflows by name."""

    @abstractmethod
    def summaries(self, runs: int = 50, limit: int = MAX_ROWS) -> tuple[WorkflowSummary, ...]:
        """Return the registered workflows by name, each with its newest model and at most ``runs`` runs.

        As many statements are sent for many workflows as for one.
        """

    # Builds

    @abstractmethod
    def create_build(self, workflow: str, options: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        """Start a build of a registered workflow and return its identifier.

        ``inputs`` maps each input file to its SHA-256 (64 lower-case hexadecimal digits).
        """

    @abstractmethod
    def build(self, build_id: str) -> Build:
        """Return a build."""

    @abstractmethod
    def put_part(
        self,
        build_id: str,
        kind: str,
        scale: str | None,
        content: bytes,
        content_type: str = "application/octet-stream",
    ) -> Part:
        """Write a part of a build, replacing what an earlier try wrote under the same kind and scale.

        Refused once the build is published, and above :data:`MAX_PART_BYTES`.
        """

    @abstractmethod
    def part(self, build_id: str, kind: str, scale: str | None = None) -> bytes:
        """Return the content of a part of a build."""

    @abstractmethod
    def list_parts(self, build_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        """Return the parts of a build by kind and scale."""

    @abstractmethod
    def purge_builds(self, older_than: timedelta) -> int:
        """Remove the builds created longer ago than ``older_than``, with their parts; return how many.

        Models stay: publishing copied their parts.
        """

    # Models

    @abstractmethod
    def publish(
        self,
        build_id: str,
        summary: Mapping[str, Any],
        kinds: Sequence[tuple[str, str | None]],
        *,
        qosflow_version: str,
    ) -> ModelVersion:
        """Make a build the next model version of its workflow, in one transaction.

        ``kinds`` names the parts to keep as ``(kind, scale)``, at least one. Publishing a build again returns
        the model it became, as it is, so that a task may be retried. ``qosflow_version`` is the version of
        the code that built the model.
        """

    @abstractmethod
    def model(self, model_id: str) -> ModelVersion:
        """Return a model version."""

    @abstractmethod
    def newest_model(self, workflow: str) -> ModelVersion:
        """Return the model version with the highest number of a workflow."""

    @abstractmethod
    def models(self, workflow: str | None = None, limit: int = 50) -> tuple[ModelVersion, ...]:
        """Return the model versions, of one workflow or of all, newest first.

        A name that is not registered has no models: the answer is empty.
        """

    @abstractmethod
    def model_part(self, model_id: str, kind: str, scale: str | None = None) -> bytes:
        """Return the content of a part of a model version."""

    @abstractmethod
    def model_parts(self, model_id: str, limit: int = MAX_ROWS) -> tuple[Part, ...]:
        """Return the parts of a model version by kind and scale."""

    @abstractmethod
    def add_report_card(self, model_id: str, report: Mapping[str, Any]) -> ReportCard:
        """Keep how well a model's predictions held in runs. A model may have several report cards."""

    @abstractmethod
    def report_cards(self, model_id: str, limit: int = 50) -> tuple[ReportCard, ...]:
        """Return the report cards of a model version, the last one added first."""

    # Recommendations and outcomes

    @abstractmethod
    def add_recommendation(self, record: RecommendationRecord) -> RecommendationRecord:
        """Keep a recommendation. Adding the same record again changes nothing.

        Another record under the same identifier, and a workflow that is not the model's, are refused.
        """

    @abstractmethod
    def recommendation(self, recommendation_id: str) -> RecommendationRecord:
        """Return a recommendation."""

    @abstractmethod
    def recommendations(
        self,
        workflow: str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
    ) -> tuple[RecommendationRecord, ...]:
        """Return the recommendations, newest first, from ``offset`` on.

        They are those for a workflow, of a Dag, and of a Dag run, where these are given.
        """

    @abstractmethod
    def dags_of(self, recommendation_ids: Collection[str]) -> dict[str, str | None]:
        """Return the Dag that each recommendation was made for, ``None`` where it was for none.

        Identifiers of no recommendation are left out; at most :data:`MAX_ROWS` are taken.
        """

    @abstractmethod
    def dag_ids(self, workflow: str, limit: int = 50) -> tuple[str, ...]:
        """Return the Dags that asked for a workflow, the one that asked last first."""

    @abstractmethod
    def add_outcome(self, recommendation_id: str, outcome: Mapping[str, Any]) -> OutcomeRecord:
        """Keep what a run that followed a recommendation measured. A recommendation may have several."""

    @abstractmethod
    def outcomes(self, recommendation_id: str, limit: int = 50) -> tuple[OutcomeRecord, ...]:
        """Return the outcomes of a recommendation, the last one added first."""

    @abstractmethod
    def add_observations(self, observations: Sequence[Observation]) -> int:
        """Keep what finished tasks tell; return how many were not kept before.

        What is known of the same recommendation, stage, map index, try and source stays as it is. At most
        :data:`~qosflow_airflow.store.finished_runs.MAX_OBSERVATIONS`.
        """

    @abstractmethod
    def observations(self, recommendation_id: str, limit: int = MAX_ROWS) -> tuple[Observation, ...]:
        """Return the observations of a recommended run by stage, map index and try."""

    @abstractmethod
    def task_observations(
        self, dag_id: str, run_id: str, task_id: str, limit: int = MAX_ROWS
    ) -> tuple[Observation, ...]:
        """Return what the instances of a task told in a Dag run, by map index and try.

        Of a run that nothing was recommended for, nothing is known: the answer is empty.
        """

    @abstractmethod
    def runs(
        self,
        workflow: str | None = None,
        limit: int = 50,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
        with_unfinished: bool = False,
    ) -> tuple[RunRecord, ...]:
        """Return the runs that an outcome or an observation tells of, newest first.

        They are those of a workflow, of a Dag, and of a Dag run, where these are given. With
        ``with_unfinished``, recommendations that nothing is known of are among them.
        """

    # Connection

    def reading(self) -> AbstractContextManager[None]:
        """Return a context in which the calls of this thread cost a database one round trip each.

        It is for calls that read one after the other. What takes long is done outside: a database gives up on
        who says nothing for some seconds.
        """
        return nullcontext()

    @abstractmethod
    def ping(self) -> None:
        """Return when the store can be reached and used; raise why not otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Release what the store holds. May be called twice; every other call is refused afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
