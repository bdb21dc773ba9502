"""Regions: where configurations lie, and what their makespans consist of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qosflow_airflow.figures.style import (
    FAINT,
    INK,
    PARTS,
    drawing,
    from_zero,
    legend_above,
    new_figure,
    title,
)

MANY_POINTS = 1000
"""From so many points on a scatter is an image inside an SVG, so that the file stays small."""
NARROW = 0.022
"""A band of this share of the width has no room for a number."""


@drawing
def draw_regions(data: Mapping[str, Any]) -> Figure:
    """Draw :func:`~qosflow_airflow.core.figure_data.regions_scatter`."""
    figure = new_figure(7.2, 4.2, data["title"])
    axes = figure.add_subplot()
    regions = data["regions"]
    colours = colormaps["viridis"](np.linspace(0.0, 0.92, len(regions)))
    many = data["shown"] > MANY_POINTS
    axes.scatter(
        data["position"],
        data["makespan_s"],
        c=colours[np.asarray(data["region"], dtype=np.int64)] if data["region"] else None,
        s=6 if many else 14,
        linewidths=0,
        rasterized=many,
    )
    for number, region in enumerate(regions):
        _band(axes, region, data["measured"], shaded=number % 2 == 1)
    axes.set_xlim(-0.5, max(data["measured"], 1) - 0.5)
    from_zero(axes)
    axes.set_xlabel(_x_label(data))
    axes.set_ylabel("makespan, s")
    title(axes, data["title"], above=18)
    return figure


def _band(axes: Axes, region: Mapping[str, Any], measured: int, *, shaded: bool) -> None:
    low, high = region["first"] - 0.5, region["last"] + 0.5
    if shaded:
        axes.axvspan(low, high, color=FAINT, alpha=0.45, linewidth=0, zorder=0)
    axes.hlines(region["median_s"], low, high, color=INK, linewidth=1.2)
    if high - low > NARROW * measured:
        place = ((low + high) / 2, 1.0)
        axes.annotate(
            str(region["id"]),
            place,
            xycoords=("data", "axes fraction"),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7.5,
        )


def _x_label(data: Mapping[str, Any]) -> str:
    label = "configurations, by region (numbers above, lines at their medians) and makespan"
    if data["shown"] < data["measured"]:
        label += f"\n{data['shown']:,} of {data['measured']:,} are drawn"
    return label


@drawing
def draw_region_costs(data: Mapping[str, Any]) -> Figure:
    """Draw :func:`~qosflow_airflow.core.figure_data.region_costs` as stacked bars."""
    figure = new_figure(7.2, 4.2, data["title"])
    axes = figure.add_subplot()
    at = np.arange(len(data["regions"]))
    bottom = np.zeros(len(at))
    for part, seconds in data["split_s"].items():
        label = part.replace("_io", " I/O")
        axes.bar(at, seconds, 0.8, bottom, color=PARTS[part], label=label, edgecolor="white", linewidth=0.4)
        bottom += np.asarray(seconds)
    step = max(1, len(at) // 32)
    axes.set_xticks(at[::step], [str(one) for one in data["regions"][::step]])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(at) - 0.4)
    axes.set_xlabel("region, from the fastest by median")
    axes.set_ylabel("mean makespan, s")
    legend_above(axes, columns=4)
    title(axes, data["title"], above=24)
    return figure
