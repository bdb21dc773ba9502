"""Stage times from what a run moved and what the storage was measured to do.

Time is volume over rate: all tasks' volume over their rate together for reads and writes, one node's share
over one node's rate for copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.anchoring import Anchor, Rated, anchored
from qosflow_airflow.core.chunk_times import COUNTS, ChunkTimes, share_of_slots
from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.makespan_rules import COMPLETE, MakespanRules, edges_under
from qosflow_airflow.core.profile import RateEstimate, RateQuery, StorageProfile
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes, TimeTable, blank_tables
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow

MIB = 1 << 20
COPY_ACCESS_BYTES = MIB
"""Copies move whole files in pieces of this size."""

_Time = tuple[float, Provenance, int, float]
"""Seconds, provenance, tasks per node and spread, as :meth:`TimeTable.put` takes them."""
_FREE = (0.0, Provenance.NOT_OBSERVED, -1, 0.0)
_UNKNOWN = (math.nan, Provenance.UNKNOWN, -1, math.nan)


def estimate_stage_times(
    workflow: Workflow,
    catalog: TierCatalog,
    volumes: TracedVolumes,
    profile: StorageProfile,
    nodes: int,
    rules: MakespanRules = COMPLETE,
    anchors: Sequence[Anchor] = (),
) -> StageTimes:
    """Return the stage times at ``nodes`` for every tier of the catalog, held against ``anchors``.

    A stage that the trace does not have is *unknown*; a traced stage without reads, without writes or without
    files on one of its edges is *not observed* there; a tier without measured rates is *unknown*.
    """
    edges = edges_under(workflow, rules)
    return _Estimator(workflow, catalog, volumes, profile, nodes, edges, tuple(anchors)).estimate()


def io_query(
    volumes: TracedVolumes, catalog: TierCatalog, stage: Stage, operation: str, tier: str, nodes: int
) -> RateQuery | None:
    """Return the transfer of all tasks of a stage together; none where nothing is known to move."""
    volume = volumes.volume(stage.name, operation) if volumes.traced(stage.name) else None
    if volume is None or volume.volume_bytes == 0:
        return None
    name = catalog.tier(tier).profile_name
    at_once = catalog.node.tasks_at_once(stage.tasks_per_node(nodes))
    # The outside input was written long ago; what stages have written is still in the page cache.
    cold = operation == "read" and tier == catalog.home
    cold_bytes = min(volumes.first_read_bytes(stage.name), volume.volume_bytes) if cold else 0.0
    moved = (volume.access_bytes, volume.volume_bytes, cold_bytes, volume.file_bytes)
    return RateQuery(operation, name, name, nodes, at_once, *moved)


def with_volumes(times: StageTimes, workflow: Workflow, volumes: TracedVolumes) -> StageTimes:
    """Return stage times with the bytes that the trace saw on each edge and written by each stage.

    What a traced stage was not seen to move is 0; of a stage that the trace does not have nothing is known.
    """
    edges = [_edge_bytes(edge, volumes) for edge in times.edges]
    outputs = [_output_bytes(stage.name, volumes) for stage in workflow.stages]
    return replace(times, edge_bytes=np.array(edges, float), output_bytes=np.array(outputs, float))


def _edge_bytes(edge: Edge, volumes: TracedVolumes) -> float:
    if not volumes.traced(edge.producer if edge.producer != INITIAL_DATA else edge.consumer):
        return math.nan
    return volumes.edge_bytes(edge) or 0.0


def _output_bytes(stage: str, volumes: TracedVolumes) -> float:
    if not volumes.traced(stage):
        return math.nan
    written = volumes.volume(stage, "write")
    return 0.0 if written is None else written.volume_bytes


class _Divided(NamedTuple):
    """A stage in another number of tasks, its position and its tier's, and what it reads or writes then."""

    s: int
    t: int
    stage: Stage
    query: RateQuery


@dataclass(frozen=True)
class _Estimator:
    workflow: Workflow
    catalog: TierCatalog
    volumes: TracedVolumes
    profile: StorageProfile
    nodes: int
    edges: tuple[Edge, ...]
    anchors: tuple[Anchor, ...]

    def estimate(self) -> StageTimes:
        edges = self.edges
        tiers = self.catalog.names
        tables = blank_tables(len(self.workflow.stages), len(tiers), len(edges))
        for s, stage in enumerate(self.workflow.stages):
            tables["compute"].put((s,), *self._compute(stage))
            for t, tier in enumerate(tiers):
                tables["read"].put((s, t), *self._io(stage, "read", tier))
                tables["write"].put((s, t), *self._io(stage, "write", tier))
        for e, edge in enumerate(edges):
            for a, source in enumerate(tiers):
                for b, destination in enumerate(tiers):
                    copy = self._copy(edge, source, destination)
                    if edge.consumer != FINAL_DATA:
                        tables["stage_in"].put((e, a, b), *copy)
                    if edge.producer != INITIAL_DATA:
                        tables["stage_out"].put((e, a, b), *copy)
        names = self.workflow.stage_names
        times = StageTimes(
            self.nodes,
            names,
            tiers,
            edges,
            **tables,
            edge_bytes=None,
            output_bytes=None,
            anchors=self.anchors,
            chunks=self._chunk_times(tables["read"], tables["write"]),
            demand=self._demand(np.fmax(tables["stage_in"].seconds, tables["stage_out"].seconds)),
        )
        return with_volumes(times, self.workflow, self.volumes)

    @cached_property
    def _rates(self) -> dict[RateQuery, RateEstimate]:
        """Every rate that the tables need, asked together: each distinct one is computed once."""
        tiers = self.catalog.names
        queries = [
            self._io_query(stage, operation, tier)
            for stage in self.workflow.stages
            for operation in ("read", "write")
            for tier in tiers
        ]
        queries += [divided.query for divided in self._grid]
        queries += [self._copy_query(edge, *pair) for edge in self.edges for pair in product(tiers, tiers)]
        asked = list(dict.fromkeys(query for query in queries if query is not None))
        return dict(zip(asked, self.profile.rates_of(asked), strict=True))

    def _demand(self, copy_s: FloatArray) -> Demand:
        """Return what each transfer and each stage's computing takes of what it shares."""
        stages, tiers = self.workflow.stages, self.catalog.tiers
        used = {operation: np.zeros((len(stages), len(tiers))) for operation in ("read", "write")}
        for (operation, s, t), share in self._used_up().items():
            used[operation][s, t] = share * self._share_of_nodes(stages[s], tiers[t])
        node = self.catalog.node
        filled = [share_of_slots(node, self.nodes, stage.tasks) if node.slots else 0.0 for stage in stages]
        nodes = np.array(
            [[self._share_of_nodes(self._copied_by(edge), tier) for tier in tiers] for edge in self.edges]
        ).reshape(len(self.edges), len(tiers))
        source, destination = ends_used_up(copy_s)
        return Demand(
            **used,
            compute=np.array(filled),
            source=source * nodes[:, :, None],
            destination=destination * nodes[:, None, :],
        )

    def _used_up(self) -> dict[tuple[str, int, int], float]:
        """Return how much of its tier each read and write takes by itself, by operation, stage and tier.

        A device that does no more for twice as many tasks is used up by these. Where as many were not
        measured, it is taken to be.
        """
        asked: dict[tuple[str, int, int], RateQuery] = {}
        for s, stage in enumerate(self.workflow.stages):
            for operation, (t, tier) in product(("read", "write"), enumerate(self.catalog.names)):
                query = self._io_query(stage, operation, tier) if self.volumes.traced(stage.name) else None
                if query is not None:
                    asked[operation, s, t] = query
        twice = self.profile.rates_of([_twice(query) for query in asked.values()])
        return {
            at: float(np.clip(self._rates[query].mib_s / more.mib_s, 0.5, 1.0))
            if more.provenance == Provenance.MEASURED
            else 1.0
            for (at, query), more in zip(asked.items(), twice, strict=True)
        }

    def _share_of_nodes(self, stage: Stage, tier: StorageTier) -> float:
        """Return the share of a tier's devices that a stage's tasks are at: all nodes have their own."""
        return 1.0 if tier.shared else min(self.nodes, stage.tasks) / self.nodes

    def _io(self, stage: Stage, operation: str, tier: str) -> _Time:
        if not self.volumes.traced(stage.name):
            return _UNKNOWN
        query = self._io_query(stage, operation, tier)
        if query is None:
            return _FREE
        rated = _seconds(query, self._rates[query], int(query.tasks_per_node))
        return self._anchored(stage, query, rated)

    def _anchored(self, stage: Stage, query: RateQuery, time: _Time) -> _Time:
        seconds, provenance, tasks_per_node, log_sd = time
        slot_bytes = query.volume_bytes / self.catalog.node.busy_slots(stage.tasks, self.nodes)
        rated = Rated(stage.name, query.operation, query.source, self.nodes, slot_bytes, seconds, log_sd)
        found = anchored(rated, self.anchors)
        if found is None:
            return time
        # What was traced just so is measured, even where the rates had to be extrapolated.
        provenance = Provenance.MEASURED if found.observed else provenance
        return found.seconds, provenance, tasks_per_node, found.log_sd

    @cached_property
    def _grid(self) -> list[_Divided]:
        """Every read and write in each number of tasks of the grid."""
        node = self.catalog.node
        if node.slots is None:
            return []  # how many tasks run at once, and so how long computing takes, is not known
        found = []
        for (s, stage), operation, (t, tier) in product(
            enumerate(self.workflow.stages), ("read", "write"), enumerate(self.catalog.names)
        ):
            query = self._io_query(stage, operation, tier)
            if query is None:
                continue
            for count in COUNTS:
                divided = replace(stage, tasks=count)
                at_once = node.tasks_at_once(divided.tasks_per_node(self.nodes))
                # Of each file a task moves its share.
                file_bytes = query.file_bytes * stage.tasks / count
                asked = query._replace(tasks_per_node=at_once, file_bytes=file_bytes)
                found.append(_Divided(s, t, divided, asked))
        return found

    def _chunk_times(self, read: TimeTable, write: TimeTable) -> ChunkTimes | None:
        """Return by how much longer reads and writes take in other numbers of tasks, anchored as they are."""
        if self.catalog.node.slots is None:
            return None
        own_s = {"read": read.seconds, "write": write.seconds}
        factors = {name: np.ones((*seconds.shape, len(COUNTS))) for name, seconds in own_s.items()}
        for s, t, stage, query in self._grid:
            rated = _seconds(query, self._rates[query], int(query.tasks_per_node))
            seconds = self._anchored(stage, query, rated)[0]
            at = (s, t, COUNTS.index(stage.tasks))
            factors[query.operation][at] = seconds / own_s[query.operation][s, t]
        return ChunkTimes(COUNTS, **factors)

    def _io_query(self, stage: Stage, operation: str, tier: str) -> RateQuery | None:
        return io_query(self.volumes, self.catalog, stage, operation, tier, self.nodes)

    def _copy(self, edge: Edge, source: str, destination: str) -> _Time:
        if not self.volumes.traced(self._copied_by(edge).name):
            return _UNKNOWN
        query = self._copy_query(edge, source, destination)
        if query is None:
            return _FREE
        found = self._rates[query]
        return _seconds(query, found, 1)

    def _copy_query(self, edge: Edge, source: str, destination: str) -> RateQuery | None:
        """Return the transfer of one node's share of an edge; none where nothing is known to move."""
        stage = self._copied_by(edge)
        moved_bytes = self.volumes.edge_bytes(edge) if self.volumes.traced(stage.name) else None
        if not moved_bytes:
            return None
        names = (self.catalog.tier(source).profile_name, self.catalog.tier(destination).profile_name)
        share_bytes = moved_bytes / min(self.nodes, stage.tasks)
        cold = edge.producer == INITIAL_DATA and source == self.catalog.home
        cold_bytes = min(self.volumes.first_read_bytes(stage.name), share_bytes) if cold else 0.0
        file_bytes = moved_bytes / self.volumes.edge_files(edge)
        moved = (COPY_ACCESS_BYTES, share_bytes, cold_bytes, file_bytes)
        return RateQuery("copy", *names, self.nodes, 1, *moved)

    def _copied_by(self, edge: Edge) -> Stage:
        return self.workflow.stage(edge.producer if edge.producer != INITIAL_DATA else edge.consumer)

    def _compute(self, stage: Stage) -> _Time:
        known = self.volumes.compute(stage.name)
        if known is None:
            return _FREE
        # Tasks are the unit of work: more nodes than tasks do not help.
        busy_then, busy_now = min(known.nodes, stage.tasks), min(self.nodes, stage.tasks)
        slots = self.catalog.node.slots
        alone = self.volumes.share_alone(stage.name, slots * known.nodes) if slots else 1.0
        provenance = Provenance.MEASURED if known.nodes == self.nodes else Provenance.EXTRAPOLATED
        tasks_per_node = stage.tasks_per_node(self.nodes)
        return known.compute_s * alone * busy_then / busy_now, provenance, tasks_per_node, known.log_sd


def _twice(query: RateQuery) -> RateQuery:
    """Return a transfer by twice as many tasks, each of which moves the same."""
    return query._replace(
        tasks_per_node=2 * query.tasks_per_node,
        volume_bytes=2 * query.volume_bytes,
        cold_bytes=2 * query.cold_bytes,
    )


def ends_used_up(copy_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how much a copy takes of the tier it reads, and of the one it writes, from E x T x T seconds.

    What a tier can do at best shows in the fastest copy that it takes part in. Of a tier that other copies
    leave in less time only the rest of a slow copy's time is used.
    """
    other = np.where(np.eye(copy_s.shape[1], dtype=bool) | np.isnan(copy_s), np.inf, copy_s)
    known = np.where(np.isfinite(copy_s) & (copy_s > 0), copy_s, np.nan)
    source = other.min(axis=2, initial=np.inf)[:, :, None] / known
    destination = other.min(axis=1, initial=np.inf)[:, None, :] / known
    return tuple(np.clip(np.nan_to_num(share), 0.0, 1.0) for share in (source, destination))


def _seconds(query: RateQuery, found: RateEstimate, tasks_per_node: int) -> _Time:
    return query.volume_bytes / MIB / found.mib_s, found.provenance, tasks_per_node, found.log_sd
