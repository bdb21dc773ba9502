"""What a makespan takes at least, when each stage may only choose among some tiers.

A *box* is a set of tiers per stage. Its bounds are computed with the very additions and maxima that a
makespan is made of, each over the cheapest choice that is left. Adding and comparing floating-point numbers
never turns an order around, so that a bound is never above a makespan in its box, not even by rounding: no
tolerance is needed.

Every bound is computed under the condition that one stage takes one tier, for all such *cells* at once. What
holds on each of a stage's tiers holds in any case, and is carried forward: so a stage that several others
read cannot promise each of them another tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.stage_costs import StageCosts
from qosflow_airflow.core.transfer import FloatArray

BoolArray = NDArray[np.bool_]


class CellBounds(Protocol):
    """Bounds of the makespans at one node count."""

    def cells(self, boxes: BoolArray, conditions: Sequence[int]) -> FloatArray:
        """Return the seconds that a makespan takes at least with one stage on one tier.

        ``boxes`` (S x T x B) says which tiers each stage may take, ``conditions`` which stages (F) to try.
        The result is T x F x B; infinite where nothing in the box has that stage on that tier.
        """
        ...


def bounds_of(model: MakespanModel, impossible: BoolArray | None = None) -> CellBounds:
    """Return the bounds for the rules of ``model``; ``impossible`` (E x T x T) tiers are never taken."""
    costs = model.costs
    forbidden = np.zeros(costs.into_s.shape, dtype=bool) if impossible is None else impossible.copy()
    if not model.rules.moves_between_local_tiers:
        local = ~np.array(model.catalog.shared)
        between = local[:, None] & local & ~np.eye(len(local), dtype=bool)
        inside = [leg.edge for leg in costs.legs if leg.producer >= 0 and leg.consumer >= 0]
        forbidden[inside] |= between
    tables = (
        _or_never(costs.execution_s),
        _or_never(costs.into_s, forbidden),
        _or_never(costs.out_of_s, forbidden),
    )
    return (_LevelBounds if model.rules.level_barrier else _PathBounds)(costs, *tables)


def _or_never(seconds: FloatArray, forbidden: BoolArray | None = None) -> FloatArray:
    """Return seconds, infinite where they are not known or not allowed."""
    never = np.isnan(seconds) if forbidden is None else np.isnan(seconds) | forbidden
    return np.where(never, np.inf, seconds)


def _conditioned(boxes: BoolArray, conditions: Sequence[int]) -> FloatArray:
    """Return S x T x N: 0 where a stage may take a tier, else infinite; N are all conditions on all boxes."""
    stages, tiers, count = boxes.shape
    shape = (stages, tiers, tiers, len(conditions), count)
    never = np.broadcast_to(np.where(boxes, 0.0, np.inf)[:, :, None, None, :], shape).copy()
    other = np.where(np.eye(tiers, dtype=bool), 0.0, np.inf)[:, :, None]
    for at, stage in enumerate(conditions):
        never[stage, :, :, at] += other
    return never.reshape(stages, tiers, -1)


def _in_any_case(seconds: FloatArray, shape: tuple[int, int, int]) -> FloatArray:
    """Raise T x N seconds to what holds on each tier of some stage; ``shape`` is N's: T x F x B."""
    split = seconds.reshape(len(seconds), *shape)
    least = split.min(axis=1).max(axis=1)
    return np.asarray(np.maximum(split, least[:, None, None, :])).reshape(seconds.shape)


@dataclass(frozen=True)
class _PathBounds:
    """Bounds of the longest path: the earliest time at which each stage on each tier can be done."""

    costs: StageCosts
    execution_s: FloatArray
    into_s: FloatArray
    out_of_s: FloatArray

    @cached_property
    def _delay_s(self) -> FloatArray:
        return self.into_s + self.out_of_s

    def cells(self, boxes: BoolArray, conditions: Sequence[int]) -> FloatArray:
        costs, delay_s = self.costs, self._delay_s
        shape = (boxes.shape[1], len(conditions), boxes.shape[2])
        never = _conditioned(boxes, conditions)
        done: dict[int, FloatArray] = {}
        for s in costs.order:
            start = np.zeros(never.shape[1:])
            for leg in costs.incoming[s]:
                moved = delay_s[leg.edge][:, :, None]
                if leg.producer < 0:
                    np.maximum(start, moved[costs.home], out=start)
                else:
                    np.maximum(start, (done[leg.producer][:, None] + moved).min(axis=0), out=start)
            done[s] = _in_any_case(start + self.execution_s[s][:, None] + never[s], shape)
        end = np.zeros(never.shape[2])
        for leg in costs.final:
            arrival = done[leg.producer] + delay_s[leg.edge][:, costs.home, None]
            np.maximum(end, arrival.min(axis=0), out=end)
        return end.reshape(shape)


@dataclass(frozen=True)
class _LevelBounds:
    """Bounds of a sum over levels: what all levels take up to the execution of each stage on each tier.

    All stages of a level are done at the same time, so that what one of them promises holds for the others.
    From one level to the next, every pair of stages is followed: the copies between the two as they are on
    each pair of tiers, and the phases of both levels as long as any stage makes them on its cheapest tier.
    """

    costs: StageCosts
    execution_s: FloatArray
    into_s: FloatArray
    out_of_s: FloatArray

    def cells(self, boxes: BoolArray, conditions: Sequence[int]) -> FloatArray:
        shape = (boxes.shape[1], len(conditions), boxes.shape[2])
        never = _conditioned(boxes, conditions)
        into, execution, out_of = self._phases(never)
        total = np.zeros(never.shape[2])
        done: dict[int, FloatArray] = {}
        for level, members in enumerate(self.costs.levels):
            before, done = done, {}
            for s in members:
                started = total + into[s]
                for producer in self.costs.levels[level - 1] if level else ():
                    edge = self._edge_between.get((producer, s))
                    if edge is not None:
                        moved = self._after(before[producer], out_of[producer], into[s], edge)
                        np.maximum(started, moved, out=started)
                done[s] = started + execution[s]
            together = np.max([seconds.min(axis=0) for seconds in done.values()], axis=0)
            total = np.zeros(never.shape[2])
            for s in members:
                done[s] = _in_any_case(np.maximum(done[s], together), shape) + never[s]
                np.maximum(total, (done[s] + out_of[s]).min(axis=0), out=total)
        return total.reshape(shape)

    def _after(self, before: FloatArray, out_of: FloatArray, into: FloatArray, edge: int) -> FloatArray:
        """Return T x N: the seconds until the consumer's copies are in, over all tiers of the producer."""
        out_s, into_s = self.out_of_s[edge][:, :, None], self.into_s[edge][:, :, None]
        left = before[:, None] + np.maximum(out_of[:, None], out_s)
        return np.asarray((left + np.maximum(into[None], into_s)).min(axis=0))

    def _phases(self, never: FloatArray) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
        """Return per stage T x N seconds of its level's phases, given its tier: at least its own."""
        into = [seconds.copy() for seconds in never]
        execution = [seconds + self.execution_s[s][:, None] for s, seconds in enumerate(never)]
        out_of = [seconds.copy() for seconds in never]
        for leg in self.costs.legs:
            into_s, out_s = self.into_s[leg.edge][:, :, None], self.out_of_s[leg.edge][:, :, None]
            if leg.producer < 0:
                np.maximum(into[leg.consumer], into_s[self.costs.home], out=into[leg.consumer])
            elif leg.consumer < 0:
                np.maximum(out_of[leg.producer], out_s[:, self.costs.home], out=out_of[leg.producer])
            else:
                source, destination = never[leg.producer], never[leg.consumer]
                arrived = (into_s + source[:, None]).min(axis=0)
                np.maximum(into[leg.consumer], arrived, out=into[leg.consumer])
                sent = (out_s + destination[None]).min(axis=1)
                np.maximum(out_of[leg.producer], sent, out=out_of[leg.producer])
        for phase in (into, execution, out_of):
            for members in self.costs.levels:
                longest = np.max([phase[s].min(axis=0) for s in members], axis=0)
                for s in members:
                    np.maximum(phase[s], longest, out=phase[s])
        return into, execution, out_of

    @cached_property
    def _edge_between(self) -> dict[tuple[int, int], int]:
        return {(leg.producer, leg.consumer): leg.edge for leg in self.costs.legs}
