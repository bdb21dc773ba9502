"""The signature of a region: the workflow's DAG, each stage with its tiers and its role."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from qosflow_airflow.figures.style import INK, TIERS, drawing, new_figure, readable_on

Point = tuple[float, float]

WIDTH, HEIGHT = 1.75, 0.92
"""A stage's box, inches."""
COLUMN, ROW = 2.25, 1.15
"""From box to box, inches."""
LARGEST_IN = 60.0
"""Larger figures are scaled down to this."""
LONGEST_NAME = 24
CHARACTER = 0.068
"""What a letter in a bar takes, inches."""
LINE = "#777777"
BORDERS: dict[str, dict[str, Any]] = {
    "critical": {"linewidth": 2.4, "linestyle": "-", "edgecolor": "#D55E00"},
    "constrained": {"linewidth": 1.1, "linestyle": "-", "edgecolor": INK},
    "flexible": {"linewidth": 1.1, "linestyle": (0, (4, 3)), "edgecolor": LINE},
}
"""The role of a stage, as its border."""


@drawing
def draw_signature(data: Mapping[str, Any]) -> Figure:
    """Draw :func:`~qosflow_airflow.core.figure_data.signature`."""
    stages = data["stages"]
    columns = max(stage["column"] for stage in stages)
    # The lowest row has the largest number; what passes may run below or above all stages.
    rows = [stage["row"] for stage in stages] + [row for edge in data["edges"] for _, row in edge["via"]]
    width = columns * COLUMN + WIDTH + 0.5
    rule = textwrap.wrap(data["description"], max(40, int(width * 15)))
    top = -min(rows) * ROW + HEIGHT / 2 + 0.5
    bottom = -max(rows) * ROW - HEIGHT / 2 - 0.17 * len(rule) - 0.3
    shrink = min(1.0, LARGEST_IN / max(width, top - bottom))
    figure = new_figure(width * shrink, (top - bottom) * shrink, data["title"])
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.25, width - 0.25)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    at = {stage["name"]: (stage["column"] * COLUMN, -stage["row"] * ROW) for stage in stages}
    for edge in data["edges"]:
        via = [(column * COLUMN, -row * ROW) for column, row in edge["via"]]
        _arrow(axes, at[edge["producer"]], via, at[edge["consumer"]])
    for stage in stages:
        _box(axes, stage, at[stage["name"]], data["tier_names"])
    axes.text(0, top - 0.1, data["title"], va="top", fontsize=10)
    axes.text(0, bottom + 0.1, "\n".join(rule), va="bottom", fontsize=8)
    return figure


def _arrow(axes: Axes, start: Point, via: list[Point], end: Point) -> None:
    """Draw an edge from the right side of a box to the left of another, level where it passes columns."""
    points = [(start[0] + WIDTH, start[1])]
    points += [(x + shift, y) for x, y in via for shift in (0.0, WIDTH)]
    points.append((end[0] - 0.02, end[1]))
    vertices, codes = [points[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    path = Path(vertices, codes)
    axes.add_patch(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=LINE, linewidth=1.0, zorder=1)
    )


def _box(axes: Axes, stage: Mapping[str, Any], at: tuple[float, float], tier_names: list[str]) -> None:
    x, y = at
    axes.add_patch(
        FancyBboxPatch(
            (x, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="white",
            zorder=2,
            **BORDERS[stage["role"]],
        )
    )
    name = stage["name"]
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    axes.text(x + 0.1, y + 0.27, name, va="center", fontsize=8.5 if len(name) < 20 else 7, weight="bold")
    count = f"{stage['tasks']} task{'' if stage['tasks'] == 1 else 's'}"
    axes.text(x + 0.1, y + 0.04, f"{stage['role']}, {count}", va="center", fontsize=7)
    _chips(axes, stage, (x + 0.1, y - HEIGHT / 2 + 0.1), tier_names)


def _chips(axes: Axes, stage: Mapping[str, Any], at: tuple[float, float], tier_names: list[str]) -> None:
    """Draw a bar of the tiers that the stage takes in the region, each as wide as its share."""
    left, high = at[0], 0.21
    for tier, share in stage["share"].items():
        wide = share * (WIDTH - 0.2)
        if not wide:
            continue
        colour = TIERS[tier_names.index(tier) % len(TIERS)]
        axes.add_patch(
            Rectangle((left, at[1]), wide, high, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3)
        )
        fits = int(wide / CHARACTER)
        axes.text(
            left + wide / 2,
            at[1] + high / 2,
            tier if len(tier) <= fits else f"{tier[: fits - 1]}…" if fits > 2 else "",
            ha="center",
            va="center",
            fontsize=7,
            color=readable_on(colour),
            zorder=4,
        )
        left += wide
