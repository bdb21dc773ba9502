"""Whether a configuration's data fits on its tiers, at the moment when most of it is there.

Time goes by in levels. A stage's output lies on its tier from its own level to that of its last reader; a
final output lies on the home tier to the end, and elsewhere until it is flushed there, after its own level.
A copy of an input lies on the consumer's tier during the consumer's level, and on the home tier too when it
goes through there from one local tier to another. The outside input lay on the home tier before and takes
nothing.

A local tier holds what its fullest node holds: the share of the stage's tasks that run there, as copies are
priced. A file that tasks on several nodes read lies on each of them and is not counted again. What lies on a
memory tier takes the node's memory as well; what the tasks themselves take of it is not known.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.charges import through_home
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan_rules import MakespanRules
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, StageTimes
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Workflow

HEADROOM = 0.10
"""Share of a capacity that stays free: file systems slow down when full, and volumes vary from run to run."""
GIB = 1 << 30

BoolArray = NDArray[np.bool_]


class Fit(NamedTuple):
    """Per configuration, whether it needs more than there is, or a size that matters is not known."""

    over: BoolArray
    unknown: BoolArray


class _Claim(NamedTuple):
    """Bytes that lie somewhere from level ``first`` to level ``last`` (positions), where ``there``.

    ``tiers`` is each configuration's tier, ``size_bytes`` the claim on each tier (T), NaN where not known.
    """

    stage: str
    tiers: Layouts
    size_bytes: FloatArray
    first: int
    last: int
    there: BoolArray


@frozen
class CapacityCheck:
    """Peak bytes of any configuration at one node count, against what the catalog holds."""

    workflow: Workflow
    catalog: TierCatalog
    times: StageTimes
    rules: MakespanRules
    headroom: float = HEADROOM

    @cached_property
    def limited(self) -> bool:
        """Whether the rules heed capacities, and one is known."""
        return self.rules.respects_capacity and bool(np.isfinite(self._limits_bytes).any())

    def fit(self, layouts: Layouts) -> Fit:
        """Return which layouts are over capacity, and for which that cannot be told for certain."""
        if not self.limited:
            return Fit(np.zeros(len(layouts), dtype=bool), np.zeros(len(layouts), dtype=bool))
        used, unknown = self._used(layouts)
        over = (used.max(axis=2) > self.room_bytes).any(axis=1)
        return Fit(over, unknown & ~over)

    def reasons(self, layouts: Layouts) -> list[str]:
        """Say of the first layout what does not fit where, one sentence without a full stop each."""
        if not self.limited:
            return []
        row = layouts[:1]
        used = self._used(row)[0][0]
        places = np.flatnonzero(used.max(axis=1) > self.room_bytes)
        return [self._reason(row, int(place), int(used[place].argmax()), used) for place in places]

    def _reason(self, row: Layouts, place: int, level: int, used: FloatArray) -> str:
        needed, limit = used[place, level], self._limits_bytes[place]
        held = [
            t for t, tier in enumerate(self.catalog.tiers) if place in (t, self._memory_place(tier.memory))
        ]
        stages = dict.fromkeys(
            claim.stage
            for claim in self._claims(row)
            if claim.first <= level <= claim.last
            and claim.there[0]
            and int(claim.tiers[0]) in held
            and claim.size_bytes[int(claim.tiers[0])] > 0
        )
        nodes = self.times.nodes
        names = "/".join(self.catalog.names[t] for t in held if (row[0] == t).any()) or self.catalog.home
        verb = "needs" if len(stages) == 1 else "need"
        what = " of memory" if place == len(self.catalog.tiers) else ""
        spare = f", {self.headroom:.0%} of which stays free" if needed <= limit else ""
        return (
            f"{', '.join(stages)} on {names} {verb} {needed / GIB:.3g} GiB of {limit / GIB:.3g}{what}{spare} "
            f"at {nodes} node{'' if nodes == 1 else 's'}"
        )

    @property
    def room_bytes(self) -> FloatArray:
        """What may lie on each tier, then in a node's memory; infinite where not known."""
        return np.asarray(self._limits_bytes * (1 - self.headroom))

    def bytes_of_output(self, stage: str) -> FloatArray:
        """Return what a stage's output takes on each of its tiers: T x places (tiers, memory) x levels."""
        tiers = len(self.catalog.tiers)
        layouts = np.repeat(np.arange(tiers, dtype=np.int8)[:, None], len(self.workflow.stages), axis=1)
        return self._used_by(self._of_output(layouts, stage), tiers)[0]

    def bytes_of_copy(self, edge: Edge) -> FloatArray:
        """Return what the copy of an input takes: T (producer's) x T (consumer's) x places x levels."""
        tiers = len(self.catalog.tiers)
        source, destination = (grid.ravel() for grid in np.indices((tiers, tiers), dtype=np.int8))
        layouts = np.repeat(source[:, None], len(self.workflow.stages), axis=1)
        if edge.consumer != FINAL_DATA:
            layouts[:, self.workflow.index[edge.consumer]] = destination
        used = self._used_by(self._of_copy(layouts, edge), len(layouts))[0]
        return used.reshape(tiers, tiers, *used.shape[1:])

    def _memory_place(self, memory: bool) -> int:
        return len(self.catalog.tiers) if memory else -1

    @cached_property
    def _limits_bytes(self) -> FloatArray:
        """Capacity of each tier, then the node's memory; infinite where not known."""
        known = [tier.capacity_bytes for tier in self.catalog.tiers]
        has_memory_tier = any(tier.memory and not tier.shared for tier in self.catalog.tiers)
        known.append(self.catalog.node.memory_bytes if has_memory_tier else None)
        return np.array([np.inf if value is None else float(value) for value in known])

    def _used(self, layouts: Layouts) -> tuple[FloatArray, BoolArray]:
        """Return bytes per configuration, tier (then memory) and level, and where a size was not known."""
        return self._used_by(self._claims(layouts), len(layouts))

    def _used_by(self, claims: list[_Claim], count: int) -> tuple[FloatArray, BoolArray]:
        tiers = len(self.catalog.tiers)
        rows = np.arange(count)
        used = np.zeros((count, tiers + 1, len(self.workflow.levels)))
        unknown = np.zeros(count, dtype=bool)
        memory = np.array([tier.memory and not tier.shared for tier in self.catalog.tiers])
        matters = np.isfinite(self._limits_bytes[:-1]) | (memory & np.isfinite(self._limits_bytes[-1]))
        for claim in claims:
            size = np.where(claim.there, claim.size_bytes[claim.tiers], 0.0)
            unknown |= np.isnan(size) & matters[claim.tiers]
            size = np.nan_to_num(size)[:, None]
            when = slice(claim.first, claim.last + 1)
            used[rows, claim.tiers, when] += size
            used[rows, tiers, when] += size * memory[claim.tiers][:, None]
        return used, unknown

    def _claims(self, layouts: Layouts) -> list[_Claim]:
        return [
            *(claim for name in self.workflow.stage_names for claim in self._of_output(layouts, name)),
            *(claim for edge in self.times.edges for claim in self._of_copy(layouts, edge)),
        ]

    def _of_output(self, layouts: Layouts, name: str) -> list[_Claim]:
        s, own = self.workflow.index[name], self._level(name)
        tiers = layouts[:, s]
        size = self._per_tier(self._output_bytes(s), name)
        last = max([own, *(self._level(reader) for reader in self.workflow.successors(name))])
        there = np.ones(len(layouts), dtype=bool)
        claims = [_Claim(name, tiers, size, own, last, there)]
        if Edge(name, FINAL_DATA) in self.workflow.edges:
            end = len(self.workflow.levels) - 1
            home = np.full_like(tiers, self._home)
            flushed = tiers != self._home
            final = self._per_tier(self._edge_bytes(Edge(name, FINAL_DATA)), name)
            claims.append(_Claim(name, home, final, own, end, flushed))
            if end > last:
                claims.append(_Claim(name, home, final, last + 1, end, ~flushed))
        return claims

    def _of_copy(self, layouts: Layouts, edge: Edge) -> list[_Claim]:
        """Return the copy of an input that the consumer reads, where it cannot read the original."""
        if edge.consumer == FINAL_DATA:
            return []
        tiers = layouts[:, self.workflow.index[edge.consumer]]
        home = np.full_like(tiers, self._home)
        source = home if edge.producer == INITIAL_DATA else layouts[:, self.workflow.index[edge.producer]]
        local = ~np.array(self.catalog.shared)
        stays = (source == tiers) & (~local[tiers] | (self.times.nodes == 1))
        by_home = through_home(self.catalog, self.times)[source, tiers]
        at = self._level(edge.consumer)
        size = self._per_tier(self._edge_bytes(edge), edge.consumer)
        return [
            _Claim(edge.consumer, tiers, size, at, at, ~stays),
            _Claim(edge.consumer, home, size, at, at, by_home),
        ]

    def _per_tier(self, size_bytes: float, stage: str) -> FloatArray:
        """Return a stage's bytes as each tier sees them: all, or those of the fullest node."""
        found = self.workflow.stage(stage)
        share = found.tasks_per_node(self.times.nodes) / found.tasks
        return np.array([size_bytes if shared else size_bytes * share for shared in self.catalog.shared])

    def _edge_bytes(self, edge: Edge) -> float:
        known = self.times.edge_bytes
        if known is None or edge not in self.times.edges:
            return float("nan")
        return float(known[self.times.edges.index(edge)])

    def _output_bytes(self, stage: int) -> float:
        return float("nan") if self.times.output_bytes is None else float(self.times.output_bytes[stage])

    def _level(self, stage: str) -> int:
        return self.workflow.levels.index(self.workflow.stage(stage).level)

    @property
    def _home(self) -> int:
        return self.catalog.index[self.catalog.home]
