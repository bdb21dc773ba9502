"""Ways to loosen one constraint of a request, and what each is worth.

A price makes changes of different kinds comparable. A number (deadline, nodes, node-hours, cost) costs its
relative change: twice the deadline costs 1. A tier that is allowed after all, one that is no longer excluded
and a stage that is no longer pinned cost 1 each. A confidence costs the share of it that is given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from itertools import combinations
from typing import Any, NamedTuple

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Configuration

AMOUNTS = {"deadline_s": "makespan", "max_node_hours": "node_hours", "max_cost": "cost"}
"""The constraints that limit an amount, each with the objective that is that amount."""
LEAST_CONFIDENCE = 1e-9
"""Kept by any configuration that keeps the deadline in a single draw."""
NUMBERS = (*AMOUNTS, "confidence")
"""The constraints that are a number without steps."""
DIGITS = 3
"""Significant digits of a proposed number, rounded so that it is met: at most 1 % too much."""

_ROUND_UP = Context(prec=DIGITS, rounding=ROUND_CEILING)
_ROUND_DOWN = Context(prec=DIGITS, rounding=ROUND_FLOOR)


class Change(NamedTuple):
    """One constraint loosened: the new value of its field in the request, and the price."""

    name: str
    value: Any
    price: float


_LOOSENED = (
    "deadline_s",
    "max_nodes",
    "allow",
    "exclude",
    "pin",
    "confidence",
    "max_node_hours",
    "max_cost",
)


def asked_constraints(request: QoSRequest) -> tuple[str, ...]:
    """Return the constraints that ``request`` makes and that can be loosened, in the order of its fields."""
    free = QoSRequest()
    # Without a deadline a confidence asks for nothing.
    empty = {"confidence"} if request.deadline_s is None else set()
    return tuple(
        name for name in _LOOSENED if name not in empty and getattr(request, name) != getattr(free, name)
    )


def without(request: QoSRequest, names: Sequence[str]) -> QoSRequest:
    """Return the request without the constraints ``names``: the most that loosening them can do.

    A deadline stays one that is kept by chance, however small: without a confidence at all it would be
    compared with the estimate, and that asks for more.
    """
    free = QoSRequest()
    loose = replace(request, **{name: getattr(free, name) for name in names})
    by_chance = "confidence" in names and loose.deadline_s is not None
    return replace(loose, confidence=LEAST_CONFIDENCE) if by_chance else loose


def applied(request: QoSRequest, changes: Sequence[Change]) -> QoSRequest:
    """Return the request with ``changes``."""
    return replace(request, **{change.name: change.value for change in changes})


def is_met(request: QoSRequest, name: str, amount: float) -> bool:
    """Return whether the number ``name`` of a request allows for an amount, or a probability, as it is."""
    asked = getattr(request, name)
    return bool(amount >= asked if name == "confidence" else amount <= asked)


def limit(request: QoSRequest, name: str, amount: float) -> Change:
    """Return the change of a number to the nearest round one that allows for ``amount``."""
    # The nearest float of a decimal that is not below `amount` is not below it either.
    if name == "confidence":
        value = float(_ROUND_DOWN.create_decimal_from_float(amount))
        return Change(name, value, 1 - value / getattr(request, name))
    value = float(_ROUND_UP.create_decimal_from_float(amount))
    return Change(name, value, value / getattr(request, name) - 1)


def options(model: Model, request: QoSRequest, name: str, size: int) -> Iterator[Change]:
    """Yield the ways to loosen a constraint that is no number: node counts, ascending, or ``size`` names."""
    if name == "max_nodes":
        limit_nodes = request.max_nodes or 0
        larger = [nodes for nodes in model.nodes if nodes > limit_nodes] if size == 1 else []
        yield from (Change(name, nodes, nodes / limit_nodes - 1) for nodes in larger)
    elif name == "allow":
        allowed = request.allow or ()
        more = [tier for tier in model.catalog.names if tier not in allowed]
        yield from (Change(name, (*allowed, *tiers), size) for tiers in combinations(more, size))
    elif name == "exclude":
        for tiers in combinations(dict.fromkeys(request.exclude), size):
            yield Change(name, tuple(tier for tier in request.exclude if tier not in tiers), size)
    elif name == "pin":
        for stages in combinations(request.pin, size):
            kept = {stage: tier for stage, tier in request.pin.items() if stage not in stages}
            yield Change(name, kept, size)


def admitting(request: QoSRequest, name: str, configuration: Configuration) -> Iterator[Change]:
    """Yield what must change in a constraint, no number, to let a configuration in: one name at a time."""
    taken = dict.fromkeys(configuration.tiers.values())
    if name == "max_nodes" and request.max_nodes is not None and configuration.nodes > request.max_nodes:
        yield Change(name, configuration.nodes, configuration.nodes / request.max_nodes - 1)
    elif name == "allow":
        allowed = request.allow or ()
        yield from (Change(name, (*allowed, tier), 1) for tier in taken if tier not in allowed)
    elif name == "exclude":
        for tier in taken:
            if tier in request.exclude:
                yield Change(name, tuple(other for other in request.exclude if other != tier), 1)
    elif name == "pin":
        for stage, pinned in request.pin.items():
            if configuration.tiers[stage] != pinned:
                yield Change(name, {s: tier for s, tier in request.pin.items() if s != stage}, 1)


def joined(request: QoSRequest, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return changes of one name each, no numbers, as one change per constraint."""
    together: dict[str, Change] = {}
    for name, value, price in changes:
        before = together.get(name)
        if before is None:
            together[name] = Change(name, value, price)
        elif name == "allow":
            more = tuple(tier for tier in value if tier not in before.value)
            together[name] = Change(name, (*before.value, *more), before.price + price)
        else:
            kept = [item for item in before.value if item in value]
            both = {stage: request.pin[stage] for stage in kept} if name == "pin" else tuple(kept)
            together[name] = Change(name, both, before.price + price)
    return tuple(together.values())


def is_within(smaller: Change, larger: Change) -> bool:
    """Return whether ``larger`` loosens the same constraint at least as much as ``smaller``."""
    if smaller.name != larger.name:
        return False
    if smaller.name == "allow":
        return set(smaller.value) <= set(larger.value)
    if smaller.name == "exclude":
        return set(smaller.value) >= set(larger.value)
    if smaller.name == "pin":
        return set(larger.value) <= set(smaller.value)
    if smaller.name == "confidence":
        return bool(smaller.value >= larger.value)
    return bool(smaller.value <= larger.value)


def in_words(request: QoSRequest, change: Change) -> str:
    """Say a change, as in ``a deadline of 13.9 s`` or ``tmpfs allowed``.

    >>> in_words(QoSRequest(deadline_s=1.0), Change("deadline_s", 13.9, 12.9))
    'a deadline of 13.9 s'
    """
    name, value = change.name, change.value
    if name in _NUMBER_WORDS:
        return _NUMBER_WORDS[name].format(f"{value:g}")
    if name == "max_nodes":
        return f"up to {value} node{'' if value == 1 else 's'}"
    if name == "allow":
        return f"{_listed(tier for tier in value if tier not in (request.allow or ()))} allowed"
    if name == "exclude":
        return f"{_listed(tier for tier in request.exclude if tier not in value)} no longer excluded"
    return f"{_listed(stage for stage in request.pin if stage not in value)} no longer pinned"


_NUMBER_WORDS = {
    "deadline_s": "a deadline of {} s",
    "max_node_hours": "up to {} node-hours",
    "max_cost": "a cost of up to {}",
    "confidence": "a confidence of {}",
}


def _listed(names: Iterator[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def changes_to_json(changes: Sequence[Change]) -> Mapping[str, Any]:
    """Return changes as fields of a request in plain JSON."""
    return {
        change.name: list(change.value) if isinstance(change.value, tuple) else change.value
        for change in changes
    }
