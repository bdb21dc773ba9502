"""Makespans by node count, and what each ordering chooses first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from qosflow_airflow.figures.style import INK, ORDERINGS, drawing, from_zero, legend_above, new_figure, title

APART = 0.16
"""Markers of one node count stand so far apart, in distances between node counts."""
LEVEL = 0.36
"""Half the length of the lines of best, median and worst, in the same distances."""

LEVELS: tuple[tuple[str, Literal[":", "--", "-"]], ...] = (("worst", ":"), ("median", "--"), ("best", "-"))


@drawing
def draw_totals(data: Mapping[str, Any]) -> Figure:
    """Draw :func:`~qosflow_airflow.core.figure_data.totals`."""
    figure = new_figure(max(5.2, 1.1 * len(data["nodes"]) + 2.4), 4.2, data["title"])
    axes = figure.add_subplot()
    at = np.arange(len(data["nodes"]), dtype=float)
    for name, dashes in LEVELS:
        ends = at - LEVEL, at + LEVEL
        axes.hlines(data[f"{name}_s"], *ends, colors=INK, linestyles=dashes, linewidth=1.3, label=name)
    for number, (name, seconds) in enumerate(data["first_choice_s"].items()):
        colour, marker = ORDERINGS[name]
        beside = at + (number - (len(data["first_choice_s"]) - 1) / 2) * APART
        known = [value if value is not None else np.nan for value in seconds]
        axes.plot(
            beside,
            known,
            marker,
            color=colour,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=f"{name}' first choice" if name.endswith("s") else f"{name}'s first choice",
            zorder=3,
        )
    axes.set_xticks(at, [str(nodes) for nodes in data["nodes"]])
    axes.set_xlim(-0.5, len(at) - 0.5)
    from_zero(axes)
    axes.set_xlabel("nodes")
    axes.set_ylabel("makespan, s")
    legend_above(axes, columns=3)
    title(axes, data["title"], above=50)
    return figure
