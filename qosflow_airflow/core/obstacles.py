"""Which stages stand in the way of an infeasible request, and what would have to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.loosening import NUMBERS
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import IntArray, Provenance


def binding_stages(
    model: Model, request: QoSRequest, binding: Sequence[str], nodes: int, layout: NDArray[np.int8]
) -> dict[str, list[str]]:
    """Return the stages at which constraints bind, each with these constraints.

    Looked at is the nearest configuration, in which the constraints ``binding`` are left out: for a limit to
    time, node-hours or money, the stages on its critical path; for tiers and pins, those that break them.
    """
    on_path = model.makespans(nodes).schedule(layout[None, :]).on_critical_path[0]
    found: dict[str, list[str]] = {}
    for s, stage in enumerate(model.workflow.stage_names):
        tier = model.catalog.names[layout[s]]
        is_broken = {
            **dict.fromkeys(NUMBERS, bool(on_path[s])),
            "allow": request.allow is not None and tier not in request.allow,
            "exclude": tier in request.exclude,
            "pin": request.pin.get(stage, tier) != tier,
        }
        if names := [name for name in binding if is_broken.get(name)]:
            found[stage] = names
    return found


def missing_measurements(model: Model, request: QoSRequest) -> list[dict[str, Any]]:
    """Return what to measure so that one configuration on the requested tiers is known.

    These are few measurements, if not the fewest. Each is plain JSON: ``nodes`` and ``part``; for ``read``
    and ``write`` the ``stage`` and its ``tier``; for a ``copy`` the ``producer`` and ``consumer``, and the
    tiers ``from`` and ``to``. There are none where such a configuration is known already, or where
    the rules count as 0 s what is not.
    """
    if model.rules.missing_is_zero:
        return []
    limit = request.max_nodes or max(model.nodes)
    scales = [nodes for nodes in model.nodes if nodes <= limit] or model.nodes[:1]
    tiers = _tiers_of_stages(model, request)
    gaps = [_Gaps(model.makespans(nodes)) for nodes in scales]
    layouts = [_least_unknown(model, gap, tiers) for gap in gaps]
    counts = [int(gap.count(layout[None, :])[0]) for gap, layout in zip(gaps, layouts, strict=True)]
    at = counts.index(min(counts))
    return gaps[at].listed(layouts[at])


class _Gaps:
    """Which times are not known at one node count."""

    def __init__(self, makespans: MakespanModel) -> None:
        self.makespans = makespans
        unknown = np.int8(Provenance.UNKNOWN)
        self.read = makespans.times.read.provenance == unknown
        self.write = makespans.times.write.provenance == unknown
        self.legs = makespans.legs.provenance == unknown

    def count(self, layouts: Layouts) -> IntArray:
        """Return how many times each layout (C x S) needs that are not known."""
        stages = np.arange(layouts.shape[1])
        source, destination = self.makespans.edge_tiers(layouts)
        edges = np.arange(len(self.makespans.times.edges))
        cells = self.read[stages, layouts].sum(axis=1) + self.write[stages, layouts].sum(axis=1)
        return np.asarray(cells + self.legs[edges, source, destination].sum(axis=1))

    def listed(self, layout: NDArray[np.int8]) -> list[dict[str, Any]]:
        """Return the times that a layout needs and that are not known."""
        times, names = self.makespans.times, self.makespans.catalog.names
        found: list[dict[str, Any]] = []
        for s, stage in enumerate(times.stages):
            for part, unknown in (("read", self.read), ("write", self.write)):
                if unknown[s, layout[s]]:
                    found.append(
                        {"nodes": times.nodes, "part": part, "stage": stage, "tier": names[layout[s]]}
                    )
        source, destination = self.makespans.edge_tiers(layout[None, :])
        for e, (producer, consumer) in enumerate(times.edges):
            a, b = int(source[0, e]), int(destination[0, e])
            if self.legs[e, a, b]:
                copy = {"producer": producer, "consumer": consumer, "from": names[a], "to": names[b]}
                found.append({"nodes": times.nodes, "part": "copy", **copy})
        return found


def _tiers_of_stages(model: Model, request: QoSRequest) -> list[list[int]]:
    """Return the tiers that each stage may take; any, where the request leaves none."""
    wanted = [
        tier
        for tier in model.catalog.names
        if (request.allow is None or tier in request.allow) and tier not in request.exclude
    ]
    index = model.catalog.index
    pinned = {stage: [tier] for stage, tier in request.pin.items()}
    tiers = [pinned.get(stage, wanted or list(model.catalog.names)) for stage in model.workflow.stage_names]
    return [[index[tier] for tier in names] for names in tiers]


def _least_unknown(model: Model, gaps: _Gaps, tiers: list[list[int]]) -> NDArray[np.int8]:
    """Return a layout with few unknown times: the best that is alike, and better swaps from there on."""
    layout = np.array([allowed[0] for allowed in tiers], dtype=np.int8)
    for tier in range(len(model.catalog.names)):
        uniform = np.array([tier if tier in allowed else allowed[0] for allowed in tiers], dtype=np.int8)
        layout = min(layout, uniform, key=lambda row: int(gaps.count(row[None, :])[0]))
    swaps = [(s, tier) for s, allowed in enumerate(tiers) for tier in allowed]
    while True:
        rows = np.repeat(layout[None, :], len(swaps), axis=0)
        rows[np.arange(len(swaps)), [s for s, _ in swaps]] = [tier for _, tier in swaps]
        counts = np.where(model.space.valid(rows), gaps.count(rows), np.iinfo(np.int64).max)
        if counts.min() >= gaps.count(layout[None, :])[0]:
            return layout
        layout = rows[int(counts.argmin())]
