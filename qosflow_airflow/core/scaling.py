"""Observations at another scale: node count, data scale and task scale.

Of several traced runs, the one whose node count is nearest on a logarithmic scale stands for a node count.
How quantities of a stage grow with the data (``k_d``) and with the number of tasks (``k_t``), both 1 as
observed, is said by rules: ``ln q = a + b_d ln k_d + b_t ln k_t``, each ``b`` an exponent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import MeasurementError

MAX_NODES = 100_000
MAX_SCALE = 1e6
BEYOND = 2.0
"""A scale more than so many times outside the observed range is extrapolated."""

TASKS = "tasks"
QUANTITIES = (
    TASKS,
    "read_bytes",
    "read_access_bytes",
    "read_accesses",
    "write_bytes",
    "write_access_bytes",
    "write_accesses",
    "compute_s",
)
"""What a rule can speak of: all of a stage's tasks together, but the mean for sizes and compute seconds."""


@dataclass(frozen=True)
class DataScale:
    """How many times the observed data, and how many times the observed tasks."""

    data: float = 1.0
    tasks: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("data", self.data), ("tasks", self.tasks)):
            if not (math.isfinite(value) and 1 / MAX_SCALE <= value <= MAX_SCALE):
                raise MeasurementError(
                    f"a {name} scale of {value:g}", cure=f"Give a number above 0 and up to {MAX_SCALE:,.0f}."
                )

    @property
    def observed(self) -> bool:
        """Whether this is the scale of the observations."""
        return self.data == self.tasks == 1.0


@dataclass(frozen=True)
class ScalingRule:
    """Exponents of one quantity of one stage.

    ``spread`` is the standard deviation of the logarithm around the rule, and ``error`` the median relative
    error of runs left out of its inference, over ``runs``; NaN and 0 where a person wrote the rule.
    """

    data: float = 0.0
    tasks: float = 0.0
    inferred: bool = False
    spread: float = math.nan
    error: float = math.nan
    runs: int = 0

    def factor(self, scale: DataScale) -> float:
        """Return how many times the observed quantity is expected at ``scale``."""
        return float(scale.data**self.data * scale.tasks**self.tasks)

    @property
    def kind(self) -> str:
        """The rule in a word."""
        exponents = (self.data, self.tasks)
        if exponents == (0.0, 0.0):
            return "constant"
        if -1.0 in exponents and set(exponents) <= {-1.0, 0.0, 1.0}:
            return "split"
        if self.tasks == 1.0 and self.data in (0.0, 1.0):
            return "broadcast"
        return "linear" if exponents == (1.0, 0.0) else "power"


@dataclass(frozen=True)
class ScalingRules:
    """Rules by stage and quantity (of :data:`QUANTITIES`), and the scales that they were observed at."""

    rules: Mapping[tuple[str, str], ScalingRule] = field(default_factory=dict)
    data_range: tuple[float, float] = (1.0, 1.0)
    task_range: tuple[float, float] = (1.0, 1.0)

    def factor(self, stage: str, quantity: str, scale: DataScale) -> float:
        """Return how many times the observed quantity is expected; 1 without a rule."""
        rule = self.rules.get((stage, quantity))
        return 1.0 if rule is None else rule.factor(scale)

    def spread(self, stage: str, quantity: str, scale: DataScale) -> float:
        """Return the standard deviation of the logarithm of the projected quantity.

        0 at the observed scale, without a rule, and for a rule that a person wrote: it is taken at its word.
        """
        rule = self.rules.get((stage, quantity))
        return 0.0 if rule is None or scale.observed or math.isnan(rule.spread) else rule.spread

    def extrapolated(self, scale: DataScale) -> bool:
        """Whether a scale lies beyond twice what was observed, in either direction."""
        pairs = ((scale.data, self.data_range), (scale.tasks, self.task_range))
        return any(not low / BEYOND <= value <= high * BEYOND for value, (low, high) in pairs)


def check_scale(nodes: int) -> int:
    """Return ``nodes`` when it can be a node count, raise ``MeasurementError`` otherwise."""
    if not 1 <= nodes <= MAX_NODES:
        raise MeasurementError(
            f"a scale of {nodes} nodes", cure=f"Give whole numbers from 1 to {MAX_NODES:,}."
        )
    return nodes


def project(observations: IOObservations, nodes: int) -> IOObservations:
    """Return the traced run that stands for ``nodes`` nodes."""
    check_scale(nodes)
    traced = np.unique(observations.frame["nodes"])
    nearest = traced[np.abs(np.log(traced) - np.log(nodes)).argmin()]
    frame = observations.frame[observations.frame["nodes"] == nearest].reset_index(drop=True)
    return IOObservations(frame, (nodes,))


def scaled(observations: IOObservations, scale: DataScale, rules: ScalingRules) -> IOObservations:
    """Return observations at another scale of data and tasks.

    The rows stay those of the tasks that were traced: their volumes together are those of all tasks at the
    scale. Without a rule a quantity stays as observed.
    """
    if scale.observed:
        return observations
    return IOObservations(_scaled(observations.frame, scale, rules), observations.scales)


def scaled_workflow(workflow: Workflow, scale: DataScale, rules: ScalingRules) -> Workflow:
    """Return the workflow with its task counts at ``scale``, rounded up."""
    stages = tuple(
        replace(stage, tasks=_count(stage.tasks, rules.factor(stage.name, TASKS, scale)))
        for stage in workflow.stages
    )
    return Workflow(workflow.name, stages, workflow.description)


def _count(tasks: int, factor: float) -> int:
    # A product that should be whole may miss it by rounding.
    return max(1, math.ceil(tasks * factor - 1e-9 * tasks * factor))


def _scaled(frame: pd.DataFrame, scale: DataScale, rules: ScalingRules) -> pd.DataFrame:
    stages = frame["stage"].astype(str).tolist()
    operations = frame["operation"].astype(str).tolist()

    def factors(quantity: str) -> pd.Series:
        return pd.Series([rules.factor(name, quantity, scale) for name in stages], index=frame.index)

    def io_factors(quantity: str) -> pd.Series:
        rows = zip(stages, operations, strict=True)
        found = [rules.factor(name, f"{operation}_{quantity}", scale) for name, operation in rows]
        return pd.Series(found, index=frame.index)

    volume, access, compute = io_factors("bytes"), io_factors("access_bytes"), factors("compute_s")
    grown = frame.assign(access_bytes=frame["access_bytes"] * access)
    for name in ("volume_bytes", "file_bytes", "file_size_bytes"):
        grown[name] = frame[name] * volume
    # Volume and size of an access are what times are made of; their quotient keeps the three consistent.
    grown["accesses"] = frame["accesses"] * volume / access
    grown["compute_s"] = frame["compute_s"] * compute
    first_s = frame.groupby("stage")["start_s"].transform("min")
    for name in ("start_s", "end_s"):
        grown[name] = first_s + (frame[name] - first_s) * compute
    counts = zip(frame["tasks"].tolist(), factors(TASKS).tolist(), strict=True)
    grown["tasks"] = [_count(tasks, factor) for tasks, factor in counts]
    return grown
