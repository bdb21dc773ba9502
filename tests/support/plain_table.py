"""Transfer times looked up row by row in plain Python: the published rules read a second time, slowly.

What the package computes with arrays is compared with this. Only the values come from the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import ceil
from typing import NamedTuple

import pandas as pd

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.core.workflow import INITIAL_DATA, Edge, Stage, Workflow

MEASURED, EXTRAPOLATED, NOT_OBSERVED, UNKNOWN = range(4)


class Row(NamedTuple):
    """A line of the table."""

    producer: str
    consumer: str
    producer_tier: str
    consumer_tier: str
    producer_tasks_per_node: int
    consumer_tasks_per_node: int
    producer_s: float
    consumer_s: float


class Cell(NamedTuple):
    """A time: its seconds (``None`` when unknown), where it comes from, at how many tasks per node."""

    seconds: float | None
    state: int
    tasks_per_node: int = -1


def table_of(rows: Iterable[Row]) -> TransferTable:
    """Return the package's table of the same rows."""
    return TransferTable(pd.DataFrame(list(rows), columns=list(Row._fields)))


def tasks_per_node(stage: Stage, nodes: int) -> int:
    return max(1, ceil(stage.tasks / nodes))


class _Rows:
    def __init__(
        self,
        rows: Sequence[Row],
        workflow: Workflow,
        catalog: TierCatalog,
        nodes: int,
        observed_pairs: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.rows = rows
        self.workflow = workflow
        self.home = catalog.home
        self.shared = {tier.name for tier in catalog.tiers if tier.shared}
        self.nodes = nodes
        self.observed_pairs = set(observed_pairs)
        # A benchmark asks for the same cell many times; the rows are scanned once for each.
        for name in ("read", "write", "copy_in", "copy_out"):
            setattr(self, name, cache(getattr(self, name)))

    def compute(self, stage: str) -> Cell:
        """The table holds I/O only."""
        return Cell(0.0, NOT_OBSERVED)

    def missing(self, producer: str, consumer: str) -> Cell:
        known = any(row[:2] == (producer, consumer) for row in self.rows)
        if known or (producer, consumer) in self.observed_pairs:
            return Cell(self.seconds_of_missing, UNKNOWN)
        return Cell(0.0, NOT_OBSERVED)

    def shortest(
        self,
        producer: str,
        consumer: str,
        on: Callable[[Row], bool],
        seconds: str,
        preferred: Sequence[Callable[[Row], bool]],
    ) -> Cell:
        """The shortest time among the first preferred rows that exist, else among all."""
        rows = [row for row in self.rows if row[:2] == (producer, consumer) and on(row)]
        if not rows:
            return self.missing(producer, consumer)
        state = MEASURED if not preferred else EXTRAPOLATED
        for prefers in preferred:
            if any(map(prefers, rows)):
                rows, state = [row for row in rows if prefers(row)], MEASURED
                break
        best = min(rows, key=lambda row: getattr(row, seconds))
        side = "producer" if seconds == "producer_s" else "consumer"
        return Cell(getattr(best, seconds), state, getattr(best, f"{side}_tasks_per_node"))

    def read_from(self, producer: str, stage: Stage, tier: str, source: str | None = None) -> Cell:
        own = tasks_per_node(stage, self.nodes)
        return self.shortest(
            producer,
            stage.name,
            lambda row: row.consumer_tier == tier and source in (None, row.producer_tier),
            "consumer_s",
            [lambda row: row.consumer_tasks_per_node == own],
        )

    def read_initial(self, stage: Stage, tier: str) -> Cell:
        source = tier if tier in self.shared else f"{self.home}-{tier}"
        return self.read_from(f"stage_in-{stage.name}", stage, tier, source)

    def write_to(self, consumer: str, stage: Stage, tier: str) -> Cell:
        own = tasks_per_node(stage, self.nodes)
        return self.shortest(
            stage.name,
            consumer,
            lambda row: row.producer_tier == tier,
            "producer_s",
            [lambda row: row.producer_tasks_per_node == own],
        )

    def write_final(self, stage: Stage, tier: str) -> Cell:
        own = tasks_per_node(stage, self.nodes)

        def on(row: Row) -> bool:
            if row.producer_tier != tier:
                return False
            if tier in self.shared:
                return row.consumer_tier.startswith(f"{tier}-")
            return row.consumer_tier == f"{tier}-{self.home}"

        return self.shortest(
            stage.name,
            f"stage_out-{stage.name}",
            on,
            "producer_s",
            [
                lambda row: row.producer_tasks_per_node == own,
                lambda row: row.consumer_tasks_per_node == own,
            ],
        )

    def copy_in_rows(self, consumer: str, source: str, destination: str, at_own: bool) -> Cell:
        own = tasks_per_node(self.workflow.stage(consumer), self.nodes)
        return self.shortest(
            f"stage_in-{consumer}",
            consumer,
            lambda row: row.producer_tier == f"{source}-{destination}" and row.consumer_tier == destination,
            "producer_s",
            [lambda row: row.consumer_tasks_per_node == own] if at_own else [],
        )

    def copy_out_rows(self, producer: str, source: str, destination: str, at_own: bool) -> Cell:
        own = tasks_per_node(self.workflow.stage(producer), self.nodes)
        return self.shortest(
            producer,
            f"stage_out-{producer}",
            lambda row: row.producer_tier == source and row.consumer_tier == f"{source}-{destination}",
            "consumer_s",
            [lambda row: row.producer_tasks_per_node == own] if at_own else [],
        )

    seconds_of_missing: float | None


def _worst(cells: Sequence[Cell]) -> int:
    return max((cell.state for cell in cells), default=MEASURED)


class ReferenceTable(_Rows):
    """Times of a table as the published rules 3 to 7 look them up."""

    seconds_of_missing = 0.0

    def read(self, stage: str, tier: str) -> Cell:
        """Rule 4: the times of all predecessors added up."""
        found = self.workflow.stage(stage)
        if list(found.predecessors) == [INITIAL_DATA]:
            cells = [self.read_initial(found, tier)]
        else:
            cells = [self.read_from(name, found, tier) for name in found.predecessors if name != INITIAL_DATA]
        return Cell(sum(cell.seconds or 0.0 for cell in cells), _worst(cells))

    def write(self, stage: str, tier: str) -> Cell:
        """Rule 5: the longest over successors on a later level, else the final write."""
        found = self.workflow.stage(stage)
        later = [
            name for name in self.workflow.successors(stage) if self.workflow.stage(name).level > found.level
        ]
        cells = [self.write_to(name, found, tier) for name in later] or [self.write_final(found, tier)]
        return Cell(max(cell.seconds or 0.0 for cell in cells), _worst(cells))

    def copy_in(self, edge: Edge, source: str, destination: str) -> Cell:
        """Rule 3: over all tasks per node."""
        return self.copy_in_rows(edge.consumer, source, destination, at_own=False)

    def copy_out(self, edge: Edge, source: str, destination: str) -> Cell:
        """Rule 6: over all tasks per node."""
        return self.copy_out_rows(edge.producer, source, destination, at_own=False)


class CompleteTable(_Rows):
    """Times of a table as the complete rules look them up."""

    seconds_of_missing = None

    def read(self, stage: str, tier: str) -> Cell:
        """Each row prices the stage's whole volume: the longest counts, once."""
        found = self.workflow.stage(stage)
        cells = [self.read_from(name, found, tier) for name in found.predecessors if name != INITIAL_DATA]
        if INITIAL_DATA in found.predecessors:
            cells.append(self.read_initial(found, tier))
        return self._longest(cells)

    def write(self, stage: str, tier: str) -> Cell:
        """The longest over all successors, the outside included where the output is final."""
        found = self.workflow.stage(stage)
        cells = [self.write_to(name, found, tier) for name in self.workflow.successors(stage)]
        if found.final or not cells:
            cells.append(self.write_final(found, tier))
        return self._longest(cells)

    def copy_in(self, edge: Edge, source: str, destination: str) -> Cell:
        return self.copy_in_rows(edge.consumer, source, destination, at_own=True)

    def copy_out(self, edge: Edge, source: str, destination: str) -> Cell:
        return self.copy_out_rows(edge.producer, source, destination, at_own=True)

    @staticmethod
    def _longest(cells: Sequence[Cell]) -> Cell:
        if any(cell.seconds is None for cell in cells):
            return Cell(None, UNKNOWN)
        return Cell(max((cell.seconds or 0.0 for cell in cells), default=0.0), _worst(cells))
