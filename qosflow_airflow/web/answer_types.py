"""What a model answers to a question, typed; the fields are those that ``qosflow recommend`` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = dict[str, float]
"""Seconds by what they were spent on."""


class _Said(BaseModel):
    """A part of an answer. What a later version says besides is passed on."""

    model_config = ConfigDict(extra="allow")


class ConfigurationOut(_Said):
    """A node count, and the tier of each stage."""

    nodes: int
    tiers: dict[str, str]


class CapacityOut(_Said):
    """Whether the data fits on its tiers (``fits``, ``over``, ``unknown``, ``not_checked``), and why not."""

    state: str
    reasons: list[str]


class DescribedOut(_Said):
    """Everything that is known of a configuration.

    ``split_s`` adds up to the makespan. ``swap_s`` says by how much moving a stage to another tier alone
    changes it, ``null`` where that is not known. ``run_s`` adds what Airflow takes between tasks. In
    ``waiting_s`` of the makespan work waits for other work that uses the same tiers or processors.
    """

    configuration: ConfigurationOut
    makespan_s: float
    node_hours: float
    state: str
    compute_known: bool
    traced_tasks: int
    capacity: CapacityOut
    split_s: Seconds
    critical_path: str
    critical_stages: list[str]
    flexible_stages: list[str]
    swap_s: dict[str, dict[str, float | None]]
    stage_s: dict[str, Seconds]
    region: dict[str, Any] | None
    run_s: float | None = None
    waiting_s: float = 0.0


class IntervalOut(_Said):
    """What nine runs of ten take, and whether that is from the model, past runs, or both."""

    p05_s: float
    p50_s: float
    p95_s: float
    p_deadline: float | None
    source: str
    runs: int
    words: str


class AlternativeOut(_Said):
    """A configuration that is nearly as good; ``p_best`` is how likely it is the shortest."""

    configuration: ConfigurationOut
    makespan_s: float
    node_hours: float
    p_best: float | None


class PointOut(_Said):
    """A configuration that nothing beats in time, node-hours and cost; ``knee`` marks one of them."""

    configuration: ConfigurationOut
    makespan_s: float
    node_hours: float
    cost: float | None
    knee: bool


class ParetoOut(_Said):
    """The trade-offs, up to a share of ``epsilon``; not ``complete`` where the search gave up."""

    points: list[PointOut]
    epsilon: float
    complete: bool


class OptimalityOut(_Said):
    """Whether nothing better can exist, and the objective that nothing is below."""

    proven: bool
    method: str
    objective: float | None
    lower_bound: float | None


class RepairOut(_Said):
    """A change that makes the request feasible, and what is recommended then."""

    changes: dict[str, Any]
    makespan_s: float
    configuration: ConfigurationOut
    words: str


class _AnswerOut(_Said):
    """What any answer says; ``calibration`` is what finished runs have taught."""

    workflow: str
    rules: str
    request: dict[str, Any]
    explanation: str
    overhead_s: float
    optimality: OptimalityOut
    calibration: dict[str, Any]


class FeasibleOut(_AnswerOut, DescribedOut):
    """The best configuration; ``interval`` is ``null`` where the spread of its times is not known."""

    status: Literal["feasible"]
    interval: IntervalOut | None
    slack: dict[str, float]
    p_best: float | None
    alternatives: list[AlternativeOut]
    pareto: ParetoOut
    sensitivity: dict[str, Any]


class InfeasibleOut(_AnswerOut):
    """What stands in the way, what would help, and the best once that is left out, if there is any."""

    status: Literal["infeasible"]
    binding: list[str]
    binding_stages: dict[str, list[str]]
    repairs: list[RepairOut]
    missing: list[dict[str, Any]]
    nearest: DescribedOut | None
    over_capacity: list[str]


AnswerOut = Annotated[FeasibleOut | InfeasibleOut, Field(discriminator="status")]
"""An answer; ``status`` tells which of the two it is."""
