"""Figures of :mod:`qosflow_airflow.core.figure_data` as SVG to stand inside a page.

Colours are classes of the style sheet, so that they follow light and dark; there is no script and no style.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 720.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 22.0, 40.0
HUES = 8
"""Colours of regions and tiers in the style sheet; they begin again after the last."""
PARTS = ("movement", "shared_io", "local_io", "compute")
BAR_W = 7.0
"""The least room of a bar among many."""
SPARK_W, SPARK_H = 132.0, 30.0
STAGE_W, STAGE_H, COLUMN_W, ROW_H = 138.0, 54.0, 186.0, 76.0


def element(name: str, *inner: object, **attributes: object) -> Markup:
    """Return an element, text and values escaped; in names ``_`` is a hyphen, and ``klass`` is class."""
    # Joined as text and not with Markup.format: a scatter has thousands of elements.
    said = "".join(
        f' {_attribute(key)}="{f"{value:.2f}" if isinstance(value, float) else escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{''.join(map(escape, inner))}</{name}>")  # noqa: S704 - escaped above


@cache
def _attribute(key: str) -> str:
    return key.replace("klass", "class").replace("_", "-")


def drawing(data: Mapping[str, Any], parts: Iterable[Markup], width: float, height: float) -> Markup:
    """Return an SVG with the title and the description of its data."""
    return element(
        "svg",
        element("title", data["title"]),
        element("desc", data["description"]),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_label=data["title"],
        klass=f"chart {data['figure']}",
    )


def draw_regions(data: Mapping[str, Any], configurations: Iterable[str]) -> Markup:
    """Draw :func:`~qosflow_airflow.core.figure_data.regions_scatter`, each point with its configuration."""
    top_s = max(data["makespan_s"], default=1.0)
    across = _Scale(-0.5, max(data["measured"], 1) - 0.5, LEFT, WIDTH - RIGHT)
    up = _Scale(0.0, top_s * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(up, "makespan, s"), _label_x("configurations, by region and makespan")]
    for span in data["regions"]:
        x0, x1 = across.at(span["first"] - 0.5), across.at(span["last"] + 0.5)
        if span["id"] % 2:
            parts.append(
                element("rect", x=x0, y=TOP, width=x1 - x0, height=HEIGHT - BOTTOM - TOP, klass="band")
            )
        if x1 - x0 > 16:
            parts.append(_text(str(span["id"]), (x0 + x1) / 2, TOP - 6, "middle"))
    points = zip(data["position"], data["makespan_s"], data["region"], configurations, strict=True)
    for position, seconds, region, words in points:
        tip = element("title", f"region {region}: {seconds:.4g} s, {words}")
        hue = f"hue{region % HUES}"
        parts.append(element("circle", tip, cx=across.at(position), cy=up.at(seconds), r=2.6, klass=hue))
    for span in data["regions"]:
        x0, x1 = across.at(span["first"] - 0.5), across.at(span["last"] + 0.5)
        y = up.at(span["median_s"])
        parts.append(element("line", x1=x0, x2=x1, y1=y, y2=y, klass="median"))
    return drawing(data, parts, WIDTH, HEIGHT)


def draw_costs(data: Mapping[str, Any]) -> Markup:
    """Draw :func:`~qosflow_airflow.core.figure_data.region_costs` as stacked bars."""
    count = max(len(data["regions"]), 1)
    up = _Scale(0.0, max(data["makespan_s"], default=1.0) * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / count
    wide = min(step * 0.76, 64.0)
    parts = [*_grid(up, "mean makespan, s"), _label_x("region, from the fastest by median")]
    every = max(1, ceil(count / 32))
    for number, region in enumerate(data["regions"]):
        middle = LEFT + (number + 0.5) * step
        parts += _stack(data, number, f"region {region}", up, middle, wide)
        if number % every == 0:
            parts.append(_text(str(region), middle, HEIGHT - BOTTOM + 14, "middle"))
    return drawing(data, parts, WIDTH, HEIGHT)


def draw_shift(data: Mapping[str, Any]) -> Markup:
    """Draw :func:`~qosflow_airflow.core.figure_data.cost_shift`: stacked bars by region, by node count."""
    scales = data["scales"]
    bars = sum(len(one["regions"]) for one in scales)
    step = max(BAR_W, (WIDTH - LEFT - RIGHT) / max(bars + len(scales), 1))
    width = LEFT + RIGHT + step * (bars + len(scales))
    top_s = max((seconds for one in scales for seconds in one["makespan_s"]), default=1.0)
    up = _Scale(0.0, top_s * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(up, "mean makespan, s", width)]
    parts.append(_text("regions from the fastest, by node count", (LEFT + width) / 2, HEIGHT - 6, "middle"))
    left = LEFT + step / 2
    for one in scales:
        words = f"{one['nodes']} node{'' if one['nodes'] == 1 else 's'}"
        for number, region in enumerate(one["regions"]):
            middle = left + (number + 0.5) * step
            parts += _stack(one, number, f"{words}, region {region}", up, middle, min(step * 0.76, 64.0))
        wide = step * len(one["regions"])
        parts.append(_text(words, left + wide / 2, HEIGHT - BOTTOM + 14, "middle"))
        left += wide + step
    return drawing(data, parts, width, HEIGHT)


def _stack(
    data: Mapping[str, Any], number: int, words: str, up: _Scale, middle: float, wide: float
) -> list[Markup]:
    """Return the parts of a region's mean makespan, one on the other."""
    parts, below = [], 0.0
    for part in PARTS:
        seconds = data["split_s"][part][number]
        y, high = up.at(below + seconds), up.at(below) - up.at(below + seconds)
        tip = element("title", f"{words}, {part_in_words(part)}: {seconds:.4g} s")
        bar = {"x": middle - wide / 2, "y": y, "width": wide, "height": high}
        parts.append(element("rect", tip, **bar, klass=f"part-{part}"))
        below += seconds
    return parts


def draw_totals(data: Mapping[str, Any]) -> Markup:
    """Draw :func:`~qosflow_airflow.core.figure_data.totals`: a range per node count, and first choices."""
    nodes: Sequence[int] = data["nodes"]
    up = _Scale(0.0, max(data["worst_s"], default=1.0) * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(nodes), 1)
    parts = [*_grid(up, "makespan, s"), _label_x("nodes")]
    names = list(data["first_choice_s"])
    for at, count in enumerate(nodes):
        middle = LEFT + (at + 0.5) * step
        best, median, worst = (data[f"{name}_s"][at] for name in ("best", "median", "worst"))
        tip = element(
            "title", f"{count} nodes: best {best:.4g} s, median {median:.4g} s, worst {worst:.4g} s"
        )
        range_ = {"x": middle - 7, "y": up.at(worst), "width": 14.0, "height": up.at(best) - up.at(worst)}
        parts.append(element("rect", tip, **range_, klass="range"))
        y = up.at(median)
        parts.append(element("line", x1=middle - 7, x2=middle + 7, y1=y, y2=y, klass="median"))
        parts.append(_text(str(count), middle, HEIGHT - BOTTOM + 14, "middle"))
        for number, name in enumerate(names):
            seconds = data["first_choice_s"][name][at]
            if seconds is not None:
                tip = element("title", f"{name}, first choice on {count} nodes: {seconds:.4g} s")
                x = middle + 18 + 11 * number
                parts.append(element("circle", tip, cx=x, cy=up.at(seconds), r=4.0, klass=f"hue{number}"))
    return drawing(data, parts, WIDTH, HEIGHT)


def draw_signature(data: Mapping[str, Any]) -> Markup:
    """Draw :func:`~qosflow_airflow.core.figure_data.signature`: the DAG, tiers as shares, roles as frames."""
    places = {stage["name"]: (stage["column"], stage["row"]) for stage in data["stages"]}
    rows = [row for _, row in places.values()] + [via[1] for edge in data["edges"] for via in edge["via"]]
    least, most = min(rows, default=0.0), max(rows, default=0.0)
    width = (max((column for column, _ in places.values()), default=0) * COLUMN_W) + STAGE_W + 16
    height = (most - least) * ROW_H + STAGE_H + 16

    def at(place: Sequence[float]) -> tuple[float, float]:
        """Return the left middle of a place."""
        return 8 + place[0] * COLUMN_W, 8 + STAGE_H / 2 + (place[1] - least) * ROW_H

    parts = [_edge(edge, places, at) for edge in data["edges"]]
    for stage in data["stages"]:
        parts += _stage(stage, data["tier_names"], *at(places[stage["name"]]))
    return drawing(data, parts, max(width, 320.0), height)


def draw_sparkline(data: Mapping[str, Any]) -> Markup:
    """Draw ratios (``ratio``, by a logarithm, 1 in the middle) in their order.

    A run that missed its deadline (``met``) is a square, any other a disc: colour alone says nothing.
    """
    logs = [log10(ratio) for ratio in data["ratio"]]
    reach = max(0.2, *map(abs, logs))
    across = _Scale(0.0, max(len(logs) - 1, 1), 6.0, SPARK_W - 6.0)
    up = _Scale(-reach, reach, SPARK_H - 5.0, 5.0)
    points = [(across.at(at), up.at(value)) for at, value in enumerate(logs)]
    parts = [element("line", x1=0, x2=SPARK_W, y1=up.at(0.0), y2=up.at(0.0), klass="grid")]
    if len(points) > 1:
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(element("path", d=path, klass="edge"))
    for (x, y), met in zip(points, data["met"], strict=True):
        if met is False:
            square = {"x": x - 2.7, "y": y - 2.7, "width": 5.4, "height": 5.4}
            parts.append(element("rect", **square, klass="missed"))
        else:
            parts.append(element("circle", cx=x, cy=y, r=2.6, klass="met" if met else "other"))
    return drawing(data, parts, SPARK_W, SPARK_H)


def part_in_words(part: str) -> str:
    """Return the name of a part of a makespan, as in ``shared I/O``."""
    return {"movement": "data movement"}.get(part, part.replace("_io", " I/O"))


class _Scale:
    """Values on a line of the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self._start, self._step = start, (end - start) / (high - low)

    def at(self, value: float) -> float:
        return self._start + (value - self.low) * self._step


def _grid(up: _Scale, words: str, width: float = WIDTH) -> list[Markup]:
    """Return lines at round values, and what the axis shows."""
    rough = up.high / 4
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    parts = []
    for number in range(int(up.high / step) + 1):
        y = up.at(number * step)
        parts.append(element("line", x1=LEFT, x2=width - RIGHT, y1=y, y2=y, klass="grid"))
        parts.append(_text(f"{number * step:g}", LEFT - 6, y + 4, "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f"rotate(-90 12 {middle:.0f})"
    return [*parts, _text(words, 12, middle, "middle", transform=turned)]


def _label_x(words: str) -> Markup:
    return _text(words, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle")


def _text(words: str, x: float, y: float, anchor: str, **more: str) -> Markup:
    return element("text", words, x=float(x), y=float(y), text_anchor=anchor, **more)


def _edge(edge: Mapping[str, Any], places: Mapping[str, Any], at: Any) -> Markup:
    x, y = at(places[edge["producer"]])
    points = [(x + STAGE_W, y)]
    for via in edge["via"]:
        x, y = at(via)
        points += [(x, y), (x + STAGE_W, y)]
    points.append(at(places[edge["consumer"]]))
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (x1 - x0) / 2
        path += f" C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return element(
        "path", element("title", f"{edge['producer']} to {edge['consumer']}"), d=path, klass="edge"
    )


def _stage(stage: Mapping[str, Any], tiers: Sequence[str], x: float, y: float) -> list[Markup]:
    """Return a stage: a box with name, role, and a bar of the shares of its tiers."""
    top = y - STAGE_H / 2
    shares = [(number, tier, stage["share"].get(tier, 0.0)) for number, tier in enumerate(tiers)]
    said = ", ".join(f"{tier} {share:.0%}" for _, tier, share in shares if share)
    tip = element("title", f"{stage['name']}: {stage['role']}, {stage['tasks']} tasks; {said}")
    box = {"x": x, "y": top, "width": STAGE_W, "height": STAGE_H, "rx": 5}
    name = stage["name"] if len(stage["name"]) <= 19 else stage["name"][:18] + "…"
    parts = [
        element("rect", tip, **box, klass=f"stage {stage['role']}"),
        _text(name, x + STAGE_W / 2, top + 18, "middle"),
        _text(str(stage["role"]), x + STAGE_W / 2, top + 33, "middle", klass="role"),
    ]
    left = x + 8
    for number, tier, share in shares:
        wide = share * (STAGE_W - 16)
        if wide:
            tip = element("title", f"{stage['name']} on {tier}: {share:.0%}")
            bar = {"x": left, "y": top + 40, "width": wide, "height": 8.0}
            parts.append(element("rect", tip, **bar, klass=f"hue{number % HUES}"))
            left += wide
    return parts
