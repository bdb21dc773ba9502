"""What a configuration pays: the times of its stages, and the copies that the rules charge to its edges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.contention import Stretch
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan_rules import MakespanRules
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, IntArray, Provenance, StageTimes, TimeTable
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Workflow


class Charges(NamedTuple):
    """What every configuration (C) pays, per stage (S) or edge (E); the edges are the model's.

    ``into`` and ``out_of`` are C x E seconds: the consumer's and the producer's copy. ``read``, ``compute``
    and ``write`` are C x S.
    """

    into: FloatArray
    out_of: FloatArray
    read: FloatArray
    compute: FloatArray
    write: FloatArray

    def stretched(self, stretch: Stretch | None) -> Charges:
        """Return what is paid where everything takes so many times longer."""
        if stretch is None:
            return self
        edges = (self.into * stretch.edges, self.out_of * stretch.edges)
        return Charges(*edges, *(part * stretch.stages for part in (self.read, self.compute, self.write)))


class Legs(NamedTuple):
    """What the copies of each edge (E) cost from tier to tier (T x T); 0 s where a leg is not charged.

    ``into_s`` is the consumer's copy and ``out_of_s`` the producer's, each with the tasks per node of the
    measurement behind it.
    """

    into_s: FloatArray
    out_of_s: FloatArray
    into_tasks_per_node: IntArray
    out_of_tasks_per_node: IntArray
    provenance: NDArray[np.int8]

    @classmethod
    def free(cls, shape: tuple[int, int, int]) -> Legs:
        """Return legs that cost nothing."""
        none = np.full(shape, -1, dtype=np.int64)
        return cls(np.zeros(shape), np.zeros(shape), none, none.copy(), np.zeros(shape, dtype=np.int8))

    def charge(
        self, edges: list[int], at: tuple[int, int], leg: str, table: TimeTable, copy: tuple[int, int]
    ) -> None:
        """Charge one leg of ``edges`` between the tiers ``at`` with the times of ``copy`` in ``table``."""
        seconds, tags = (
            (self.into_s, self.into_tasks_per_node)
            if leg == "in"
            else (self.out_of_s, self.out_of_tasks_per_node)
        )
        there, from_table = (edges, *at), (edges, *copy)
        seconds[there] = table.seconds[from_table]
        tags[there] = table.tasks_per_node[from_table]
        self.provenance[there] = np.maximum(self.provenance[there], table.provenance[from_table])


@frozen
class ChargedTimes:
    """Stage times at one node count as what configurations pay under one rule set."""

    workflow: Workflow
    catalog: TierCatalog
    times: StageTimes
    rules: MakespanRules

    def charges(self, layouts: Layouts) -> Charges:
        """Gather what each layout pays from the tables, everything as long as alone."""
        stages = np.arange(layouts.shape[1])
        times = self.times
        source, destination = self.edge_tiers(layouts)
        edges = np.arange(len(times.edges))
        charges = Charges(
            into=self.legs.into_s[edges, source, destination],
            out_of=self.legs.out_of_s[edges, source, destination],
            read=times.read.seconds[stages, layouts],
            compute=np.broadcast_to(times.compute.seconds, layouts.shape),
            write=times.write.seconds[stages, layouts],
        )
        # Where missing times count as 0 s a transfer table says so itself, an estimate leaves them unknown.
        return Charges(*map(np.nan_to_num, charges)) if self.rules.missing_is_zero else charges

    def provenance(self, layouts: Layouts) -> NDArray[np.int8]:
        """Return the worst provenance among the times that each layout needs; compute time is left out."""
        stages = np.arange(layouts.shape[1])
        source, destination = self.edge_tiers(layouts)
        legs = self.legs.provenance[np.arange(len(self.times.edges)), source, destination]
        worst = np.maximum(
            self.times.read.provenance[stages, layouts].max(axis=1),
            self.times.write.provenance[stages, layouts].max(axis=1),
        )
        return np.asarray(np.maximum(worst, legs.max(axis=1, initial=0)), dtype=np.int8)

    def edge_tiers(self, layouts: Layouts) -> tuple[Layouts, Layouts]:
        """Return C x E tiers that each edge's data moves from and to; outside data lies on the home tier."""
        home = np.full(len(layouts), self.catalog.index[self.catalog.home], dtype=np.int8)
        index = self.workflow.index
        ends = [
            [home if name in (INITIAL_DATA, FINAL_DATA) else layouts[:, index[name]] for name in edge]
            for edge in self.times.edges
        ]
        shape = (len(layouts), 0)
        if not ends:
            return np.empty(shape, np.int8), np.empty(shape, np.int8)
        return (
            np.stack([source for source, _ in ends], axis=1),
            np.stack([destination for _, destination in ends], axis=1),
        )

    @cached_property
    def alphabetical(self) -> tuple[int, ...]:
        """Stage positions in the order in which ties are broken."""
        names = self.workflow.stage_names
        return tuple(sorted(range(len(names)), key=lambda s: names[s].lower()))

    @cached_property
    def legs(self) -> Legs:
        """The copies that are charged, per edge and pair of tiers."""
        tiers = len(self.catalog.tiers)
        legs = Legs.free((len(self.times.edges), tiers, tiers))
        for edges, at, leg, copy in self.copies():
            table = self.times.stage_in if leg == "in" else self.times.stage_out
            legs.charge(edges, at, leg, table, copy)
        return legs

    def copies(self) -> Iterator[tuple[list[int], tuple[int, int], str, tuple[int, int]]]:
        """Yield every copy that is charged: the edges it is for, their tiers, the leg, and its own tiers."""
        tiers = range(len(self.catalog.tiers))
        alike: dict[tuple[bool, ...], list[int]] = {}
        for e, edge in enumerate(self.times.edges):
            alike.setdefault(self._kind(edge), []).append(e)
        for edges in alike.values():
            for at in product(tiers, tiers):
                for leg, copy in self.charged_legs(self.times.edges[edges[0]], *at):
                    yield edges, at, leg, copy

    def _kind(self, edge: Edge) -> tuple[bool, ...]:
        """Return what decides which copies of an edge are charged."""
        if edge.producer == INITIAL_DATA:
            return (True, False, False, False)
        if edge.consumer == FINAL_DATA:
            return (False, True, self._is_flushed(edge.producer), False)
        same_level = self.workflow.stage(edge.producer).level == self.workflow.stage(edge.consumer).level
        return (False, False, False, same_level)

    def charged_legs(self, edge: Edge, source: int, destination: int) -> list[tuple[str, tuple[int, int]]]:
        """Return the copies that data of ``edge`` needs from one tier to the other, as (leg, tiers)."""
        direct = (source, destination)
        if edge.producer == INITIAL_DATA:
            return [] if source == destination else [("in", direct)]
        if edge.consumer == FINAL_DATA:
            return [("out", direct)] if source != destination and self._is_flushed(edge.producer) else []
        legs = self._legs_between(direct)
        if self.rules.same_level_successors_count:
            return legs
        same_level = self.workflow.stage(edge.producer).level == self.workflow.stage(edge.consumer).level
        return [leg for leg in legs if leg[0] == "in"] if same_level else legs

    def _is_flushed(self, stage: str) -> bool:
        last = self.workflow.stage(stage).level == self.workflow.levels[-1]
        return self.rules.flushes_every_final_output or last

    def _legs_between(self, direct: tuple[int, int]) -> list[tuple[str, tuple[int, int]]]:
        source, destination = direct
        from_shared, to_shared = self.catalog.shared[source], self.catalog.shared[destination]
        if source == destination:
            moves = not from_shared and not (self.rules.single_node_moves_nothing and self.times.nodes == 1)
            return [("out", direct)] if moves else []
        if from_shared and not to_shared:
            return [("out", direct), ("in", direct)] if self.rules.pays_both_ends else [("in", direct)]
        if from_shared or to_shared:
            return [("out", direct)]
        if not self._through_home[direct]:
            return [("out", direct)]
        home = self.catalog.index[self.catalog.home]
        return [("out", (source, home)), ("in", (home, destination))]

    @cached_property
    def _through_home(self) -> NDArray[np.bool_]:
        return through_home(self.catalog, self.times)


def through_home(catalog: TierCatalog, times: StageTimes) -> NDArray[np.bool_]:
    """Return, T x T, whether what one stage writes reaches another by way of the home tier.

    It does between two different local tiers: they are not on the same node. On one node they are, so that
    one copy does where such copies have a time.
    """
    local = ~np.array(catalog.shared)
    apart = local[:, None] & local[None, :] & ~np.eye(len(local), dtype=bool)
    if times.nodes > 1:
        return np.asarray(apart)
    inner = [e for e, edge in enumerate(times.edges) if {INITIAL_DATA, FINAL_DATA}.isdisjoint(edge)]
    known = (times.stage_out.provenance[inner] != Provenance.UNKNOWN).any(axis=0)
    return np.asarray(apart & ~known)
