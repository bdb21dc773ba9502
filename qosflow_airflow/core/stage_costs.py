"""What each choice of tiers costs, summed up once: all that a makespan, without its reasons, is made of."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.charges import ChargedTimes
from qosflow_airflow.core.contention import Contention, Stretch, as_shares
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, IntArray, Provenance
from qosflow_airflow.core.workflow import Workflow

KEPT = 64
"""Layouts of which is kept how much longer everything takes."""


class Leg(NamedTuple):
    """An edge by positions: of the edge, its producer and its consumer; -1 is the outside."""

    edge: int
    producer: int
    consumer: int


@frozen
class StageCosts:
    """Seconds of stages (S) and edges (E) at one node count under one rule set, by tiers (T).

    ``execution_s`` is S x T. ``into_s`` and ``out_of_s`` are E x T x T, from the first tier to the second:
    the consumer's and the producer's copy. NaN is not known. All of them are seconds alone; ``contention``
    is who waits for whom, ``None`` where nobody does.
    """

    workflow: Workflow
    legs: tuple[Leg, ...]
    home: int
    execution_s: FloatArray
    into_s: FloatArray
    out_of_s: FloatArray
    contention: Contention | None = None

    @classmethod
    def of(cls, model: ChargedTimes) -> StageCosts:
        """Sum up the times that ``model`` charges."""
        times, unknown = model.times, np.int8(Provenance.UNKNOWN)
        gaps = (times.read.provenance == unknown) | (times.write.provenance == unknown)
        cells = [times.read.seconds, times.compute.seconds[:, None], times.write.seconds]
        legs = [model.legs.into_s, model.legs.out_of_s]
        if model.rules.missing_is_zero:
            cells, legs = [np.nan_to_num(cell) for cell in cells], [np.nan_to_num(leg) for leg in legs]
        else:
            # Also where a time is said to be unknown and a number stands in its place.
            cells[0] = np.where(gaps, np.nan, cells[0])
            legs = [np.where(model.legs.provenance == unknown, np.nan, leg) for leg in legs]
        index = model.workflow.index
        ends = [Leg(e, index.get(p, -1), index.get(c, -1)) for e, (p, c) in enumerate(times.edges)]
        home = model.catalog.index[model.catalog.home]
        contention = contention_of(model)
        return cls(
            model.workflow, tuple(ends), home, cells[0] + cells[1] + cells[2], legs[0], legs[1], contention
        )

    @cached_property
    def delay_s(self) -> FloatArray:
        """Both copies of an edge, E x T x T."""
        return self.into_s + self.out_of_s

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Stages so that each comes after its predecessors."""
        return tuple(self.workflow.index[name] for name in self.workflow.topological_order)

    @cached_property
    def incoming(self) -> tuple[tuple[Leg, ...], ...]:
        """The edges into each stage."""
        stages = range(len(self.workflow.stages))
        return tuple(tuple(leg for leg in self.legs if leg.consumer == s) for s in stages)

    @cached_property
    def final(self) -> tuple[Leg, ...]:
        """The edges to the outside."""
        return tuple(leg for leg in self.legs if leg.consumer == -1)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The stages of each level."""
        levels = [stage.level for stage in self.workflow.stages]
        return tuple(tuple(s for s, level in enumerate(levels) if level == at) for at in self.workflow.levels)

    def stretch(self, layouts: Layouts) -> Stretch | None:
        """Return how many times longer than alone everything takes in each layout; ``None`` for no longer."""
        if self.contention is None or not len(layouts):
            return None
        if len(layouts) > 1:
            return self._stretch(self.contention, layouts)
        # A layout that is drawn is described as well, and its makespan is asked for.
        key, kept = layouts.tobytes(), self._stretches
        if key not in kept:
            if len(kept) >= KEPT:
                kept.clear()
            kept[key] = self._stretch(self.contention, layouts)
        return kept[key]

    @cached_property
    def _stretches(self) -> dict[bytes, Stretch]:
        return {}

    def _stretch(self, contention: Contention, layouts: Layouts) -> Stretch:
        tiers = self._tiers(layouts)
        edges = [self._moved_s(leg, tiers) for leg in self.legs]
        stages = [seconds[tiers[s]] for s, seconds in enumerate(self.execution_s)]
        return contention.stretch([tiers[s] for s in range(len(stages))], np.stack([*edges, *stages]))

    def longest_path_s(self, layouts: Layouts, stretch: Stretch | None = None) -> FloatArray:
        """Return the longest path of each layout (C x S), NaN where a time on it is unknown.

        ``stretch`` is what was found for these layouts, where it was already.
        """
        tiers, stretch = self._tiers(layouts), stretch or self.stretch(layouts)

        def moved_s(leg: Leg) -> FloatArray:
            alone_s = self._moved_s(leg, tiers)
            return alone_s if stretch is None else alone_s * stretch.edges[:, leg.edge]

        finish: dict[int, FloatArray] = {}
        for s in self.order:
            start = np.zeros(len(layouts))
            for leg in self.incoming[s]:
                moved = moved_s(leg)
                np.maximum(start, moved if leg.producer < 0 else finish[leg.producer] + moved, out=start)
            alone_s = self.execution_s[s][tiers[s]]
            finish[s] = start + (alone_s if stretch is None else alone_s * stretch.stages[:, s])
        makespan = np.zeros(len(layouts))
        for leg in self.final:
            np.maximum(makespan, finish[leg.producer] + moved_s(leg), out=makespan)
        return makespan

    def _moved_s(self, leg: Leg, tiers: dict[int, IntArray]) -> FloatArray:
        return np.asarray(self.delay_s[leg.edge][tiers[leg.producer], tiers[leg.consumer]])

    def level_sum_s(self, layouts: Layouts) -> FloatArray:
        """Return the longest copy in, stage and copy out of each layout (C x S), summed level by level."""
        tiers = self._tiers(layouts)
        total = np.zeros(len(layouts))
        for members in self.levels:
            for phase in ("in", "exec", "out"):
                longest = np.zeros(len(layouts))
                for seconds in self._of_phase(phase, members, tiers):
                    np.maximum(longest, seconds, out=longest)
                total += longest
        return total

    def _of_phase(self, phase: str, members: tuple[int, ...], tiers: dict[int, IntArray]) -> list[FloatArray]:
        if phase == "exec":
            return [self.execution_s[s][tiers[s]] for s in members]
        seconds = self.into_s if phase == "in" else self.out_of_s
        return [
            seconds[leg.edge][tiers[leg.producer], tiers[leg.consumer]]
            for leg in self.legs
            if (leg.consumer if phase == "in" else leg.producer) in members
        ]

    def _tiers(self, layouts: Layouts) -> dict[int, IntArray]:
        """Return the tiers of each stage, and of the outside, in a row that indexes quickly."""
        columns = {s: np.ascontiguousarray(layouts[:, s], dtype=np.int64) for s in range(layouts.shape[1])}
        return {**columns, -1: np.full(len(layouts), self.home, dtype=np.int64)}


def contention_of(model: ChargedTimes) -> Contention | None:
    """Return who waits for whom under the rules of ``model``; ``None`` where nobody ever does, or none tells.

    A stage's share of a resource is that of its read, write or computing while they last, on the mean of the
    whole stage; a copy's that of its legs.
    """
    times, demand = model.times, model.times.demand
    if demand is None or not model.rules.shares_resources or model.rules.level_barrier:
        return None
    tiers, index = len(model.catalog.tiers), model.workflow.index
    parts = [np.nan_to_num(part) for part in (times.read.seconds, times.write.seconds)]
    compute_s = np.nan_to_num(times.compute.seconds)[:, None]
    whole_s = parts[0] + parts[1] + compute_s
    stages = np.zeros((len(times.stages), tiers, tiers + 1))
    own = np.arange(tiers)
    stages[:, own, own] = _share(demand.read * parts[0] + demand.write * parts[1], whole_s)
    stages[:, :, tiers] = _share(demand.compute[:, None] * compute_s, whole_s)
    edges = np.zeros((len(times.edges), tiers, tiers, tiers + 1))
    for alike, at, leg, (source, destination) in model.copies():
        table = times.stage_in if leg == "in" else times.stage_out
        leg_s = np.nan_to_num(table.seconds[alike, source, destination])
        edges[(alike, *at, source)] += demand.source[alike, source, destination] * leg_s
        edges[(alike, *at, destination)] += demand.destination[alike, source, destination] * leg_s
    edges = _share(edges, np.nan_to_num(model.legs.into_s + model.legs.out_of_s)[..., None])
    ends = tuple((index.get(producer, -1), index.get(consumer, -1)) for producer, consumer in times.edges)
    home = model.catalog.index[model.catalog.home]
    found = Contention(ends, home, as_shares(stages), as_shares(edges))
    return found if found.matters else None


def _share(part_s: FloatArray, whole_s: FloatArray) -> FloatArray:
    """Return part over whole, 0 where there is nothing."""
    return np.asarray(part_s / np.where(whole_s > 0, whole_s, np.inf))
