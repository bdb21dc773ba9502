"""Everything that is known of one configuration: where its time goes, and what each choice is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.anchoring import traced_tasks
from qosflow_airflow.core.cost import node_hours
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import Provenance

TOLERANCE = 0.05
"""A tier swap that changes the makespan by at most this share does not matter."""

STATES = {
    Provenance.MEASURED: "measured",
    Provenance.EXTRAPOLATED: "extrapolated",
    Provenance.NOT_OBSERVED: "not_observed",
    Provenance.UNKNOWN: "unmeasured",
}


def state_of(provenance: int, makespan_s: float, over_capacity: bool = False) -> str:
    """Return the state of a configuration in a word.

    ``incomplete`` is a makespan in which missing measurements count as 0 s, as the reference rules have it;
    what is ``over_capacity`` cannot run, measured or not.
    """
    if over_capacity:
        return "over_capacity"
    if provenance == Provenance.UNKNOWN and not np.isnan(makespan_s):
        return "incomplete"
    return STATES[Provenance(provenance)]


def describe(model: Model, nodes: int, layout: NDArray[np.int8]) -> dict[str, Any]:
    """Return everything that is known of one configuration, as plain JSON."""
    makespans = model.makespans(nodes)
    layouts = layout[None, :]
    schedule = makespans.schedule(layouts)
    makespan_s = float(schedule.makespan_s[0])
    swaps = _swaps(model, makespans, layout, makespan_s)
    on_path = [
        stage
        for stage, on in zip(model.workflow.stage_names, schedule.on_critical_path[0], strict=True)
        if on
    ]
    limit_s = TOLERANCE * makespan_s
    return {
        "configuration": model.space.configuration(nodes, layout).to_json(),
        "makespan_s": makespan_s,
        "waiting_s": makespan_s - float(makespans.least_s(layouts)[0]),
        "node_hours": float(node_hours(nodes, schedule.makespan_s)[0]),
        "state": state_of(int(schedule.provenance[0]), makespan_s),
        "compute_known": model.scale(nodes).times.compute_known,
        "traced_tasks": traced_tasks(model.scale(nodes).times.anchors),
        "capacity": _capacity(makespans, layouts),
        "split_s": dict(zip(SPLIT, schedule.split_s[0].tolist(), strict=True)),
        "critical_path": schedule.critical_paths()[0],
        "critical_stages": [
            stage
            for stage in on_path
            if any(change is not None and abs(change) > limit_s for change in swaps[stage].values())
        ],
        "flexible_stages": [
            stage
            for stage, changes in swaps.items()
            if changes and all(change is not None and abs(change) <= limit_s for change in changes.values())
        ],
        "swap_s": swaps,
        "stage_s": _stage_seconds(model, makespans, layouts),
        "region": _region(model, nodes, layouts),
    }


def _capacity(makespans: MakespanModel, layouts: Layouts) -> dict[str, Any]:
    """Return whether one configuration fits on its tiers, and why not."""
    check = makespans.capacity
    over, unknown = check.fit(layouts)
    limit = "unknown" if unknown[0] else "fits"
    state = "over" if over[0] else limit if check.limited else "not_checked"
    return {"state": state, "reasons": check.reasons(layouts)}


def _swaps(
    model: Model, makespans: MakespanModel, layout: NDArray[np.int8], makespan_s: float
) -> dict[str, dict[str, float | None]]:
    """Return the seconds lost (below 0: gained) by moving each stage to each other tier."""
    changes: dict[str, dict[str, float | None]] = {stage: {} for stage in model.workflow.stage_names}
    places, rows = [], []
    for s, stage in enumerate(model.workflow.stage_names):
        for t, tier in enumerate(model.catalog.names):
            if t != layout[s]:
                swapped = layout.copy()
                swapped[s] = t
                places.append((stage, tier))
                rows.append(swapped)
    if not rows:
        return changes
    layouts = np.stack(rows)
    valid = model.space.valid(layouts) & ~makespans.capacity.fit(layouts).over
    for (stage, tier), ok, swapped_s in zip(places, valid, makespans.makespan_s(layouts), strict=True):
        if ok:
            changes[stage][tier] = None if np.isnan(swapped_s) else float(swapped_s - makespan_s)
    return changes


def _stage_seconds(model: Model, makespans: MakespanModel, layouts: Layouts) -> dict[str, dict[str, float]]:
    """Return what one configuration spends per stage, seconds."""
    charges = makespans.charges(layouts)
    edges = makespans.times.edges
    seconds = {}
    for s, stage in enumerate(model.workflow.stage_names):
        into = [
            charges.into[0, e] + charges.out_of[0, e]
            for e, edge in enumerate(edges)
            if edge.consumer == stage
        ]
        flush = [
            charges.out_of[0, e]
            for e, edge in enumerate(edges)
            if edge.producer == stage and edge.consumer not in model.workflow.index
        ]
        seconds[stage] = {
            "stage_in_s": float(max(into, default=0.0)),
            "read_s": float(charges.read[0, s]),
            "compute_s": float(charges.compute[0, s]),
            "write_s": float(charges.write[0, s]),
            "stage_out_s": float(max(flush, default=0.0)),
        }
    return seconds


def _region(model: Model, nodes: int, layouts: Layouts) -> dict[str, Any] | None:
    regions = model.scale(nodes).regions
    if regions is None:
        return None
    # Imported here: not every model has regions.
    from qosflow_airflow.core.rules import sentence

    region = regions.regions[int(regions.classify(layouts)[0])]
    return {**region.to_json(), "rule": sentence(region, model.catalog, model.workflow)}
