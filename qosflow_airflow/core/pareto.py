"""What time, node-hours and money can be traded for each other: the configurations that nothing dominates.

A configuration is on the front when no other one that meets the request is at least as good in makespan,
node-hours and, where prices are known, cost, and better in one of them.

At one node count node-hours grow with the makespan, and so does cost where storage is free: per limit to the
nodes the fastest configuration is enough. Where tiers have prices, a slower layout may be cheaper. Then, per
limit to the nodes, the cheapest configuration is asked for under a deadline that is shortened step by step,
each time to just below what was found, until nothing is left. When that takes too many steps, a step is as
large as :func:`front` says in its ``epsilon``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, islice
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.confidence import EVEN_CHANCE, ConfidentSearch
from qosflow_airflow.core.cost import SECONDS_PER_HOUR, check_priced, money
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.exceptions import RequestError

MAX_POINTS = 12
"""Points that are listed at most."""
MAX_STEPS = 48
"""Deadlines per limit to the nodes up to which a front with storage prices is followed point by point."""
MAX_STEPS_LARGE = 4
"""The same in a space that is too large to look at all of it, where each of them takes a search."""
COARSE_STEPS = 8
"""Deadlines per limit to the nodes beyond that."""
EPSILONS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares by which points may be worse than those that they stand for, tried in this order."""

MAX_DRAWN = 200
"""Configurations drawn for one point at most, where a confidence is asked for."""


class Point(NamedTuple):
    """A configuration and what it takes; ``cost`` is ``None`` where prices are not known."""

    makespan_s: float
    node_hours: float
    cost: float | None
    nodes: int
    layout: tuple[int, ...]

    @property
    def amounts(self) -> tuple[float, ...]:
        """What is to be small."""
        known = (self.makespan_s, self.node_hours)
        return known if self.cost is None else (*known, self.cost)


class Front(NamedTuple):
    """Points by makespan, ascending.

    ``epsilon`` is the share by which, in any amount, the point that stands for a configuration may be worse
    than it; 0 says that all of them are there. ``knee`` is the position of the point from which either
    direction costs much. A front that is not ``complete`` may lack more: the search gave up, or too few
    configurations were sure enough of the deadline to look at all of them.
    """

    points: tuple[Point, ...]
    epsilon: float
    knee: int
    complete: bool = True


def find_front(search: ConfidentSearch, request: QoSRequest, chosen: Candidate) -> Front:
    """Return the front under the constraints of ``request``, in at most ``MAX_POINTS``.

    ``chosen`` is a configuration that meets them: there is always a front.
    """
    sweep = _Sweep(search, request)
    points, epsilon = thinned(not_dominated(chain([sweep.point(chosen)], sweep.points())))
    # A point stands for one that stands for others: the two shares add up.
    return Front(points, (1 + epsilon) * (1 + sweep.epsilon) - 1, knee_of(points), sweep.complete)


def front_to_json(model: Model, front: Front) -> dict[str, Any]:
    """Return a front as plain JSON."""
    return {
        "points": [
            {
                "configuration": model.space.configuration(
                    point.nodes, np.array(point.layout, dtype=np.int8)
                ).to_json(),
                "makespan_s": point.makespan_s,
                "node_hours": point.node_hours,
                "cost": point.cost,
                "knee": position == front.knee,
            }
            for position, point in enumerate(front.points)
        ],
        "epsilon": front.epsilon,
        "complete": front.complete and front.epsilon == 0,
    }


def not_dominated(points: Iterator[Point]) -> tuple[Point, ...]:
    """Return the points that nothing dominates, one of those that are equal, by makespan."""
    kept: list[Point] = []
    for point in sorted(set(points), key=lambda point: (point.amounts, point.nodes, point.layout)):
        # What comes later is no better in the first amount, so that it cannot dominate what is kept.
        if not any(_covers(other, point, 0.0) for other in kept):
            kept.append(point)
    return tuple(kept)


def thinned(points: tuple[Point, ...], limit: int = MAX_POINTS) -> tuple[tuple[Point, ...], float]:
    """Return at most ``limit`` points, and the share by which they may be worse than those they stand for.

    The best of each amount stay, and so does the knee.
    """
    if len(points) <= limit:
        return points, 0.0
    ends = {min(range(len(points)), key=lambda at: points[at].amounts[axis]) for axis in _axes(points)}
    ends.add(knee_of(points))
    for epsilon in (*EPSILONS[1:], math.inf):
        kept = set(ends)
        for at, point in enumerate(points):
            if not any(_covers(points[other], point, epsilon) for other in kept):
                kept.add(at)
        if len(kept) <= limit:
            break
    listed = tuple(points[at] for at in sorted(kept))
    return listed, _share(points, listed)


def knee_of(points: tuple[Point, ...]) -> int:
    """Return the position of the knee.

    Both axes, makespan and what it costs (money where it is known, else node-hours), are logarithms scaled to
    0..1 between the ends of the front. The knee is the point farthest below the chord from end to end; of two
    points alike, the faster one.
    """
    time = _scaled([point.makespan_s for point in points])
    spent = _scaled([point.node_hours if point.cost is None else point.cost for point in points])
    return max(range(len(points)), key=lambda at: (1 - time[at] - spent[at], -at))


class _Sweep:
    """Points of the front, and the share by which others may be better than they are."""

    def __init__(self, search: ConfidentSearch, request: QoSRequest) -> None:
        self.search = search
        self.model = search.model
        self.epsilon = 0.0
        self.complete = True
        self._sure = request
        # A shorter deadline than the one asked for is compared with the estimate; how sure a configuration is
        # of the one asked for is looked at apart.
        free = replace(request, confidence=None)
        unsure = request.confidence is not None and request.confidence < EVEN_CHANCE
        self.request = replace(free, deadline_s=None) if unsure else free
        is_small = isinstance(search.search, Enumeration)
        self._max_steps = MAX_STEPS if is_small else MAX_STEPS_LARGE
        self._is_priced = is_priced(self.model)
        self._stores_for_money = self._is_priced and any(
            tier.price_per_gib_hour for tier in self.model.catalog.tiers
        )

    def points(self) -> Iterator[Point]:
        """Yield every point of the front, and maybe others."""
        limit = self.request.max_nodes or max(self.model.nodes)
        for nodes in reversed(self.model.nodes):
            if nodes > limit:
                continue
            asked = replace(self.request, max_nodes=nodes, objective="makespan")
            fastest = self._ask(asked)
            if fastest is None:
                return
            yield self.point(fastest)
            if self._stores_for_money:
                yield from self._cheaper(asked, fastest.makespan_s)
            else:
                # More nodes than the fastest takes only take more node-hours.
                limit = min(limit, fastest.nodes - 1)

    def _cheaper(self, asked: QoSRequest, fastest_s: float) -> Iterator[Point]:
        """Yield the cheapest configuration, then the cheapest that is faster, and so on to the fastest."""
        deadline_s, ratio = self.request.deadline_s, 1.0
        for step in count(1):
            found = self._ask(replace(asked, objective="cost", deadline_s=deadline_s))
            if found is None:
                return
            yield self.point(found)
            if found.makespan_s <= fastest_s:
                return
            if step == self._max_steps and fastest_s > 0:
                ratio = (found.makespan_s / fastest_s) ** (1 / COARSE_STEPS)
                self.epsilon = max(self.epsilon, ratio - 1)
            shorter_s = min(found.makespan_s / ratio, math.nextafter(found.makespan_s, 0))
            deadline_s = max(shorter_s, fastest_s)

    def _ask(self, asked: QoSRequest) -> Candidate | None:
        """Return the best configuration that is sure enough of the deadline that was asked for."""
        sure = self._sure
        candidates = self.search.search.in_order(asked)
        if sure.confidence is None or sure.deadline_s is None:
            found = next(candidates, None)
            missed = self.search.search.lower_bound(asked)
            if missed is not None and (found is None or missed < found.objective):
                self.complete = False
            return found
        for candidate in islice(candidates, MAX_DRAWN):
            if self.search.probability(candidate, sure.deadline_s) >= sure.confidence:
                return candidate
        self.complete = self.complete and next(candidates, None) is None
        return None

    def point(self, found: Candidate) -> Point:
        """Return what a configuration takes."""
        hours = found.nodes * found.makespan_s / SECONDS_PER_HOUR
        return Point(found.makespan_s, hours, self._cost(found), found.nodes, found.layout)

    def _cost(self, found: Candidate) -> float | None:
        if not self._is_priced:
            return None
        layouts = np.array([found.layout], dtype=np.int8)
        times = self.model.scale(found.nodes).times
        return float(money(self.model.catalog, times, layouts, np.array([found.makespan_s]))[0])


def is_priced(model: Model) -> bool:
    """Return whether money is known for every configuration."""
    try:
        for scale in model.scales:
            check_priced(model.catalog, scale.times)
    except RequestError:
        return False
    return True


def _covers(point: Point, other: Point, epsilon: float) -> bool:
    """Return whether a point is, in every amount, at most the share ``epsilon`` worse than another."""
    return all(mine <= its * (1 + epsilon) for mine, its in zip(point.amounts, other.amounts, strict=True))


def _share(points: tuple[Point, ...], listed: tuple[Point, ...]) -> float:
    """Return the smallest share by which every point is covered by a listed one."""
    worst = 0.0
    for point in points:
        worst = max(worst, min(_worse(other, point) for other in listed))
    return worst


def _worse(point: Point, other: Point) -> float:
    """Return the share by which a point is worse than another in its worst amount, at least 0."""
    shares = [0.0]
    for mine, its in zip(point.amounts, other.amounts, strict=True):
        if mine > its:
            shares.append(mine / its - 1 if its > 0 else math.inf)
    return max(shares)


def _axes(points: tuple[Point, ...]) -> range:
    return range(len(points[0].amounts))


def _scaled(values: list[float]) -> list[float]:
    """Return logarithms scaled to 0..1; all 0 where there is no difference."""
    smallest = min((value for value in values if value > 0), default=1.0)
    logs = [math.log(max(value, smallest)) for value in values]
    low, high = min(logs), max(logs)
    return [(log - low) / (high - low) if high > low else 0.0 for log in logs]
