"""Frozen classes beside those that Python makes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import pytest

from qosflow_airflow.core.frozen import frozen


@frozen
class Point:
    """A value with a default, a list of its own, and something that is worked out once."""

    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list)

    @cached_property
    def total(self) -> int:
        """Both together."""
        return self.x + self.y


@frozen
class Named(Point):
    """One with a field more."""

    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"({self.x}, {self.y})")


def plain(cls: type[Any]) -> Any:
    """The same class as Python makes it."""
    body = {"__annotations__": {"x": int, "y": int}, "y": 2, "__qualname__": cls.__qualname__}
    return dataclass(frozen=True)(type(cls.__name__, (), body))


@frozen
class Pair:
    x: int
    y: int = 2


@pytest.mark.parametrize("ask", [repr, hash, asdict, lambda one: one == type(one)(1, 2), fields])
def test_it_is_compared_hashed_and_shown_as_python_s_own(ask: Callable[[Any], Any]) -> None:
    own, pythons = ask(Pair(1)), ask(plain(Pair)(1))
    if ask is fields:
        own, pythons = ([(one.name, one.default) for one in found] for found in (own, pythons))
    assert own == pythons
    assert Pair(1) != Pair(2)
    assert Pair(1) != plain(Pair)(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_nothing_of_it_can_be_changed() -> None:
    point = Point(1)
    assert (point.total, point.total) == (3, 3)
    for name in ("x", "total", "other"):
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(point, name, 5)
    with pytest.raises(FrozenInstanceError, match="x"):
        del point.x
    assert (point, replace(point, x=5)) == (Point(1), Point(5))
    assert point.seen is not Point(1).seen


def test_it_can_be_inherited_from_and_completed_when_it_is_made() -> None:
    named = Named(1, 3)
    assert repr(named) == "Named(x=1, y=3, seen=[], name='(1, 3)')"
    assert named != Point(1, 3)
    assert replace(named, name="here").name == "here"


def test_copies_and_pickles_are_equal() -> None:
    named = Named(1, 3, [4])
    assert copy.copy(named) == copy.deepcopy(named) == pickle.loads(pickle.dumps(named)) == named
