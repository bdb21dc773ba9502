"""The best configurations without looking at all of them.

The space is cut into boxes: a set of tiers per stage, at one node count. Every box has a bound: nothing in it
comes earlier in the order of preference. The box with the lowest bound is cut next, whatever its node count;
what comes out of the queue as a single configuration is the best of all that are left. Nothing is thrown away
but what cannot meet the request, so that going on gives the second best, and so forth.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.bounds import BoolArray, CellBounds, bounds_of
from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.capacity_bounds import CapacityBounds
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.ranked_layouts import Effort, RankedLayouts
from qosflow_airflow.core.request_bounds import RequestBounds, tiers_allowed
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tier_boxes import Box, Cells, neighbours, only, single
from qosflow_airflow.core.transfer import FloatArray

SMALL = 1024
"""A box of at most so many layouts is looked at as a whole."""
WIDTH = 16
"""Boxes that are bounded together at most."""
FEWER = 0.05
"""Share of a box's choices from which on it is worth bounding again without them."""
MAX_WORK = 2e8
"""Numbers that are looked at in vain, about, before a search is given up: a few seconds."""
WORK_OF_CAPACITY = 20
"""How often capacities are looked at, and how much longer that takes, per box."""
DIVES = 8
"""Boxes that are then looked into for a configuration, down to the end."""


class Scale(NamedTuple):
    """What is evaluated and bounded at one node count; ``capacity`` only where data may not fit."""

    makespans: MakespanModel
    bounds: CellBounds
    capacity: CapacityBounds | None

    @classmethod
    def of(cls, makespans: MakespanModel) -> Scale:
        """Sum up the costs of a scale, and what cannot be on its tiers together."""
        capacity = CapacityBounds(makespans.capacity) if makespans.capacity.limited else None
        if capacity is None or not capacity.matter:
            return cls(makespans, bounds_of(makespans), None)
        impossible = capacity.impossible_pairs(len(makespans.times.edges))
        return cls(makespans, bounds_of(makespans, impossible), capacity)

    @property
    def work(self) -> float:
        """How many numbers are about looked at to bound a box."""
        stages, tiers = self.makespans.costs.execution_s.shape
        bounds = self.makespans.costs.delay_s.size * stages * tiers
        return float(bounds + (0 if self.capacity is None else WORK_OF_CAPACITY * self.capacity.size))

    def ranked(self, model: Model, layouts: Layouts, effort: Effort) -> RankedLayouts:
        """Return layouts to be ordered, without those that are not allowed or whose data does not fit."""
        excluded = ~model.space.valid(layouts)
        if self.capacity is not None:
            excluded |= self.makespans.capacity.fit(layouts).over
        return RankedLayouts.of(model, self.makespans, layouts, excluded, effort)

    def fitting(self, tiers: BoolArray) -> BoolArray:
        """Return the tiers of a box that a stage can take so that the data may still fit."""
        if self.capacity is None or not tiers.any(axis=1).all():
            return tiers
        return self.capacity.fitting(tiers)


@dataclass
class BranchAndBound:
    """Best-first branch and bound over boxes of tiers.

    ``most_work`` is done in vain before a search is given up; see :attr:`Scale.work`.
    """

    model: Model
    method: str = "branch and bound"
    most_work: float = MAX_WORK

    def __post_init__(self) -> None:
        self._gave_up: list[tuple[QoSRequest, float]] = []
        self.scales = [Scale.of(self.model.makespans(nodes)) for nodes in self.model.nodes]

    def in_order(self, request: QoSRequest) -> Iterator[Candidate]:
        """Yield all configurations that meet ``request``, best first.

        After ``most_work`` without a next one, the best that are known are yielded and the search
        ends; :meth:`lower_bound` says so.
        """
        queue = Queue(self.model, request, self.scales)
        for candidate in queue.candidates(self.most_work):
            self._note(request, queue)
            yield candidate
        self._note(request, queue)

    def lower_bound(self, request: QoSRequest) -> float | None:
        """Return what no configuration is below, where the search gave up; ``None`` where all is proven."""
        return next((bound for asked, bound in self._gave_up if asked == request), None)

    def _note(self, request: QoSRequest, queue: Queue) -> None:
        if queue.gave_up_at is not None and self.lower_bound(request) is None:
            self._gave_up.append((request, queue.gave_up_at))


class _Leaves(NamedTuple):
    """Configurations of which those before ``at`` were given; ``exact``: what the next one takes is known."""

    layouts: RankedLayouts
    at: int
    exact: bool


class _Entry(NamedTuple):
    """What waits: nothing in it comes before ``bound``; ``number`` keeps contents from being compared.

    Without content it is the configuration itself.
    """

    bound: Candidate
    number: int
    content: Box | _Leaves | None


class Queue:
    """What is left of a space for one request: boxes and single configurations.

    ``boxes_bounded`` counts the boxes for which bounds were computed. ``gave_up_at`` is the least objective
    that may be left where the search was given up.
    """

    def __init__(self, model: Model, request: QoSRequest, scales: list[Scale]) -> None:
        self.boxes_bounded = 0
        self.gave_up_at: float | None = None
        self._model = model
        self._request = request
        self._scales = scales
        self._limits = [RequestBounds(model.catalog, each.makespans.times, request) for each in scales]
        self._known_least = np.inf
        self._looked_at: set[int] = set()
        self._entries: list[_Entry] = []
        self._numbers = count()
        self._effort = Effort()
        tiers = tiers_allowed(model, request)
        for scale, nodes in enumerate(model.nodes):
            if tiers.any(axis=1).all() and (request.max_nodes is None or nodes <= request.max_nodes):
                self._push(Candidate(0.0, 0.0, nodes, ()), Box(scale, tiers))

    def candidates(self, most_work: float = np.inf) -> Iterator[Candidate]:
        """Yield configurations, best first; after ``most_work`` in vain, only the best that are known.

        Every node count is looked into before: where nothing is known of one, nothing is known of all.
        """
        width, effort = 1, self._effort
        effort.numbers = 0.0
        while self._entries:
            bound, _, content = heapq.heappop(self._entries)
            if content is None or (isinstance(content, _Leaves) and content.exact):
                yield bound
                if content is not None:
                    self._push_leaves(content.layouts, content.at + 1)
                width, effort.numbers = 1, 0.0
            elif effort.numbers >= most_work and bound.layout:
                self.gave_up_at = bound.objective
                self._push(bound, content)
                yield from self._known()
                return
            elif isinstance(content, _Leaves):
                content.layouts.look_at_more(self._request)
                self._push_leaves(content.layouts, content.at)
            else:
                # The longer nothing comes out, the more boxes will have to be cut before something does.
                boxes = [content, *self._next_boxes(content.scale, width - 1)]
                self._cut(boxes)
                width = min(2 * width, WIDTH)
                effort.numbers += len(boxes) * self._scales[content.scale].work

    def _known(self) -> list[Candidate]:
        """Return configurations that are known, best first, after a look straight down into some boxes."""
        waiting, found = self._entries, []
        for entry in heapq.nsmallest(DIVES, waiting):
            self._entries = [entry]
            while self._entries and isinstance(content := self._entries[0].content, Box):
                self._entries = []
                self._cut([content])
            found += self._entries
        self._entries = []
        candidates = set()
        for bound, _, content in found + waiting:
            if content is None:
                candidates.add(bound)
            elif isinstance(content, _Leaves):
                if not content.exact and len(candidates) < DIVES:
                    content.layouts.look_at_more(self._request)
                candidates.update(content.layouts.known(self._request)[content.at :][:1])
        return sorted(candidates)

    def _next_boxes(self, scale: int, wanted: int) -> list[Box]:
        """Take the boxes of ``scale`` that come next, up to a configuration or another scale."""
        found: list[Box] = []
        while len(found) < wanted and self._entries:
            content = self._entries[0].content
            if not isinstance(content, Box) or content.scale != scale:
                break
            heapq.heappop(self._entries)
            found.append(content)
        return found

    def _cut(self, boxes: list[Box]) -> None:
        """Replace boxes of one scale by their configurations, where these are few, or by smaller boxes."""
        large = []
        for box in boxes:
            if box.size <= SMALL:
                self._push_leaves(self._layouts(box.scale, box.layouts()))
            else:
                large.append(box)
        if not large:
            return
        tiers = np.stack([box.tiers for box in large], axis=2)
        stages = np.flatnonzero((tiers.sum(axis=1) > 1).any(axis=1)).tolist()
        makespan_s = self._scales[large[0].scale].bounds.cells(tiers, stages)
        self.boxes_bounded += len(large)
        bounded = [self._bounded(box, stages, makespan_s[:, :, at].T) for at, box in enumerate(large)]
        self._cut_bounded([each for each in bounded if each is not None])

    def _bounded(self, box: Box, stages: list[int], makespan_s: FloatArray) -> tuple[Box, Cells] | None:
        """Return what is left of a box by the bounds of its cells (F x T seconds); ``None`` for nothing."""
        objective, within = self._limits[box.scale].of_cells(box.tiers, stages, makespan_s)
        tiers = box.tiers.copy()
        tiers[stages] = within
        tiers = self._scales[box.scale].fitting(tiers)
        if not tiers.any(axis=1).all():
            return None
        box = Box(box.scale, tiers)
        return box, self._with_room(box, Cells.of(tiers, stages, objective, makespan_s))

    def _cut_bounded(self, bounded: list[tuple[Box, Cells]]) -> None:
        """Cut boxes of one scale, after a look at two configurations of each."""
        if not bounded:
            return
        scale = self._scales[bounded[0][0].scale]
        firsts = []
        for box, cells in bounded:
            # Whatever reaches the bound takes these tiers only, and the first of them comes first.
            reaching = scale.fitting(cells.reaching(box.tiers, cells.least[0]))
            firsts.append(reaching.argmax(axis=1).astype(np.int8))
        promising = [cells.promising(box.tiers) for box, cells in bounded]
        found = self._each(bounded[0][0].scale, np.stack([*firsts, *promising]))
        for (box, cells), first, other in zip(
            bounded, found[: len(bounded)], found[len(bounded) :], strict=True
        ):
            if first is not None and first[:2] == cells.least:
                self._push(first, None)
                self._push_without(box, cells, single(box.tiers, first.layout))
            else:
                self._cut_one(box, cells, min((each for each in (first, other) if each), default=None))

    def _cut_one(self, box: Box, cells: Cells, known: Candidate | None) -> None:
        """Cut a box into what may be better than what is known and the rest, or by a stage's tiers."""
        tiers, stages = box.tiers, cells.stages
        kept = self._not_worse_than_known(box, cells, known)
        if tiers.sum() - kept.sum() >= FEWER * (tiers.sum() - len(tiers)) and kept.any(axis=1).all():
            self._push_without(box, cells, kept)
            self._push_box(cells.least, Box(box.scale, kept))
            return
        at = cells.most_telling()
        for tier in np.flatnonzero(tiers[stages[at]]):
            part = only(tiers, stages[at], int(tier))
            self._push_box(cells.least_of(at, part), Box(box.scale, part))

    def _with_room(self, box: Box, cells: Cells) -> Cells:
        """Raise the bound of a box until the tiers that reach it have room for the data."""
        scale = self._scales[box.scale]

        def has_room(objective: float) -> bool:
            return bool(scale.fitting(cells.reaching(box.tiers, objective)).any(axis=1).all())

        if scale.capacity is None or has_room(cells.least[0]):
            return cells
        known = cells.objective[np.isfinite(cells.objective)]
        steps = sorted(set(known[known > cells.least[0]].tolist()))
        at = bisect_left(steps, True, hi=len(steps) - 1, key=has_room)
        return cells._replace(least=(steps[at], cells.least[1]))

    def _not_worse_than_known(self, box: Box, cells: Cells, found: Candidate | None) -> BoolArray:
        """Return the tiers of what may be at least as good as the best that is known."""
        if found is not None and box.scale not in self._looked_at:
            self._looked_at.add(box.scale)
            found = self._descend(box, found)
        if found is not None:
            self._known_least = min(self._known_least, found.objective)
        return self._scales[box.scale].fitting(cells.reaching(box.tiers, self._known_least))

    def _descend(self, box: Box, found: Candidate) -> Candidate:
        """Change one stage at a time as long as that makes a configuration better."""
        while better := self._layouts(box.scale, neighbours(found.layout, box.tiers)).best(self._request, 1):
            if not better[0] < found:
                break
            found = better[0]
        return found

    def _layouts(self, scale: int, layouts: Layouts) -> RankedLayouts:
        return self._scales[scale].ranked(self._model, layouts, self._effort)

    def _each(self, scale: int, layouts: Layouts) -> list[Candidate | None]:
        """Return each layout as a candidate, ``None`` where it does not meet the request."""
        return self._layouts(scale, layouts).each(self._request)

    def _push_without(self, box: Box, cells: Cells, kept: BoolArray) -> None:
        """Push the rest of a box: what is not among ``kept`` in this stage first, or in that."""
        tiers = box.tiers
        for at, stage in enumerate(cells.stages):
            left = tiers[stage] & ~kept[stage]
            if left.any():
                part, tiers = tiers.copy(), tiers.copy()
                part[stage], tiers[stage] = left, kept[stage]
                self._push_box(cells.least_of(at, part), Box(box.scale, part))

    def _push_box(self, least: tuple[float, float], box: Box) -> None:
        self._push(Candidate(*least, self._model.nodes[box.scale], box.first), box)

    def _push(self, bound: Candidate, content: Box | _Leaves | None) -> None:
        heapq.heappush(self._entries, _Entry(bound, next(self._numbers), content))

    def _push_leaves(self, layouts: RankedLayouts, at: int = 0) -> None:
        first = layouts.first(self._request, at)
        if first is not None:
            self._push(first[0], _Leaves(layouts, at, first[1]))
