"""What figures show, as plain JSON with units in its names; drawing it is another room's work.

Each function gives one figure: ``figure`` names its kind, ``title`` says in a line what it shows, and
``description`` what there is to see, for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from qosflow_airflow.core.dag_layout import lay_out
from qosflow_airflow.core.evaluation import ORDERINGS, chosen_first
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.regions import RegionSet
from qosflow_airflow.core.rules import sentence
from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.core.space_costs import SpaceCosts
from qosflow_airflow.core.transfer import IntArray
from qosflow_airflow.exceptions import RequestError

MAX_POINTS = 4000
"""Points of a scatter: more of them can neither be told apart nor opened quickly."""


def regions_scatter(model: Model, costs: SpaceCosts, max_points: int = MAX_POINTS) -> dict[str, Any]:
    """Return measured configurations by region, then by makespan.

    ``position`` counts them in that order from 0. Of more than ``max_points`` some are shown: spread evenly
    over each region, its fastest and slowest among them. ``layouts`` holds, per point, the place in
    ``tier_names`` of the tier of each of ``stages``. ``regions`` holds, per region, its ``id``, the ``first``
    and ``last`` position in it, its ``median_s`` and its ``rule`` in words.
    """
    regions = _regions_of(model, costs)
    rows = np.flatnonzero(costs.measured)
    order = rows[np.lexsort((costs.makespan_s[rows], costs.region[rows]))]
    region = costs.region[order]
    shown = _spread(region, max_points)
    spans = []
    for one in regions.regions:
        first, end = np.searchsorted(region, [one.id, one.id + 1]).tolist()
        rule = sentence(one, model.catalog, model.workflow)
        spans.append({"id": one.id, "first": first, "last": end - 1, "median_s": one.median_s, "rule": rule})
    return {
        "figure": "regions",
        "title": f"{model.workflow.name} on {_nodes(costs.nodes)}: makespan by configuration and region",
        "description": f"{len(order):,} configurations in {regions.count} regions, whose medians go from "
        f"{spans[0]['median_s']:.3g} s to {spans[-1]['median_s']:.3g} s.",
        "nodes": costs.nodes,
        "measured": len(order),
        "shown": len(shown),
        "position": shown.tolist(),
        "makespan_s": costs.makespan_s[order[shown]].tolist(),
        "region": region[shown].tolist(),
        "stages": list(model.workflow.stage_names),
        "tier_names": list(model.catalog.names),
        "layouts": costs.layouts[order[shown]].tolist(),
        "regions": spans,
    }


def region_costs(model: Model, costs: SpaceCosts) -> dict[str, Any]:
    """Return what each region's critical path consists of: the mean over its measured configurations.

    ``split_s`` maps each of :data:`~qosflow_airflow.core.schedule.SPLIT` to seconds per region; together they
    are the mean makespan, ``makespan_s``. ``largest`` names the largest part of each.
    """
    regions = _regions_of(model, costs)
    rows = np.flatnonzero(costs.measured)
    region = costs.region[rows]
    sizes = np.bincount(region, minlength=regions.count)
    split = (
        np.stack(
            [
                np.bincount(region, costs.split_s[rows, part], minlength=regions.count)
                for part in range(len(SPLIT))
            ],
            axis=1,
        )
        / np.maximum(sizes, 1)[:, None]
    )
    largest = [SPLIT[part] for part in split.argmax(axis=1)]
    return {
        "figure": "costs",
        "title": f"{model.workflow.name} on {_nodes(costs.nodes)}: what the makespan of a region consists of",
        "description": f"The largest part, from the fastest region to the slowest: {_in_turn(largest)}.",
        "nodes": costs.nodes,
        "regions": [one.id for one in regions.regions],
        "sizes": sizes.tolist(),
        "makespan_s": split.sum(axis=1).tolist(),
        "split_s": {name: split[:, part].tolist() for part, name in enumerate(SPLIT)},
        "largest": largest,
    }


def _in_turn(parts: Sequence[str]) -> str:
    """Return parts in words, each that follows itself once.

    >>> _in_turn(["compute", "compute", "shared_io"])
    'compute, shared I/O'
    """
    return ", ".join(part.replace("_io", " I/O") for part, _ in groupby(parts))


def cost_shift(workflow: str, costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what regions' critical paths consist of at every node count, to see how a bottleneck shifts.

    ``costs`` are those of :func:`region_costs` by ascending node count. ``scales`` holds, per node count,
    ``nodes``, ``regions``, ``sizes``, ``makespan_s``, ``split_s`` and ``largest`` as they are there.
    """
    kept = ("nodes", "regions", "sizes", "makespan_s", "split_s", "largest")
    fastest = [f"{_nodes(one['nodes'])}: {_in_turn(one['largest'][:1])}" for one in costs]
    return {
        "figure": "shift",
        "title": f"{workflow}: what the makespans of regions consist of, by node count",
        "description": f"The largest part of the fastest region. {'; '.join(fastest)}.",
        "scales": [{name: one[name] for name in kept} for one in costs],
    }


def totals(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return best, median and worst makespan and each ordering's first choice, seconds, per node count.

    ``evaluation`` is that of :func:`~qosflow_airflow.core.evaluation.evaluate_model`. Scales at which nothing
    is measured are left out.
    """
    scales = {int(nodes): scale for nodes, scale in evaluation["scales"].items() if scale["makespan_s"]}
    choices: dict[str, list[float | None]] = {}
    for name in ORDERINGS:
        entries = [
            scale["regions"] if name == "regions" else scale["policies"][name] for scale in scales.values()
        ]
        choices[name] = [chosen_first(entry or {}).get("makespan_s") for entry in entries]
    return {
        "figure": "totals",
        "title": f"{evaluation['workflow']}: makespans by node count, and what is chosen first",
        "description": " ".join(map(_range, scales.items())),
        "nodes": list(scales),
        **{
            f"{name}_s": [scale["makespan_s"][name] for scale in scales.values()]
            for name in ("best", "median", "worst")
        },
        "first_choice_s": choices,
    }


def signature(model: Model, nodes: int, region_id: int = 0) -> dict[str, Any]:
    """Return the workflow's DAG with what one region (by default the fastest) asks of each stage.

    Per stage its place (:mod:`~qosflow_airflow.core.dag_layout`), ``share`` (of the region's configurations
    on each tier), ``anywhere`` (on every tier that it can take), ``role``, and ``path_share``, the share of
    the region's configurations with it on their critical path. Each of ``edges``
    leads from ``producer`` to ``consumer`` through the places ``via``.

    Raises
    ------
    RequestError
        When there is no such region.
    """
    found = model.scale(nodes).regions
    known = 0 if found is None else found.count
    if found is None or not 0 <= region_id < known:
        raise RequestError(
            f"there is no region {region_id} on {_nodes(nodes)}",
            cure=f"Use 0 to {known - 1}." if known else "Build the model again.",
        )
    region = found.regions[region_id]
    drawn = lay_out(model.workflow)
    return {
        "figure": "signature",
        "title": f"{model.workflow.name} on {_nodes(nodes)}: region {region_id} of 0 to {known - 1}",
        "nodes": nodes,
        "region": region_id,
        "description": sentence(region, model.catalog, model.workflow),
        "tier_names": list(model.catalog.names),
        "stages": [
            {
                "name": stage.name,
                "tasks": stage.tasks,
                "column": drawn.places[stage.name].column,
                "row": drawn.places[stage.name].row,
                "share": dict(region.stages[stage.name].share),
                "anywhere": region.stages[stage.name].anywhere,
                "role": region.stages[stage.name].role,
                "path_share": region.stages[stage.name].path_share,
            }
            for stage in model.workflow.stages
        ],
        "edges": [
            {"producer": edge.producer, "consumer": edge.consumer, "via": [list(place) for place in via]}
            for edge, via in drawn.edges.items()
        ],
    }


def _regions_of(model: Model, costs: SpaceCosts) -> RegionSet:
    regions = model.scale(costs.nodes).regions
    if regions is None:
        raise RequestError(f"the model has no regions on {_nodes(costs.nodes)}", cure="Build it again.")
    return regions


def _range(scale: tuple[int, Mapping[str, Any]]) -> str:
    nodes, found = scale
    best, worst = found["makespan_s"]["best"], found["makespan_s"]["worst"]
    return f"{_nodes(nodes)}: best {best:.3g} s, worst {worst:.3g} s."


def _nodes(nodes: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}"


def _spread(region: IntArray, most: int) -> IntArray:
    """Return positions in a sorted array of regions: all, or some that are spread over each region."""
    if len(region) <= most:
        return np.arange(len(region))
    starts, sizes = np.unique(region, return_index=True, return_counts=True)[1:]
    chosen = [
        start + np.linspace(0, size - 1, max(2, most * size // len(region))).round().astype(np.int64)
        for start, size in zip(starts, sizes, strict=True)
    ]
    return np.unique(np.concatenate(chosen))
