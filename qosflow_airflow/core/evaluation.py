"""How well policies and regions order the configurations of a scale, and what trusting each would cost.

Two figures say how an ordering orders: ``concordance``, with ties counting one half and regions held out of
their fit, and ``concordance_published``, the published one, with ties put in the order of the truth and
regions judged on what they were fitted to. What an ordering is worth to a person who takes what it ranks
first is its regret: that makespan against the best there is. Where several rank first, one of them is drawn
at random: the figures are means over them, as a tied pair counts one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qosflow_airflow.core.concordance import dense_ranks, published_concordance
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.policies import POLICIES, policy_qualities
from qosflow_airflow.core.space_costs import SpaceCosts, scales_of
from qosflow_airflow.core.transfer import FloatArray

ORDERINGS = (*POLICIES, "regions")
"""What is compared, in the order in which it is shown."""


def evaluate_model(model: Model) -> dict[str, Any]:
    """Return, as plain JSON, the figures of :func:`evaluate_scale` per node count."""
    return {
        "workflow": model.workflow.name,
        "rules": model.rules.name,
        "scales": {str(costs.nodes): evaluate_scale(model, costs) for costs in scales_of(model)},
    }


def evaluate_scale(model: Model, costs: SpaceCosts) -> dict[str, Any]:
    """Return what there is at one scale, and how each ordering does, as plain JSON.

    ``makespan_s`` has ``best``, ``median`` and ``worst``; it is ``None``, as are all figures, where nothing
    is measured. ``policies`` has one entry each; ``regions`` is ``None`` where the model has none.
    """
    measured_s = costs.makespan_s[costs.measured]
    return {
        "configurations": len(costs),
        "measured": len(measured_s),
        "makespan_s": None
        if not len(measured_s)
        else {
            "best": float(measured_s.min()),
            "median": float(np.median(measured_s)),
            "worst": float(measured_s.max()),
        },
        "policies": _policies(model, costs),
        "regions": _regions(model, costs),
    }


def _policies(model: Model, costs: SpaceCosts) -> dict[str, Any]:
    makespans = model.makespans(costs.nodes)
    kept = model.scale(costs.nodes).quality.get("policies")
    # A build has counted the pairs already.
    qualities: Mapping[str, Any] = kept or {
        name: quality._asdict()
        for name, quality in policy_qualities(makespans, costs.layouts, costs.makespan_s).items()
    }
    return {
        name: {
            "concordance": qualities[name]["concordance"],
            "concordance_published": qualities[name]["concordance_published"],
            "first_choice": first_choice(model, costs, score(makespans, costs.layouts)),
        }
        for name, score in POLICIES.items()
    }


def _regions(model: Model, costs: SpaceCosts) -> dict[str, Any] | None:
    scale = model.scale(costs.nodes)
    if scale.regions is None or not costs.measured.any():
        return None
    medians = np.array([region.median_s for region in scale.regions.regions])
    score = medians[costs.region]
    pairs = np.count_nonzero(costs.measured) > 1
    return {
        "count": scale.regions.count,
        "concordance_held_out": scale.regions.concordance_held_out,
        "concordance_published": published_concordance(score, costs.makespan_s) if pairs else None,
        "mae_held_out_s": scale.regions.mae_held_out_s,
        "separation": scale.regions.separation,
        "curve": [list(point) for point in scale.regions.curve],
        # A build that names no number takes the knee.
        "knee": scale.regions.count if scale.regions.curve and not model.options.get("regions") else None,
        "bottleneck": {
            "space": scale.regions.bottleneck.to_json(),
            "best_region": scale.regions.regions[0].bottleneck.to_json(),
        },
        "first_choice": first_choice(model, costs, score),
        "first_choice_held_out": _held_out(costs, scale.regions.regret_held_out_s),
    }


def chosen_first(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an ordering's first choice takes: that of regions held out, where a build has kept it."""
    return figures.get("first_choice_held_out") or figures.get("first_choice") or {}


def _held_out(costs: SpaceCosts, regret_s: float | None) -> dict[str, Any] | None:
    if regret_s is None:
        return None
    best_s = float(costs.makespan_s[costs.measured].min())
    makespan_s = best_s + regret_s
    ratio = makespan_s / best_s if best_s > 0 else None
    return {"makespan_s": makespan_s, "regret_s": regret_s, "ratio": ratio}


def first_choice(model: Model, costs: SpaceCosts, score: FloatArray) -> dict[str, Any] | None:
    """Return what the ordering ``score`` (lower first) ranks first among what is measured, as plain JSON.

    ``tied`` configurations rank first; ``makespan_s``, ``regret_s`` (seconds above the best) and ``ratio``
    (to the best; ``None`` where that is 0 s) are means over them, ``worst_s`` is the longest.
    ``configuration`` is the one of them that is enumerated first. ``None`` where nothing is measured.
    """
    rows = np.flatnonzero(costs.measured)
    if not len(rows):
        return None
    first = rows[dense_ranks(score[rows]) == 0]
    best_s = float(costs.makespan_s[rows].min())
    mean_s = float(costs.makespan_s[first].mean())
    return {
        "tied": len(first),
        "makespan_s": mean_s,
        # A mean of equal numbers may differ from them in its last digit.
        "regret_s": max(0.0, mean_s - best_s),
        "ratio": max(1.0, mean_s / best_s) if best_s > 0 else None,
        "worst_s": float(costs.makespan_s[first].max()),
        "configuration": model.space.configuration(costs.nodes, costs.layouts[first[0]]).to_json(),
    }
