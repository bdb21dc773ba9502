"""The numbers of figures as tables: as a page shows them, and as CSV for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from qosflow_airflow.core.explain import configuration_in_words
from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.web.charts import part_in_words
from qosflow_airflow.web.insights import NOTHING, seconds

Cell = str | int | float | None
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so is taken for a formula by spreadsheets."""


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV, its words on a page, and what its values are."""

    name: str
    words: str
    kind: Literal["text", "count", "seconds", "share"] = "text"

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.kind != "text"


@dataclass(frozen=True)
class Table:
    """The numbers of a figure; ``None`` is what is not known."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def shown(self, most: int) -> tuple[tuple[str, ...], ...]:
        """Return the first rows as a page shows them."""
        kinds = [column.kind for column in self.columns]
        return tuple(tuple(map(_shown, row, kinds)) for row in self.rows[:most])

    def to_csv(self) -> str:
        """Return all rows as CSV with a head; text that a spreadsheet would compute begins with a quote."""
        written = StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow([_inert(column.name) for column in self.columns])
        writer.writerows([_inert(cell) for cell in row] for row in self.rows)
        return written.getvalue()


def table_of(data: Mapping[str, Any]) -> Table:
    """Return the numbers of a figure of :mod:`~qosflow_airflow.core.figure_data`."""
    columns, rows = TABLES[data["figure"]](data)
    return Table(tuple(columns), tuple(rows))


def configurations_of(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the configuration of each point of a scatter in words, without its node count."""
    stages, tiers = data["stages"], data["tier_names"]
    for layout in data["layouts"]:
        chosen = {stage: tiers[tier] for stage, tier in zip(stages, layout, strict=True)}
        yield configuration_in_words({"nodes": data["nodes"], "tiers": chosen}).partition(", ")[2]


def _regions(data: Mapping[str, Any]) -> tuple[Sequence[Column], Iterator[tuple[Cell, ...]]]:
    columns = (
        Column("position", "Position", "count"),
        Column("region", "Region", "count"),
        Column("makespan_s", "Makespan", "seconds"),
        Column("configuration", "Configuration"),
    )
    points = (data["position"], data["region"], data["makespan_s"], configurations_of(data))
    return columns, zip(*points, strict=True)


def _costs(data: Mapping[str, Any]) -> tuple[Sequence[Column], Iterator[tuple[Cell, ...]]]:
    return (Column("region", "Region", "count"), *_COSTS), _bars(data)


def _shift(data: Mapping[str, Any]) -> tuple[Sequence[Column], Iterator[tuple[Cell, ...]]]:
    columns = (Column("nodes", "Nodes", "count"), Column("region", "Region", "count"), *_COSTS)
    return columns, ((one["nodes"], *bar) for one in data["scales"] for bar in _bars(one))


_COSTS = (
    Column("configurations", "Configurations", "count"),
    *(Column(f"{part}_s", part_in_words(part), "seconds") for part in SPLIT),
    Column("makespan_s", "Mean makespan", "seconds"),
)


def _bars(data: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    parts = [data["split_s"][part] for part in SPLIT]
    return zip(data["regions"], data["sizes"], *parts, data["makespan_s"], strict=True)


def _signature(data: Mapping[str, Any]) -> tuple[Sequence[Column], Iterator[tuple[Cell, ...]]]:
    tiers = data["tier_names"]
    columns = (
        Column("stage", "Stage"),
        Column("role", "Role"),
        Column("path_share", "On the critical path", "share"),
        *(Column(f"share_{tier}", tier, "share") for tier in tiers),
    )
    rows = (
        (one["name"], one["role"], one["path_share"], *(one["share"].get(tier, 0.0) for tier in tiers))
        for one in data["stages"]
    )
    return columns, rows


def _totals(data: Mapping[str, Any]) -> tuple[Sequence[Column], Iterator[tuple[Cell, ...]]]:
    kinds, choices = ("best", "median", "worst"), data["first_choice_s"]
    columns = (
        Column("nodes", "Nodes", "count"),
        *(Column(f"{kind}_s", kind.capitalize(), "seconds") for kind in kinds),
        *(Column(f"first_{name}_s", f"First of {name}", "seconds") for name in choices),
    )
    parts = (data["nodes"], *(data[f"{kind}_s"] for kind in kinds), *choices.values())
    return columns, zip(*parts, strict=True)


TABLES = {
    "regions": _regions,
    "costs": _costs,
    "shift": _shift,
    "signature": _signature,
    "totals": _totals,
}
"""How the numbers of each kind of figure are put into rows."""


def _shown(cell: Cell, kind: str) -> str:
    if cell is None:
        return NOTHING
    if kind == "seconds":
        return seconds(cell)
    if kind == "share" and isinstance(cell, int | float):
        return f"{cell:.0%}"
    return f"{cell:,}" if kind == "count" else str(cell)


def _inert(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
