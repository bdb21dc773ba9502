"""How well orderings order, and what their first choices take beyond the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qosflow_airflow.core.evaluation import chosen_first
from qosflow_airflow.figures.style import INK, ORDERINGS, drawing, from_zero, legend_above, new_figure

APART = 0.16
"""Markers of one node count stand so far apart, in distances between node counts."""


@drawing
def draw_evaluation(found: Mapping[str, Any]) -> Figure:
    """Draw what :func:`~qosflow_airflow.core.evaluation.evaluate_model` found: concordance and regret."""
    scales = found["scales"]
    words = f"{found['workflow']}: how well orderings order, and what their first choices take"
    figure = new_figure(max(10.5, 2.4 * len(scales) + 3.0), 3.9, words)
    curves = {nodes: scale["regions"]["curve"] for nodes, scale in scales.items() if _has_curve(scale)}
    left, right, *more = figure.subplots(1, 3 if curves else 2)
    for number, (name, entries) in enumerate(_by_ordering(scales)):
        colour, marker = ORDERINGS[name]
        at = np.arange(len(scales)) + (number - (len(ORDERINGS) - 1) / 2) * APART
        look = {"color": colour, "linestyle": "none", "marker": marker, "markersize": 6.5}
        left.plot(at, _values(entries, "concordance"), **look, label=name)
        left.plot(at, _values(entries, "concordance_published"), **look, fillstyle="none", alpha=0.8)
        ratios = [chosen_first(entry).get("ratio") for entry in entries]
        right.plot(at, _known(ratios), **look)
    left.axhline(0.5, color=INK, linewidth=0.9, linestyle="--")
    left.text(1.01, 0.5, "coin", transform=left.get_yaxis_transform(), va="center", fontsize=7.5)
    left.set_ylim(0, 1.03)
    left.set_ylabel("share of pairs in the right order\n(filled: concordance, hollow: published)")
    right.axhline(1.0, color=INK, linewidth=0.9)
    from_zero(right)
    right.set_ylabel("makespan of the first choice\n/ makespan of the best")
    for axes in (left, right):
        _node_axis(axes, list(scales))
    for axes in more:
        _draw_curves(axes, curves, scales)
    legend_above(left, columns=4)
    figure.suptitle(words, x=0.01, ha="left", fontsize=10)
    return figure


def _has_curve(scale: Mapping[str, Any]) -> bool:
    return bool(scale["regions"] and len(scale["regions"]["curve"]) > 1)


def _draw_curves(axes: Axes, curves: Mapping[str, list[list[float]]], scales: Mapping[str, Any]) -> None:
    """Draw concordance by the number of regions, a line per scale, with a marker at the number taken."""
    shades = colormaps["viridis"](np.linspace(0.0, 0.8, len(curves)))
    for number, (nodes, curve) in enumerate(curves.items()):
        sizes, concordances, _ = zip(*curve, strict=True)
        label = f"{nodes} node{'' if nodes == '1' else 's'}"
        dashes = ("-", "--", "-.", ":")[number % 4]
        axes.plot(sizes, concordances, dashes, color=shades[number], linewidth=1.3, label=label)
        taken = scales[nodes]["regions"]["count"]
        reached = max((size, value) for size, value in zip(sizes, concordances, strict=True) if size <= taken)
        axes.plot(*reached, "o", color=shades[number], markersize=6)
    axes.set_xlabel("number of regions\n(marked: that of the model)")
    axes.set_ylabel("concordance, held out")
    axes.set_ylim(top=1.02)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right")


def _by_ordering(scales: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield each ordering with its figures per scale; nothing where there are none."""
    for name in ORDERINGS:
        if name != "regions":
            yield name, [scale["policies"][name] for scale in scales.values()]
            continue
        regions = [scale["regions"] or {} for scale in scales.values()]
        yield name, [{**entry, "concordance": entry.get("concordance_held_out")} for entry in regions]


def _values(entries: list[Mapping[str, Any]], name: str) -> list[float]:
    return _known([entry.get(name) for entry in entries])


def _known(values: list[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _node_axis(axes: Axes, nodes: list[str]) -> None:
    axes.set_xticks(range(len(nodes)), nodes)
    axes.set_xlim(-0.6, len(nodes) - 0.4)
    axes.set_xlabel("nodes")
