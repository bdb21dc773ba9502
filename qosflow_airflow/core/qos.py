"""What a user asks for, and how far each configuration is from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.cost import money, node_hours
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.transfer import FloatArray, StageTimes
from qosflow_airflow.exceptions import RequestError

OBJECTIVES = ("makespan", "node_hours", "cost", "balanced")
CONSTRAINTS = (
    "deadline_s",
    "confidence",
    "max_nodes",
    "max_node_hours",
    "max_cost",
    "allow",
    "exclude",
    "pin",
)
"""Names under which a constraint is reported."""


@frozen
class QoSRequest:
    """Constraints and the objective to minimise among the configurations that meet them.

    Attributes
    ----------
    deadline_s:
        The makespan may not be longer, seconds.
    max_nodes:
        At most so many nodes.
    allow:
        Only these tiers; ``None`` allows all.
    exclude:
        None of these tiers.
    pin:
        Stage to the tier that it must take.
    objective:
        ``makespan``, ``node_hours``, ``cost``, or ``balanced`` between the first two.
    confidence:
        The deadline is kept with at least this probability; ``None`` compares the estimate itself with it.
        Without a deadline it says nothing.
    max_node_hours:
        At most so many node-hours.
    max_cost:
        At most so much money, in the currency of ``tiers.yaml``.

    Raises
    ------
    RequestError
        When a number is not positive and finite, or the objective is unknown.
    """

    deadline_s: float | None = None
    max_nodes: int | None = None
    allow: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    pin: Mapping[str, str] = field(default_factory=dict)
    objective: str = "makespan"
    confidence: float | None = None
    max_node_hours: float | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name, unit in (("deadline_s", "seconds"), ("max_node_hours", "hours"), ("max_cost", "an amount")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise RequestError(f"{name} is {value}", cure=f"Give {unit} greater than 0.")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise RequestError(
                f"confidence is {self.confidence}", cure="Give a probability between 0 and 1, as 0.95."
            )
        if self.max_nodes is not None and self.max_nodes < 1:
            raise RequestError(f"max_nodes is {self.max_nodes}", cure="Give a whole number of at least 1.")
        if self.allow is not None and not self.allow:
            raise RequestError("allow is empty", cure="Name at least one tier, or leave it out to allow all.")
        if self.objective not in OBJECTIVES:
            raise RequestError(
                f"unknown objective {self.objective!r}", cure=f"Use one of {', '.join(OBJECTIVES)}."
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> QoSRequest:
        """Build a request from loosely typed values, as a trigger form or rendered templates give them.

        ``None``, the empty string and the words ``None`` and ``null`` mean "not asked". Tiers come as a list
        or separated by commas; pins as a mapping or as ``stage=tier`` separated by commas.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise RequestError(
                f"unknown fields {', '.join(unknown)}", cure=f"Use {', '.join(sorted(known))}."
            )
        asked = {name: value for name, value in values.items() if not _is_absent(value)}
        allow = asked.get("allow")
        return cls(
            deadline_s=_number("deadline_s", asked.get("deadline_s")),
            max_nodes=_whole("max_nodes", asked.get("max_nodes")),
            allow=None if allow is None else _names("allow", allow),
            exclude=_names("exclude", asked.get("exclude", ())),
            pin=_pins(asked.get("pin", {})),
            objective=str(asked.get("objective", "makespan")),
            confidence=_number("confidence", asked.get("confidence")),
            max_node_hours=_number("max_node_hours", asked.get("max_node_hours")),
            max_cost=_number("max_cost", asked.get("max_cost")),
        )

    def check_names(self, space: ConfigurationSpace) -> None:
        """Raise ``TierError`` or ``WorkflowError`` for a tier or stage that the model does not know."""
        for name in (*(self.allow or ()), *self.exclude, *self.pin.values()):
            space.catalog.tier(name)
        for name in self.pin:
            space.workflow.stage(name)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that :meth:`parse` reads back."""
        return {
            "deadline_s": self.deadline_s,
            "max_nodes": self.max_nodes,
            "allow": None if self.allow is None else list(self.allow),
            "exclude": list(self.exclude),
            "pin": dict(self.pin),
            "objective": self.objective,
            "confidence": self.confidence,
            "max_node_hours": self.max_node_hours,
            "max_cost": self.max_cost,
        }

    def slacks(
        self, space: ConfigurationSpace, layouts: Layouts, times: StageTimes, makespan_s: FloatArray
    ) -> Slacks:
        """Return, per constraint that is asked for, how far each configuration is from breaking it.

        A slack of at least 0 meets the constraint: seconds before the deadline, nodes, node-hours or money to
        spare, minus the number of stages on a tier that is not wanted. The deadline is compared with the
        estimate, whatever confidence is asked for.
        """
        slacks: dict[str, FloatArray] = {}
        nodes = times.nodes
        if self.deadline_s is not None:
            slacks["deadline_s"] = self.deadline_s - makespan_s
        if self.max_nodes is not None:
            slacks["max_nodes"] = np.full(len(layouts), float(self.max_nodes - nodes))
        if self.max_node_hours is not None:
            slacks["max_node_hours"] = self.max_node_hours - node_hours(nodes, makespan_s)
        if self.max_cost is not None:
            slacks["max_cost"] = self.max_cost - money(space.catalog, times, layouts, makespan_s)
        index = space.catalog.index
        if self.allow is not None:
            allowed = np.isin(layouts, [index[name] for name in self.allow])
            slacks["allow"] = _minus_count(~allowed)
        if self.exclude:
            excluded = np.isin(layouts, [index[name] for name in self.exclude])
            slacks["exclude"] = _minus_count(excluded)
        if self.pin:
            stages = [space.workflow.index[stage] for stage in self.pin]
            tiers = np.array([index[tier] for tier in self.pin.values()], dtype=np.int8)
            slacks["pin"] = _minus_count(layouts[:, stages] != tiers)
        return slacks


Slacks = dict[str, NDArray[np.float64]]


def _minus_count(broken: NDArray[np.bool_]) -> FloatArray:
    """Return minus the number of stages that break a constraint, per row; 0.0 and never -0.0."""
    return np.asarray(0.0 - np.count_nonzero(broken, axis=1), dtype=np.float64)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "None", "null"))


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(
            f"{name} is {value!r}, not a number", cure="Give a number greater than 0."
        ) from None


def _whole(name: str, value: Any) -> int | None:
    number = _number(name, value)
    if number is None:
        return None
    if not number.is_integer():
        raise RequestError(
            f"{name} is {value!r}, not a whole number", cure="Give a whole number of at least 1."
        )
    return int(number)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise RequestError(f"{name} is {value!r}", cure="Give tier names, as a list or separated by commas.")


def _pins(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(stage): str(tier) for stage, tier in value.items() if not _is_absent(tier)}
    pins: dict[str, str] = {}
    for part in _names("pin", value):
        stage, separator, tier = (word.strip() for word in part.partition("="))
        if not (separator and stage and tier):
            raise RequestError(f"pin {part!r} is not stage=tier", cure="Write it as in `sifting=tmpfs`.")
        if pins.setdefault(stage, tier) != tier:
            raise RequestError(f"stage {stage!r} is pinned to {pins[stage]!r} and {tier!r}", cure="Keep one.")
    return pins
