"""A Gantt chart as SVG: stages one below the other, and in each a bar per track, on one axis of seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10
from typing import Literal

from markupsafe import Markup

from qosflow_airflow.web.charts import drawing, element

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720.0, 158.0, 14.0, 22.0, 24.0
BAR_H, GAP_H = 13.0, 11.0
"""Height of a bar, and what separates two stages."""
LEAST_W = 1.0
"""What takes next to no time is still to be seen."""
NAME_CHARS = 22
FAR = 1.5
"""A deadline beyond so many times the last end is not drawn: it would press everything else together."""

Kind = Literal["copy", "work", "wait"]


@dataclass(frozen=True)
class Bar:
    """A part of a stage, in seconds since the run began."""

    kind: Kind
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Track:
    """What a plan or a run says of stages; ``colour`` is a class of the style sheet."""

    words: str
    colour: str
    bars: Mapping[str, tuple[Bar, ...]]

    @property
    def end_s(self) -> float:
        """When the last of it ends."""
        return max((bar.end_s for bars in self.bars.values() for bar in bars), default=0.0)


@dataclass(frozen=True)
class Gantt:
    """Stages with where they ran, the tracks to draw in each of them, and when the run had to end."""

    title: str
    description: str
    stages: tuple[tuple[str, str], ...]
    tracks: tuple[Track, ...]
    deadline_s: float | None = None


def draw_gantt(gantt: Gantt) -> Markup:
    """Draw a chart; what is 0 s long is drawn as a thin line."""
    row_h = max(len(gantt.tracks), 2) * BAR_H + GAP_H
    bottom = TOP + row_h * len(gantt.stages)
    ends_s = max((track.end_s for track in gantt.tracks), default=0.0) or 1.0
    is_near = gantt.deadline_s is not None and gantt.deadline_s <= FAR * ends_s
    last_s = max(ends_s, gantt.deadline_s or 0.0) if is_near else ends_s
    scale = (WIDTH - LEFT - RIGHT) / last_s
    parts = [*_axis(last_s, scale, bottom), *_rows(gantt, row_h, scale)]
    if gantt.deadline_s is not None:
        parts += _deadline(gantt.deadline_s, LEFT + gantt.deadline_s * scale if is_near else None, bottom)
    said = {"figure": "gantt", "title": gantt.title, "description": gantt.description}
    return drawing(said, parts, WIDTH, bottom + BOTTOM)


def _deadline(deadline_s: float, x: float | None, bottom: float) -> Iterator[Markup]:
    """Yield the line of a deadline, and what it is; without ``x`` only that it is further to the right."""
    said = f"deadline {deadline_s:,.4g} s"
    if x is None:
        yield element("text", f"{said} →", x=WIDTH - RIGHT, y=TOP - 9, text_anchor="end")
        return
    yield element("line", element("title", said), x1=x, x2=x, y1=TOP - 6, y2=bottom, klass="deadline")
    anchor = "end" if x > (LEFT + WIDTH) / 2 else "start"
    yield element("text", said, x=x, y=TOP - 9, text_anchor=anchor)


def _rows(gantt: Gantt, row_h: float, scale: float) -> Iterator[Markup]:
    for number, (stage, place) in enumerate(gantt.stages):
        top = TOP + number * row_h
        if number % 2:
            band = {"x": 0.0, "y": top, "width": WIDTH, "height": row_h}
            yield element("rect", **band, klass="band")
        name = stage if len(stage) <= NAME_CHARS else f"{stage[: NAME_CHARS - 1]}…"
        yield element("text", element("title", stage), name, x=LEFT - 8, y=top + 16, text_anchor="end")
        yield element("text", place, x=LEFT - 8, y=top + 29, text_anchor="end", klass="role")
        for at, track in enumerate(gantt.tracks):
            for bar in track.bars.get(stage, ()):
                said = f"{stage}, {track.words}, {bar.kind}: {bar.start_s:,.4g} s to {bar.end_s:,.4g} s"
                yield element(
                    "rect",
                    element("title", said),
                    x=LEFT + bar.start_s * scale,
                    y=top + GAP_H / 2 + at * BAR_H,
                    width=max((bar.end_s - bar.start_s) * scale, LEAST_W),
                    height=BAR_H - 2,
                    klass=f"{track.colour} {bar.kind}",
                )


def _axis(last_s: float, scale: float, bottom: float) -> Iterator[Markup]:
    """Yield lines at round seconds, and what the axis shows."""
    rough = last_s / 6
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for number in range(int(last_s / step) + 1):
        x = LEFT + number * step * scale
        yield element("line", x1=x, x2=x, y1=TOP, y2=bottom, klass="grid")
        yield element("text", f"{number * step:,g}", x=x, y=bottom + 15, text_anchor="middle")
    yield element("text", "seconds", x=LEFT - 8, y=bottom + 15, text_anchor="end")


def bars_of(*moments: tuple[Kind, float], begin_s: float) -> tuple[Bar, ...]:
    """Return the bars that follow each other, each given by its kind and its end; none that is empty.

    >>> bars_of(("copy", 2.0), ("work", 5.0), ("copy", 5.0), begin_s=1.0)
    (Bar(kind='copy', start_s=1.0, end_s=2.0), Bar(kind='work', start_s=2.0, end_s=5.0))
    """
    ends = [begin_s, *(end for _, end in moments)]
    return tuple(
        Bar(kind, start, end)
        for (kind, _), (start, end) in zip(moments, pairwise(ends), strict=True)
        if end > start or kind == "work"
    )
