"""What the page of a model shows of the model itself, ready to be printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from qosflow_airflow.core.evaluation import ORDERINGS, chosen_first
from qosflow_airflow.core.figure_data import signature
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.rules import sentence
from qosflow_airflow.web.charts import (
    HUES,
    PARTS,
    draw_costs,
    draw_regions,
    draw_shift,
    draw_signature,
    draw_totals,
    part_in_words,
)
from qosflow_airflow.web.figure_tables import Column, configurations_of, table_of
from qosflow_airflow.web.insights import NOTHING, seconds
from qosflow_airflow.web.known_models import KnownModel

MAX_ROWS = 200
"""Rows of a table of numbers; all of them are in the JSON."""
STATES = {
    "measured": "measured",
    "extrapolated": "extrapolated",
    "not_observed": "with edges that had no I/O",
    "unmeasured": "unknown",
    "incomplete": "incomplete",
    "over_capacity": "over capacity",
}


@dataclass(frozen=True)
class Legend:
    """A colour, as a class of the style sheet, and what it stands for."""

    colour: str
    words: str


@dataclass(frozen=True)
class FigureView:
    """A drawing, what its colours mean, and its numbers."""

    kind: str
    title: str
    description: str
    svg: Markup
    legend: tuple[Legend, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


@dataclass(frozen=True)
class RegionLine:
    """A region in words."""

    id: int
    size: str
    range: str
    median: str
    rule: str


@dataclass(frozen=True)
class StateLine:
    """Configurations in a state, their share in words and in tenths of a percent."""

    state: str
    words: str
    count: str
    share: str


@dataclass(frozen=True)
class ScaleView:
    """One node count: what is known of it, orderings, regions, figures."""

    nodes: int
    others: tuple[int, ...]
    region: int
    states: tuple[StateLine, ...]
    makespans: str
    bottleneck: str
    orderings: tuple[tuple[str, ...], ...]
    regions: tuple[RegionLine, ...]
    figures: tuple[FigureView, ...]


def scale_view(known: KnownModel, nodes: int, region: int) -> ScaleView:
    """Return what is shown of a node count, and of one of its regions.

    Raises
    ------
    QoSFlowError
        When the model has no such node count or region.
    """
    model, scale = known.model, known.model.scale(nodes)
    found = known.figures()
    at_scale = found["scales"][nodes]
    evaluation = at_scale["evaluation"]
    return ScaleView(
        nodes=nodes,
        others=model.nodes,
        region=region,
        states=tuple(_states(at_scale["states"])),
        makespans=_makespans(evaluation["makespan_s"]),
        bottleneck=_bottleneck(evaluation["regions"]),
        orderings=tuple(_orderings(evaluation)),
        regions=() if scale.regions is None else tuple(_regions(model, nodes)),
        figures=tuple(_figures(model, nodes, region, at_scale, found)),
    )


def _states(states: Mapping[str, int]) -> Iterator[StateLine]:
    total = max(sum(states.values()), 1)
    for state, words in STATES.items():
        if states.get(state):
            yield StateLine(state, words, f"{states[state]:,}", f"{states[state] / total:.1%}")


def _makespans(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "Nothing is measured here."
    best, median, worst = (seconds(found[name]) for name in ("best", "median", "worst"))
    return f"Makespans go from {best} to {worst}; half of them are below {median}."


def _bottleneck(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOTHING
    all_of_them, best = found["bottleneck"]["space"], found["bottleneck"]["best_region"]
    return (
        f"Configurations wait most for {part_in_words(all_of_them['part'])} ({all_of_them['share']:.0%}); "
        f"those of the fastest region for {part_in_words(best['part'])} ({best['share']:.0%})."
    )


def _orderings(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield, per ordering, its name, concordance, first choice, regret and ratio."""
    for name in ORDERINGS:
        found = evaluation["regions"] if name == "regions" else evaluation["policies"][name]
        if found is None:
            continue
        first = chosen_first(found)
        concordance = found["concordance_held_out" if name == "regions" else "concordance"]
        ratio = first.get("ratio")
        yield (
            name,
            NOTHING if concordance is None else f"{concordance:.3f}",
            seconds(first.get("makespan_s")),
            seconds(first.get("regret_s")),
            NOTHING if ratio is None else f"{ratio:.2f}",
        )


def _regions(model: Model, nodes: int) -> Iterator[RegionLine]:
    found = model.scale(nodes).regions
    for one in found.regions if found is not None else ():
        rule = sentence(one, model.catalog, model.workflow)
        times = f"{one.min_s:,.4g}–{one.max_s:,.4g} s"
        yield RegionLine(one.id, f"{one.size:,}", times, seconds(one.median_s), rule)


def _figures(
    model: Model, nodes: int, region: int, at_scale: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[FigureView]:
    parts = [Legend(f"part-{part}", part_in_words(part)) for part in PARTS]
    regions, costs = at_scale["regions"], at_scale["costs"]
    if regions is not None:
        legend = [Legend(f"hue{one['id'] % HUES}", f"region {one['id']}") for one in regions["regions"]]
        yield _figure(regions, draw_regions(regions, configurations_of(regions)), legend)
        yield _figure(costs, draw_costs(costs), parts)
    if found["shift"] is not None:
        yield _figure(found["shift"], draw_shift(found["shift"]), parts)
    if regions is not None:
        chosen = signature(model, nodes, region)
        legend = [Legend(f"hue{at % HUES}", tier) for at, tier in enumerate(chosen["tier_names"])]
        legend += [Legend(f"frame {role}", role) for role in ("critical", "flexible", "constrained")]
        yield _figure(chosen, draw_signature(chosen), legend)
    if found["totals"] is not None:
        legend = [Legend("range", "best to worst, line at the median")]
        names = found["totals"]["first_choice_s"]
        legend += [Legend(f"hue{at}", f"first choice of {name}") for at, name in enumerate(names)]
        yield _figure(found["totals"], draw_totals(found["totals"]), legend)


def _figure(data: Mapping[str, Any], svg: Markup, legend: Sequence[Legend]) -> FigureView:
    table = table_of(data)
    about = (data["figure"], data["title"], data["description"])
    left_out = max(0, len(table.rows) - MAX_ROWS)
    return FigureView(*about, svg, tuple(legend), table.columns, table.shown(MAX_ROWS), left_out)
