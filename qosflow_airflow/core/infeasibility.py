"""Why nothing meets a request, and what would.

The search is asked again with constraints left out, the fewest first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.describe import describe
from qosflow_airflow.core.explain import CAPACITY
from qosflow_airflow.core.loosening import NUMBERS, Change, in_words, limit, without
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.obstacles import binding_stages, missing_measurements
from qosflow_airflow.core.qos import CONSTRAINTS, QoSRequest
from qosflow_airflow.core.repairs import find_repairs, repair_to_json
from qosflow_airflow.core.search import Candidate, ConfidentSearch, best, search_of, without_capacity


def hindrances(
    model: Model, request: QoSRequest, search: ConfidentSearch
) -> tuple[Candidate | None, dict[str, Any]]:
    """Return the nearest configuration, and what an answer says of why there is no better one.

    The nearest is the best one once the constraints that bind, the fewest, are left out; ``None`` where the
    data fits nowhere, or nothing is known of what the request allows.
    """
    # A request can be changed; what does not fit cannot run, and is never proposed.
    repairs = _relaxations(search, request, range(1, len(CONSTRAINTS) + 1))
    roomier = _with_room(model, request, search, max(map(len, repairs), default=len(CONSTRAINTS) + 1))
    smallest = min((len(left_out) for left_out in (*repairs, *roomier)), default=0)
    binding = {name for left_out in repairs for name in left_out}
    binding |= {name for left_out in roomier if len(left_out) == smallest for name in left_out}
    nearest = min(repairs.values(), default=None)
    too_large = min((c for left_out, c in roomier.items() if len(left_out) == smallest), default=None)
    return nearest, {
        "binding": sorted(binding) or ["measurements"],
        "binding_stages": {} if nearest is None else _binding_stages(model, request, binding, nearest),
        "repairs": _repairs(model, request, search),
        "missing": _missing(model, request, search),
        "nearest": None if nearest is None else describe(model, nearest.nodes, _layout(nearest)),
        "over_capacity": []
        if too_large is None
        else model.makespans(too_large.nodes).capacity.reasons(_layout(too_large)[None, :]),
    }


def repaired(repair: Mapping[str, Any], request: QoSRequest, overhead_s: float) -> dict[str, Any]:
    """Return a repair whose deadline, if it has one, allows for what comes on top of the makespan."""
    changes = dict(repair["changes"])
    if "deadline_s" not in changes:
        return dict(repair)
    changes["deadline_s"] = limit(request, "deadline_s", changes["deadline_s"] + overhead_s).value
    words = " and ".join(in_words(request, Change(name, value, 0.0)) for name, value in changes.items())
    return {**repair, "changes": changes, "words": words}


def _repairs(model: Model, request: QoSRequest, search: ConfidentSearch) -> list[dict[str, Any]]:
    return [repair_to_json(model, request, repair) for repair in find_repairs(search, request)]


def _missing(model: Model, request: QoSRequest, search: ConfidentSearch) -> list[dict[str, Any]]:
    """Return what to measure, where the tiers and stages of the request allow nothing that is known."""
    loose = without(request, [*NUMBERS, "max_nodes"])
    return [] if best(search, loose) else missing_measurements(model, request)


def _binding_stages(
    model: Model, request: QoSRequest, binding: Collection[str], nearest: Candidate
) -> dict[str, list[str]]:
    return binding_stages(model, request, sorted(binding), nearest.nodes, _layout(nearest))


Relaxations = dict[tuple[str, ...], Candidate]
"""Constraints left out, and the best configuration without them."""


def _relaxations(search: ConfidentSearch, request: QoSRequest, sizes: range) -> Relaxations:
    """Return the smallest sets of constraints that, left out, make the request feasible."""
    unasked = QoSRequest()
    asked = [name for name in CONSTRAINTS if getattr(request, name) != getattr(unasked, name)]
    for size in sizes:
        found: Relaxations = {}
        for left_out in combinations(asked, size):
            changed = replace(request, **{name: getattr(unasked, name) for name in left_out})
            if candidates := best(search, changed):
                found[left_out] = candidates[0]
        if found:
            return found
    return {}


def _with_room(model: Model, request: QoSRequest, search: ConfidentSearch, largest: int) -> Relaxations:
    """Return the smallest sets, of up to ``largest``, that hold the capacity."""
    if not any(model.makespans(nodes).capacity.limited for nodes in model.nodes):
        return {}
    found = _relaxations(search_of(without_capacity(model), search.runs), request, range(largest))
    return {(CAPACITY, *left_out): candidate for left_out, candidate in found.items()}


def _layout(candidate: Candidate) -> NDArray[np.int8]:
    return np.array(candidate.layout, dtype=np.int8)
