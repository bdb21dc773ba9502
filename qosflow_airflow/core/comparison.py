"""Two models of a workflow, or two node counts of one: which stages' best tier differs, and what made it so.

Either side answers the same request. Where a stage's best tier differs, each side says what the stage takes
on both tiers, everything else left as that side has it. What made the difference is the part in which the
tier of the right gained most on the tier of the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.core.search import best, check_request, search_of
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray

STAGE_PARTS = ("read", "compute", "write", "movement")
"""What a stage's seconds consist of; ``movement`` is the longest copy to it and the longest one from it."""
LEAST_S = 1e-9
"""Seconds below which nothing made a difference."""

StageState = Literal["same", "changed", "only_left", "only_right", "unknown"]
"""``unknown`` where a side has no answer."""
Seconds = Mapping[str, float | None]
"""Seconds by part; ``None`` where they are not known."""


@dataclass(frozen=True)
class StageSide:
    """What one side says of a stage.

    ``parts_s`` are its seconds on ``tier``, the best here, and ``other_s`` those on the best tier of the
    other side (``None`` where it is the same one, or none that this side knows), by :data:`STAGE_PARTS`. By
    ``swap_s`` this side's makespan grows if the stage alone goes there; ``None`` where that is not known or
    cannot be.
    """

    tier: str
    parts_s: Seconds
    other_s: Seconds | None
    swap_s: float | None


@dataclass(frozen=True)
class StageComparison:
    """A stage on both sides; ``None`` where a side has no such stage, or nothing that meets the request.

    ``gain_s`` is by how much the tier of the right gained on that of the left, by :data:`STAGE_PARTS`, and
    ``cause`` the part with the largest gain. Both are ``None`` where the tier is the same, or not all of the
    seconds are known; there is no cause where nothing gained.
    """

    stage: str
    state: StageState
    left: StageSide | None
    right: StageSide | None
    gain_s: Mapping[str, float] | None
    cause: str | None


@dataclass(frozen=True)
class BestOfSide:
    """The best of one side, ``None`` where nothing meets the request.

    ``split_s`` is its makespan by :data:`~qosflow_airflow.core.schedule.SPLIT`. ``other_makespan_s`` is what
    this side says of the other side's best tiers, on this side's nodes; ``None`` where it cannot.
    """

    nodes: int | None
    makespan_s: float | None
    split_s: Mapping[str, float] | None
    other_makespan_s: float | None


@dataclass(frozen=True)
class Comparison:
    """Both sides' best, and every stage: in the order of the left, then those of the right alone."""

    left: BestOfSide
    right: BestOfSide
    stages: tuple[StageComparison, ...]


def compare(left: Model, right: Model, request: QoSRequest) -> Comparison:
    """Return what the answers of two models to a request differ in; give :func:`at_scale` one node count.

    Raises
    ------
    RequestError, TierError, WorkflowError
        When a side does not know what the request names.
    """
    sides = (_Side.of(left, request), _Side.of(right, request))
    names = dict.fromkeys(name for side in sides for name in side.model.workflow.stage_names)
    tiers = tuple(side.tiers for side in sides)
    stages = tuple(_stage(name, *sides, *tiers) for name in names)
    return Comparison(sides[0].summary(tiers[1]), sides[1].summary(tiers[0]), stages)


def at_scale(model: Model, nodes: int | None) -> Model:
    """Return a model of one node count, or the whole one for ``None``.

    Raises
    ------
    QoSFlowError
        When the model has no such node count.
    """
    return model if nodes is None else replace(model, scales=(model.scale(nodes),))


@dataclass(frozen=True)
class _Side:
    """A model and the best layout of its best node count; ``layout`` is empty where there is none."""

    model: Model
    nodes: int | None
    layout: NDArray[np.int8]

    @classmethod
    def of(cls, model: Model, request: QoSRequest) -> _Side:
        check_request(model, request)
        found = best(search_of(model), request)
        if not found:
            return cls(model, None, np.empty(0, dtype=np.int8))
        return cls(model, found[0].nodes, np.array(found[0].layout, dtype=np.int8))

    @property
    def tiers(self) -> Mapping[str, str]:
        """The tier of each stage."""
        names, stages = self.model.catalog.names, self.model.workflow.stage_names
        return {stage: names[tier] for stage, tier in zip(stages, self.layout, strict=False)}

    def summary(self, others: Mapping[str, str]) -> BestOfSide:
        """Return the best of this side, and what it says of the tiers of the other."""
        if self.nodes is None:
            return BestOfSide(None, None, None, None)
        makespans = self.model.makespans(self.nodes)
        schedule = makespans.schedule(self.layout[None, :])
        return BestOfSide(
            self.nodes,
            float(schedule.makespan_s[0]),
            dict(zip(SPLIT, schedule.split_s[0].tolist(), strict=True)),
            self._makespan_of(makespans, others),
        )

    def _makespan_of(self, makespans: MakespanModel, tiers: Mapping[str, str]) -> float | None:
        known = self.model.catalog.index
        if set(tiers) != set(self.model.workflow.stage_names) or not set(tiers.values()) <= set(known):
            return None
        return _number(_possible_s(self.model, makespans, self.model.space.layout(tiers))[0])

    def stage(self, name: str, other: str | None) -> StageSide | None:
        """Return what is known of a stage, and of the tier that is best for it on the other side."""
        s = self.model.workflow.index.get(name)
        if self.nodes is None or s is None:
            return None
        tier = self.model.catalog.names[self.layout[s]]
        rows = [self.layout]
        if other not in (None, tier) and other in self.model.catalog.index:
            rows.append(self.layout.copy())
            rows[1][s] = self.model.catalog.index[other]
        layouts, makespans = np.stack(rows), self.model.makespans(self.nodes)
        parts = _parts_s(makespans, layouts, s)
        if len(rows) == 1:
            return StageSide(tier, parts[0], None, None)
        here_s, there_s = _possible_s(self.model, makespans, layouts)
        return StageSide(tier, parts[0], parts[1], _number(there_s - here_s))


def _possible_s(model: Model, makespans: MakespanModel, layouts: Layouts) -> FloatArray:
    """Return makespans, NaN where one is not known or cannot be."""
    possible = model.space.valid(layouts) & ~makespans.capacity.fit(layouts).over
    return np.where(possible, makespans.makespan_s(layouts), np.nan)


def _parts_s(makespans: MakespanModel, layouts: Layouts, s: int) -> list[dict[str, float | None]]:
    """Return what a stage takes in each layout, by part."""
    charges = makespans.charges(layouts)
    name, edges = makespans.workflow.stage_names[s], makespans.times.edges
    copies = charges.into + charges.out_of
    moved = np.zeros(len(layouts))
    for touching in (
        [e for e, edge in enumerate(edges) if edge.consumer == name],
        [e for e, edge in enumerate(edges) if edge.producer == name],
    ):
        if touching:
            moved = moved + copies[:, touching].max(axis=1)
    columns = (charges.read[:, s], charges.compute[:, s], charges.write[:, s], moved)
    return [dict(zip(STAGE_PARTS, map(_number, row), strict=True)) for row in zip(*columns, strict=True)]


def _stage(
    name: str, left: _Side, right: _Side, left_tiers: Mapping[str, str], right_tiers: Mapping[str, str]
) -> StageComparison:
    here, there = left.stage(name, right_tiers.get(name)), right.stage(name, left_tiers.get(name))
    is_left, is_right = (name in side.model.workflow.index for side in (left, right))
    if not is_left or not is_right:
        return StageComparison(name, "only_left" if is_left else "only_right", here, there, None, None)
    if here is None or there is None:
        return StageComparison(name, "unknown", here, there, None, None)
    if here.tier == there.tier:
        return StageComparison(name, "same", here, there, None, None)
    gain_s = _gain_s(here, there)
    largest = max(STAGE_PARTS, key=lambda part: gain_s[part]) if gain_s else None
    is_cause = gain_s is not None and largest is not None and gain_s[largest] > LEAST_S
    return StageComparison(name, "changed", here, there, gain_s, largest if is_cause else None)


def _gain_s(left: StageSide, right: StageSide) -> dict[str, float] | None:
    """Return the seconds by which the right's tier is further ahead on the right than on the left."""
    if left.other_s is None or right.other_s is None:
        return None
    gain_s = {}
    for part in STAGE_PARTS:
        on_left = _difference(left.other_s[part], left.parts_s[part])
        on_right = _difference(right.other_s[part], right.parts_s[part])
        if on_left is None or on_right is None:
            return None
        gain_s[part] = on_left + on_right
    return gain_s


def _difference(seconds: float | None, than_s: float | None) -> float | None:
    return None if seconds is None or than_s is None else seconds - than_s


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
