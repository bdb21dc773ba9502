"""SPM's transfer times (seconds per producer, consumer, tiers and tasks per node) as stage times.

Source: the tables of the public QoSFlow artifact, made by SPM. The pseudo-stages ``stage_in-S`` and
``stage_out-S`` stand for the outside and for copies; a tier pair is written ``source-destination``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from qosflow_airflow.core.makespan_rules import MakespanRules, edges_under
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, IntArray, Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow

COLUMNS = (
    "producer",
    "consumer",
    "producer_tier",
    "consumer_tier",
    "producer_tasks_per_node",
    "consumer_tasks_per_node",
    "producer_s",
    "consumer_s",
)
"""The columns of :attr:`TransferTable.frame`."""


class _Rows(NamedTuple):
    """Rows of one producer, consumer and pair of tiers, in file order."""

    producer_tasks_per_node: IntArray
    consumer_tasks_per_node: IntArray
    producer_s: FloatArray
    consumer_s: FloatArray

    def seconds(self, side: str) -> FloatArray:
        return self.producer_s if side == "producer" else self.consumer_s

    def tasks_per_node(self, side: str) -> IntArray:
        return self.producer_tasks_per_node if side == "producer" else self.consumer_tasks_per_node


class _Time(NamedTuple):
    seconds: float
    provenance: Provenance
    tasks_per_node: int = -1


@dataclass(frozen=True)
class TransferTable:
    """A validated table with the columns of :data:`COLUMNS`."""

    frame: pd.DataFrame

    @cached_property
    def _groups(self) -> dict[tuple[str, str], dict[tuple[str, str], _Rows]]:
        groups: dict[tuple[str, str], dict[tuple[str, str], _Rows]] = {}
        columns = [self.frame[name].to_numpy() for name in COLUMNS]
        positions = self.frame.groupby(list(COLUMNS[:4]), sort=False).indices
        # In file order; slicing a frame per group would take most of a build.
        for at in sorted(positions.values(), key=lambda at: int(at[0])):
            producer, consumer, source, destination = (str(column[at[0]]) for column in columns[:4])
            rows = _Rows(*(column[at] for column in columns[4:]))
            groups.setdefault((producer, consumer), {})[source, destination] = rows
        return groups

    @cached_property
    def tiers(self) -> tuple[str, ...]:
        """Single tiers that the table names, in file order."""
        names = pd.concat([self.frame["producer_tier"], self.frame["consumer_tier"]]).unique()
        return tuple(name for name in names if "-" not in name)

    @cached_property
    def local_tiers(self) -> frozenset[str]:
        """Tiers with a copy from one node to another on the same tier: only node-local storage needs that."""
        return frozenset(name for name in self.tiers if f"{name}-{name}" in set(self.frame["consumer_tier"]))

    def rows(self, producer: str, consumer: str, source: str | None, destination: str | None) -> _Rows | None:
        """Return the rows of a pair on these tiers: ``None`` is any, ``tier-*`` any copy from the tier."""
        found = [
            rows
            for (have_source, have_destination), rows in self._groups.get((producer, consumer), {}).items()
            if _matches(source, have_source) and _matches(destination, have_destination)
        ]
        if not found:
            return None
        return (
            found[0]
            if len(found) == 1
            else _Rows(*(np.concatenate(part) for part in zip(*found, strict=True)))
        )

    def has(self, producer: str, consumer: str) -> bool:
        """Whether the table has any row of this pair, on whatever tiers."""
        return (producer, consumer) in self._groups


def stage_times(
    table: TransferTable,
    workflow: Workflow,
    catalog: TierCatalog,
    nodes: int,
    rules: MakespanRules,
    observed_pairs: Iterable[tuple[str, str]] = (),
) -> StageTimes:
    """Return the stage times at ``nodes`` that ``table`` holds, under ``rules``.

    A pair without any row is *not observed* (0 s), unless ``observed_pairs`` (from the trace) says that data
    flowed there; a pair with rows, but none for the tier, is *unknown*.
    """
    builder = _Builder(table, workflow, catalog, nodes, rules, frozenset(observed_pairs))
    return builder.build()


class _Builder:
    def __init__(
        self,
        table: TransferTable,
        workflow: Workflow,
        catalog: TierCatalog,
        nodes: int,
        rules: MakespanRules,
        observed_pairs: frozenset[tuple[str, str]],
    ) -> None:
        self.table = table
        self.workflow = workflow
        self.catalog = catalog
        self.nodes = nodes
        self.rules = rules
        self.observed_pairs = observed_pairs
        self.edges = edges_under(workflow, rules)

    def build(self) -> StageTimes:
        tables = blank_tables(len(self.workflow.stages), len(self.catalog.tiers), len(self.edges))
        for s, stage in enumerate(self.workflow.stages):
            # The table holds I/O only: compute time is not known and counts as 0 s.
            tables["compute"].put((s,), 0.0, Provenance.NOT_OBSERVED)
            tasks_per_node = stage.tasks_per_node(self.nodes)
            for t, tier in enumerate(self.catalog.names):
                tables["read"].put((s, t), *self._read(stage, tier), tasks_per_node)
                tables["write"].put((s, t), *self._write(stage, tier), tasks_per_node)
        for e, edge in enumerate(self.edges):
            for a, source in enumerate(self.catalog.names):
                for b, destination in enumerate(self.catalog.names):
                    if edge.consumer != FINAL_DATA:
                        tables["stage_in"].put((e, a, b), *self._stage_in(edge, source, destination))
                    if edge.producer != INITIAL_DATA:
                        tables["stage_out"].put((e, a, b), *self._stage_out(edge, source, destination))
        stages, tiers = self.workflow.stage_names, self.catalog.names
        return StageTimes(
            self.nodes,
            stages,
            tiers,
            self.edges,
            **tables,
            edge_bytes=None,
            output_bytes=None,
            anchors=(),
            chunks=None,
            demand=None,
        )

    def _read(self, stage: Stage, tier: str) -> tuple[float, Provenance]:
        parts = [self._read_from(name, stage, None, tier) for name in stage.stage_predecessors]
        alone = tuple(stage.predecessors) == (INITIAL_DATA,)
        if alone or (stage.reads_initial_data and self.rules.mixed_stages_read_initial_data):
            source = tier if self.catalog.tier(tier).shared else f"{self.catalog.home}-{tier}"
            parts.append(self._read_from(f"stage_in-{stage.name}", stage, source, tier))
        return _combined(parts, sum if self.rules.reads_add_up else max)

    def _read_from(self, producer: str, stage: Stage, source: str | None, tier: str) -> _Time:
        rows = self.table.rows(producer, stage.name, source, tier)
        return self._shortest(rows, "consumer", ("consumer",), stage, producer, stage.name)

    def _write(self, stage: Stage, tier: str) -> tuple[float, Provenance]:
        parts = [
            self._write_to(name, stage, tier)
            for name in self.workflow.successors(stage.name)
            if self.rules.same_level_successors_count or self.workflow.stage(name).level > stage.level
        ]
        final = Edge(stage.name, FINAL_DATA) in self.workflow.edges
        if not parts or (final and self.rules.flushes_every_final_output):
            parts.append(self._write_final(stage, tier))
        return _combined(parts, max)

    def _write_to(self, consumer: str, stage: Stage, tier: str) -> _Time:
        rows = self.table.rows(stage.name, consumer, tier, None)
        return self._shortest(rows, "producer", ("producer",), stage, stage.name, consumer)

    def _write_final(self, stage: Stage, tier: str) -> _Time:
        outside = f"stage_out-{stage.name}"
        # On shared storage every copy from there tells what writing there took.
        destination = f"{tier}-*" if self.catalog.tier(tier).shared else f"{tier}-{self.catalog.home}"
        rows = self.table.rows(stage.name, outside, tier, destination)
        return self._shortest(rows, "producer", ("producer", "consumer"), stage, stage.name, outside)

    def _stage_in(self, edge: Edge, source: str, destination: str) -> _Time:
        outside = f"stage_in-{edge.consumer}"
        rows = self.table.rows(outside, edge.consumer, f"{source}-{destination}", destination)
        stage = self.workflow.stage(edge.consumer)
        own = () if self.rules.copies_at_any_node_count else ("consumer",)
        return self._shortest(rows, "producer", own, stage, outside, edge.consumer)

    def _stage_out(self, edge: Edge, source: str, destination: str) -> _Time:
        outside = f"stage_out-{edge.producer}"
        rows = self.table.rows(edge.producer, outside, source, f"{source}-{destination}")
        stage = self.workflow.stage(edge.producer)
        own = () if self.rules.copies_at_any_node_count else ("producer",)
        return self._shortest(rows, "consumer", own, stage, edge.producer, outside)

    def _shortest(
        self, rows: _Rows | None, side: str, own: tuple[str, ...], stage: Stage, producer: str, consumer: str
    ) -> _Time:
        """Return the shortest time of ``side`` among the rows at the stage's own tasks per node.

        ``own`` names the sides whose tasks per node may be the stage's, in order of preference; where no row
        has it, all rows count and the time is extrapolated. Without ``own`` all rows count as they are.
        """
        if rows is None:
            return self._missing(producer, consumer)
        seconds = rows.seconds(side)
        wanted = stage.tasks_per_node(self.nodes)
        at_own = [same for name in own if (same := rows.tasks_per_node(name) == wanted).any()]
        if at_own:
            seconds = np.where(at_own[0], seconds, np.nan)
        if np.isnan(seconds).all():
            return self._missing(producer, consumer)
        at = int(np.nanargmin(seconds))
        provenance = Provenance.MEASURED if at_own or not own else Provenance.EXTRAPOLATED
        return _Time(float(seconds[at]), provenance, int(rows.tasks_per_node(side)[at]))

    def _missing(self, producer: str, consumer: str) -> _Time:
        if self.table.has(producer, consumer) or (producer, consumer) in self.observed_pairs:
            return _Time(0.0 if self.rules.missing_is_zero else np.nan, Provenance.UNKNOWN)
        return _Time(0.0, Provenance.NOT_OBSERVED)


def _matches(wanted: str | None, have: str) -> bool:
    if wanted is None:
        return True
    return have.startswith(wanted[:-1]) if wanted.endswith("-*") else have == wanted


def _combined(parts: list[_Time], combine: Callable[[list[float]], float]) -> tuple[float, Provenance]:
    """Combine the times of several edges; the worst provenance holds for all."""
    if not parts:
        return 0.0, Provenance.MEASURED
    worst = max(part.provenance for part in parts)
    seconds = [part.seconds for part in parts]
    return (np.nan if np.isnan(seconds).any() else float(combine(seconds))), worst
