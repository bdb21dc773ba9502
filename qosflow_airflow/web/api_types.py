"""What the JSON API takes and gives, typed; ``docs/api.md`` describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from qosflow_airflow.core.comparison import Comparison
from qosflow_airflow.core.qos import QoSRequest

Name = Annotated[str, Field(max_length=1000)]


class Constraints(BaseModel):
    """Constraints and the objective; what is left out, or ``null``, is not asked for."""

    model_config = ConfigDict(extra="forbid")

    deadline_s: float | None = None
    confidence: float | None = None
    max_nodes: int | None = Field(default=None, ge=1, le=1_000_000_000)
    max_node_hours: float | None = None
    max_cost: float | None = None
    allow: list[Name] | None = Field(default=None, max_length=1000)
    exclude: list[Name] = Field(default_factory=list, max_length=1000)
    objective: Literal["makespan", "node_hours", "cost", "balanced"] = "makespan"


class Question(Constraints):
    """What a model is asked; ``pin`` maps stages to the tiers that they must take."""

    pin: dict[Name, Name] = Field(default_factory=dict, max_length=10_000)


NodeCount = Annotated[int | None, BeforeValidator(lambda text: text or None)]
"""A node count of a model; an empty choice of a form is none."""


class Compared(Constraints):
    """Two sides that are asked the same: models, and the node counts at which they answer (default: any).

    ``left`` is by default the version before ``right`` or else another one, and ``right_nodes`` is ``nodes``.
    """

    right: Name
    left: Name | None = None
    nodes: NodeCount = None
    right_nodes: NodeCount = None

    @property
    def request(self) -> QoSRequest:
        """What both sides are asked."""
        return QoSRequest.parse(self.model_dump(include=set(Constraints.model_fields)))


class Problem(BaseModel):
    """What is wrong: the kind of error, what happened, and what helps."""

    kind: str
    message: str
    cure: str | None = None


class Refusal(BaseModel):
    """The body of every answer that is not a success."""

    error: Problem


class ModelVersionOut(BaseModel):
    """A model version, without what it holds."""

    model_id: str
    workflow: str
    version: int
    created_at: datetime
    qosflow_version: str
    inputs: dict[str, str]
    summary: dict[str, Any]


class Runs(BaseModel):
    """Runs of a workflow that the user may see: deadline met, missed, or none or not known."""

    met: int
    missed: int
    other: int


class RunOut(BaseModel):
    """A finished run of a workflow; ``null`` is what is not known, or was not asked for."""

    recommendation_id: str
    created_at: datetime
    deadline_s: float | None
    predicted_s: float | None
    measured_s: float | None
    met_deadline: bool | None


class Drift(BaseModel):
    """Whether a model still holds: ``ok``, ``watch``, ``stale``, or ``unknown`` of too few runs."""

    state: str
    words: str


class WorkflowOut(BaseModel):
    """A workflow; ``newest_model`` is ``null`` before its first build is published.

    ``corrected_by`` counts the runs that had taught when that model answered last, and ``drift`` is what they
    said. ``recent`` are the newest runs that the user may see, newest first.
    """

    name: str
    description: str
    newest_model: ModelVersionOut | None
    corrected_by: int
    drift: Drift
    runs: Runs
    recent: list[RunOut]


class Workflows(BaseModel):
    """Workflows by name."""

    workflows: list[WorkflowOut]


class Models(BaseModel):
    """Model versions, newest first."""

    models: list[ModelVersionOut]


class RegionOut(BaseModel):
    """A part of the space whose makespans are alike; its rule in words."""

    id: int
    size: int
    min_s: float
    median_s: float
    max_s: float
    rule: str
    bottleneck: dict[str, Any]


class ScaleOut(BaseModel):
    """One node count: what ``qosflow evaluate`` prints (``evaluation``), what the build kept (``quality``).

    ``states`` counts configurations by state: ``measured``, ``extrapolated``, ``unmeasured`` and others.
    """

    nodes: int
    states: dict[str, int]
    evaluation: dict[str, Any]
    quality: dict[str, Any]
    regions: list[RegionOut]


class ModelOut(BaseModel):
    """A model with what it holds, but for stage times."""

    model: ModelVersionOut
    stages: list[str]
    tiers: list[str]
    rules: str
    scales: list[ScaleOut]
    bottleneck_shift: dict[str, Any]
    report_card: dict[str, Any] | None
    report_card_at: datetime | None


class FiguresOut(BaseModel):
    """The numbers of the figures of one node count; ``null`` where there is nothing to draw."""

    nodes: int
    regions: dict[str, Any] | None
    costs: dict[str, Any] | None
    signature: dict[str, Any] | None
    totals: dict[str, Any] | None
    shift: dict[str, Any] | None


class ComparisonOut(BaseModel):
    """How two models answer the same request; ``words`` says why stages' best tiers differ."""

    left_model: ModelVersionOut
    right_model: ModelVersionOut
    comparison: Comparison
    words: list[str]


class DagOut(BaseModel):
    """A Dag that the user may trigger; a run of a paused one waits until it is paused no more."""

    dag_id: str
    is_paused: bool


class Dags(BaseModel):
    """Dags that asked for a workflow, the last to ask first."""

    dags: list[DagOut]


class NewRun(BaseModel):
    """What a run of a Dag is started with."""

    model_config = ConfigDict(extra="forbid")

    workflow: Name
    question: Question


class NewRunOut(BaseModel):
    """A run that was started: its params, what the Dag's own defaults ask for, and its path in Airflow."""

    dag_id: str
    run_id: str
    params: dict[str, Any]
    defaults: dict[str, Any]
    path: str


class RecommendationLineOut(BaseModel):
    """A recommendation in a list."""

    recommendation_id: str
    model_id: str
    workflow: str
    status: str
    created_at: datetime
    dag_id: str | None
    run_id: str | None
    task_id: str | None


class RecommendationOut(RecommendationLineOut):
    """A recommendation: what was asked, answered, and measured by the runs that followed it."""

    request: dict[str, Any]
    answer: dict[str, Any]
    outcomes: list[dict[str, Any]]


class Recommendations(BaseModel):
    """Recommendations that the user may see, newest first.

    ``next_offset`` is where the next page begins; ``null`` after the last one.
    """

    recommendations: list[RecommendationLineOut]
    next_offset: int | None
