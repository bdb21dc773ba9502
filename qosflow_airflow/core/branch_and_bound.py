"""The best configurations without looking at all of them.

The space is cut into boxes: a set of tiers per stage, at one node count. Every box has a bound: nothing in it
comes earlier in the order of preference. The box with the lowest bound is cut next, whatever its node count;
what comes out of the queue as a single configuration is the best of all that are left. Nothing is thrown away
but what cannot meet the request, so that going on gives the second best, and so forth.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.bounds import BoolArray, CellBounds, bounds_of
from qosflow_airflow.core.candidate import Candidate, feasible_makespan_s, rank
from qosflow_airflow.core.capacity_bounds import CapacityBounds
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.request_bounds import RequestBounds, tiers_allowed
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray

SMALL = 1024
"""A box of at most so many layouts is looked at as a whole."""
WIDTH = 16
"""Boxes that are bounded together at most."""
MAX_BOXES = 4000
"""Boxes that are cut in vain before a search is given up: several seconds of work."""
DIVES = 8
"""Boxes that are then looked into for a configuration, down to the end."""


class _Box(NamedTuple):
    """Layouts at one scale: the tiers that each stage may take (S x T)."""

    scale: int
    tiers: BoolArray


class _Leaves(NamedTuple):
    """Configurations after the one that waits, best first."""

    others: Iterator[Candidate]


class _Entry(NamedTuple):
    """What waits: nothing in it comes before ``bound``; ``number`` keeps contents from being compared."""

    bound: Candidate
    number: int
    content: _Box | _Leaves


class _Cells(NamedTuple):
    """Bounds of a box with one stage on one tier, F x T; infinite where that cannot be."""

    stages: list[int]
    objective: FloatArray
    makespan_s: FloatArray
    least: tuple[float, float]
    """The bounds of the whole box."""

    @classmethod
    def of(cls, tiers: BoolArray, stages: list[int], objective: FloatArray, makespan_s: FloatArray) -> _Cells:
        """Leave out what is not among ``tiers``; what no tier of some stage can do without bounds all."""
        objective = np.where(tiers[stages], objective, np.inf)
        makespan_s = np.where(tiers[stages], makespan_s, np.inf)
        least = float(objective.min(axis=1).max()), float(makespan_s.min(axis=1).max())
        return cls(stages, objective, makespan_s, least)

    def reaching(self, tiers: BoolArray, objective: float) -> BoolArray:
        """Return the tiers of a box that a configuration of at most ``objective`` may take."""
        left = tiers.copy()
        left[self.stages] = self.objective <= objective
        return left


class _Scale(NamedTuple):
    """What is evaluated and bounded at one node count; ``capacity`` where data may not fit."""

    makespans: MakespanModel
    bounds: CellBounds
    capacity: CapacityBounds | None

    @classmethod
    def of(cls, makespans: MakespanModel) -> _Scale:
        capacity = CapacityBounds(makespans.capacity) if makespans.capacity.limited else None
        if capacity is None or not capacity.matter:
            return cls(makespans, bounds_of(makespans), None)
        impossible = capacity.impossible_pairs(len(makespans.times.edges))
        return cls(makespans, bounds_of(makespans, impossible), capacity)


@dataclass
class BranchAndBound:
    """Best-first branch and bound over boxes of tiers."""

    model: Model
    method: str = "branch and bound"
    most_boxes: int = MAX_BOXES

    def __post_init__(self) -> None:
        self._gave_up: list[tuple[QoSRequest, float]] = []
        self._scales = [_Scale.of(self.model.makespans(nodes)) for nodes in self.model.nodes]

    def in_order(self, request: QoSRequest) -> Iterator[Candidate]:
        """Yield all configurations that meet ``request``, best first.

        When ``most_boxes`` were cut without a next one, the best that are known are yielded and the search
        ends; :meth:`lower_bound` says so.
        """
        queue = Queue(self.model, request, self._scales)
        for candidate in queue.candidates(self.most_boxes):
            self._note(request, queue)
            yield candidate
        self._note(request, queue)

    def lower_bound(self, request: QoSRequest) -> float | None:
        """Return what no configuration is below, where the search gave up; ``None`` where all is proven."""
        return next((bound for asked, bound in self._gave_up if asked == request), None)

    def _note(self, request: QoSRequest, queue: Queue) -> None:
        if queue.gave_up_at is not None and self.lower_bound(request) is None:
            self._gave_up.append((request, queue.gave_up_at))


class Queue:
    """What is left of a space for one request: boxes and single configurations.

    ``boxes_bounded`` counts the boxes for which bounds were computed. ``gave_up_at`` is the least objective
    that may be left where the search was given up.
    """

    def __init__(
        self,
        model: Model,
        request: QoSRequest,
        scales: list[_Scale],
    ) -> None:
        self.boxes_bounded = 0
        self.gave_up_at: float | None = None
        self._model = model
        self._space = model.space
        self._request = request
        self._scales = scales
        self._limits = [RequestBounds(model.catalog, each.makespans.times, request) for each in scales]
        self._entries: list[_Entry] = []
        self._numbers = count()
        tiers = tiers_allowed(model, request)
        for scale, nodes in enumerate(model.nodes):
            if tiers.any(axis=1).all() and (request.max_nodes is None or nodes <= request.max_nodes):
                self._push(Candidate(0.0, 0.0, nodes, ()), _Box(scale, tiers))

    def candidates(self, most_boxes: int = sys.maxsize) -> Iterator[Candidate]:
        """Yield configurations, best first; after ``most_boxes`` in vain, only the best that are known."""
        width, cut = 1, 0
        while self._entries:
            bound, _, content = heapq.heappop(self._entries)
            if isinstance(content, _Leaves):
                yield bound
                self._push_leaves(content.others)
                width, cut = 1, 0
            elif cut >= most_boxes:
                self.gave_up_at = bound.objective
                self._push(bound, content)
                yield from self._known()
                return
            else:
                # The longer nothing comes out, the more boxes will have to be cut before something does.
                boxes = [content, *self._next_boxes(content.scale, width - 1)]
                self._cut(boxes)
                width, cut = min(2 * width, WIDTH), cut + len(boxes)

    def _known(self) -> list[Candidate]:
        """Return configurations that are known, best first, after a look straight down into some boxes."""
        waiting, found = self._entries, []
        for entry in heapq.nsmallest(DIVES, waiting):
            self._entries = [entry]
            while self._entries and isinstance(content := self._entries[0].content, _Box):
                self._entries = []
                self._cut([content])
            found += [entry for entry in self._entries if isinstance(entry.content, _Leaves)]
        self._entries = []
        found += [entry for entry in waiting if isinstance(entry.content, _Leaves)]
        return sorted({entry.bound for entry in found})

    def _next_boxes(self, scale: int, wanted: int) -> list[_Box]:
        """Take the boxes of ``scale`` that come next, up to a configuration or another scale."""
        found: list[_Box] = []
        while len(found) < wanted and self._entries:
            content = self._entries[0].content
            if isinstance(content, _Leaves) or content.scale != scale:
                break
            heapq.heappop(self._entries)
            found.append(content)
        return found

    def _cut(self, boxes: list[_Box]) -> None:
        """Replace boxes of one scale by their configurations, where these are few, or by smaller boxes."""
        large = []
        for box in boxes:
            if np.prod(box.tiers.sum(axis=1), dtype=np.float64) <= SMALL:
                self._push_leaves(self._all_of(box))
            else:
                large.append(box)
        if not large:
            return
        tiers = np.stack([box.tiers for box in large], axis=2)
        stages = np.flatnonzero((tiers.sum(axis=1) > 1).any(axis=1)).tolist()
        makespan_s = self._scales[large[0].scale].bounds.cells(tiers, stages)
        self.boxes_bounded += len(large)
        for at, box in enumerate(large):
            self._cut_one(box, stages, makespan_s[:, :, at].T)

    def _all_of(self, box: _Box) -> Iterator[Candidate]:
        """Yield the configurations of a small box that meet the request, best first."""
        layouts = _layouts(box.tiers)
        return self._ranked(box.scale, layouts[self._space.valid(layouts)])

    def _ranked(self, scale: int, layouts: Layouts) -> Iterator[Candidate]:
        makespans = self._scales[scale].makespans
        makespan_s = feasible_makespan_s(makespans, layouts)
        rows, objective = rank(self._model, self._request, makespans.times, layouts, makespan_s)
        nodes = makespans.times.nodes
        for row in rows:
            layout = tuple(layouts[row].tolist())
            yield Candidate(float(objective[row]), float(makespan_s[row]), nodes, layout)

    def _cut_one(self, box: _Box, stages: list[int], makespan_s: FloatArray) -> None:
        """Cut one box by the bounds of its cells (F x T)."""
        objective, within = self._limits[box.scale].of_cells(box.tiers, stages, makespan_s)
        tiers = box.tiers.copy()
        tiers[stages] = within
        tiers = self._fitting(box.scale, tiers)
        if not tiers.any(axis=1).all():
            return
        box = _Box(box.scale, tiers)
        cells = self._with_room(box, _Cells.of(tiers, stages, objective, makespan_s))
        best = self._best_of(box, cells)
        if best is not None:
            self._push_leaves(iter([best]))
            self._push_without(box, cells, best)
            return
        at = _most_telling(cells)
        for tier in np.flatnonzero(tiers[stages[at]]):
            self._push_part(box, cells, at, _only(tiers, stages[at], int(tier)))

    def _fitting(self, scale: int, tiers: BoolArray) -> BoolArray:
        capacity = self._scales[scale].capacity
        return tiers if capacity is None or not tiers.any(axis=1).all() else capacity.fitting(tiers)

    def _with_room(self, box: _Box, cells: _Cells) -> _Cells:
        """Raise the bound of a box until the tiers that reach it have room for the data."""

        def has_room(objective: float) -> bool:
            reaching = cells.reaching(box.tiers, objective)
            return bool(self._fitting(box.scale, reaching).any(axis=1).all())

        if self._scales[box.scale].capacity is None or has_room(cells.least[0]):
            return cells
        steps = np.unique(cells.objective[np.isfinite(cells.objective)])
        steps = steps[steps > cells.least[0]].tolist()
        at = bisect_left(steps, True, hi=len(steps) - 1, key=has_room)
        return cells._replace(least=(steps[at], cells.least[1]))

    def _best_of(self, box: _Box, cells: _Cells) -> Candidate | None:
        """Return the best configuration of a box where it reaches the bound, else ``None``."""
        least = cells.least
        reaching = self._fitting(box.scale, cells.reaching(box.tiers, least[0]))
        # Whatever reaches the bound takes these tiers only, and the first of them comes first.
        row = reaching.argmax(axis=1).astype(np.int8)[None]
        if not self._space.valid(row)[0]:
            return None
        found = next(self._ranked(box.scale, row), None)
        return found if found is not None and found[:2] == least else None

    def _push_without(self, box: _Box, cells: _Cells, best: Candidate) -> None:
        """Push the rest of a box: what differs from ``best`` first in this stage, or in that."""
        tiers = box.tiers
        for at, stage in enumerate(cells.stages):
            rest = tiers.copy()
            rest[stage, best.layout[stage]] = False
            self._push_part(box, cells, at, rest)
            tiers = _only(tiers, stage, best.layout[stage])

    def _push_part(self, box: _Box, cells: _Cells, at: int, tiers: BoolArray) -> None:
        """Push ``tiers`` out of a box; what they leave of the stage at ``at`` raises their bound."""
        left = tiers[cells.stages[at]]
        if not left.any():
            return
        objective, makespan_s = cells.least
        bound = Candidate(
            max(objective, float(cells.objective[at, left].min())),
            max(makespan_s, float(cells.makespan_s[at, left].min())),
            self._model.nodes[box.scale],
            tuple(tiers.argmax(axis=1).tolist()),
        )
        self._push(bound, _Box(box.scale, tiers))

    def _push(self, bound: Candidate, content: _Box | _Leaves) -> None:
        heapq.heappush(self._entries, _Entry(bound, next(self._numbers), content))

    def _push_leaves(self, candidates: Iterator[Candidate]) -> None:
        first = next(candidates, None)
        if first is not None:
            self._push(first, _Leaves(candidates))


def _only(tiers: BoolArray, stage: int, tier: int) -> BoolArray:
    """Return the tiers with one stage on one of them."""
    fixed = tiers.copy()
    fixed[stage] = False
    fixed[stage, tier] = True
    return fixed


def _most_telling(cells: _Cells) -> int:
    """Return the position of the stage whose tiers raise the bound most, the first declared on ties."""
    least = cells.least[0]
    allowed = np.isfinite(cells.objective)
    # A tier that is impossible, or far too long, tells no more than one that doubles the bound.
    raised = np.where(allowed, np.minimum(cells.objective - least, least), 0.0)
    choices = allowed.sum(axis=1)
    return int(np.argmax(np.where(choices > 1, raised.sum(axis=1) / choices, -1.0)))


def _layouts(tiers: BoolArray) -> Layouts:
    """Return every layout of a box, in the order of the space."""
    choices = [np.flatnonzero(row).astype(np.int8) for row in tiers]
    grid = np.indices([len(choice) for choice in choices]).reshape(len(choices), -1)
    columns = [choice[at] for choice, at in zip(choices, grid, strict=True)]
    return np.ascontiguousarray(np.stack(columns, axis=1))
