"""Orderings that need no model of makespans: Fastest-Storage First, Low-Transition Layout and their hybrid.

Source: the baselines of QoSFlow (IPDPS 2026), as its public artifact computes them. Each is a score per
layout, lower first. What they are worth is their concordance with the makespans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.concordance import concordance, published_concordance
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, IntArray

ROWS_PER_BLOCK = 1 << 16


class PolicyQuality(NamedTuple):
    """How well a policy orders configurations; see :mod:`~qosflow_airflow.core.concordance`.

    ``None`` with fewer than two measured configurations: there is no pair to put in order.
    """

    concordance: float | None
    concordance_published: float | None


def policy_qualities(
    model: MakespanModel, layouts: Layouts, makespan_s: FloatArray
) -> dict[str, PolicyQuality]:
    """Return the quality of each of :data:`POLICIES` on one space, by name."""
    if np.count_nonzero(~np.isnan(makespan_s)) < 2:
        return dict.fromkeys(POLICIES, PolicyQuality(None, None))
    scores = {name: score(model, layouts) for name, score in POLICIES.items()}
    return {
        name: PolicyQuality(concordance(score, makespan_s), published_concordance(score, makespan_s))
        for name, score in scores.items()
    }


def fastest_storage_first(model: MakespanModel, layouts: Layouts) -> FloatArray:
    """Score layouts by their stages on the fastest local tier, then on the second, and so on: most first."""
    position = np.zeros(len(layouts), dtype=np.int64)
    stages = layouts.shape[1]
    # Ranked tier by tier: whole rows are slow to compare, and as one number they would not fit into 64 bits.
    for count in _stages_per_local_tier(model.catalog, layouts).T:
        position = np.unique(position * (stages + 1) + stages - count, return_inverse=True)[1]
    return position.astype(np.float64)


def low_transition_layout(model: MakespanModel, layouts: Layouts) -> FloatArray:
    """Score layouts by their :func:`transitions`: fewest first."""
    return transitions(model, layouts).astype(np.float64)


def hybrid(model: MakespanModel, layouts: Layouts) -> FloatArray:
    """Score layouts by fast stages and few transitions alike, each scaled to 0-1 over ``layouts``.

    A stage on the fastest of L local tiers is worth L, on the second L - 1, and so on.
    """
    counts = _stages_per_local_tier(model.catalog, layouts)
    speed = counts @ np.arange(counts.shape[1], 0, -1)
    # Summed in this order as the artifact does, whose published figure depends on the last digit.
    return -(_scaled(speed) + (1.0 - _scaled(transitions(model, layouts))))


POLICIES: Mapping[str, Callable[[MakespanModel, Layouts], FloatArray]] = {
    "FSF": fastest_storage_first,
    "LTL": low_transition_layout,
    "Hybrid": hybrid,
}
"""Scores by the names under which they were published; lower is foretold to be faster."""


def transitions(model: MakespanModel, layouts: Layouts) -> IntArray:
    """Count the stages that copy in, the stages that copy out, and the levels that do either, per layout.

    The artifact counts the columns above 0 s of a table that holds copies both per stage and per level. A
    copy whose time is unknown is not counted.
    """
    count = np.zeros(len(layouts), dtype=np.int64)
    # In blocks: what is charged is as many numbers as there are edges and stages, per layout.
    for start in range(0, len(layouts), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        count[block] = _transitions(model, layouts[block])
    return count


def _transitions(model: MakespanModel, layouts: Layouts) -> IntArray:
    charges = model.charges(layouts)
    workflow = model.workflow
    count = np.zeros(len(layouts), dtype=np.int64)
    for seconds, end in ((charges.into, 1), (charges.out_of, 0)):
        copies = np.zeros(layouts.shape, dtype=bool)
        for e, edge in enumerate(model.times.edges):
            if edge[end] in workflow.index:
                copies[:, workflow.index[edge[end]]] |= seconds[:, e] > 0
        count += copies.sum(axis=1)
        for level in workflow.levels:
            members = [s for s, stage in enumerate(workflow.stages) if stage.level == level]
            count += copies[:, members].any(axis=1)
    return count


def _stages_per_local_tier(catalog: TierCatalog, layouts: Layouts) -> IntArray:
    """Return, per layout, the number of stages on each local tier, from the fastest to the slowest."""
    local = [position for position, shared in enumerate(catalog.shared) if not shared]
    counts = np.zeros((len(layouts), len(local)), dtype=np.int64)
    for column, tier in enumerate(local):
        counts[:, column] = np.count_nonzero(layouts == tier, axis=1)
    return counts


def _scaled(values: NDArray[np.int64]) -> FloatArray:
    if not len(values):
        return np.zeros(0)
    return np.asarray((values - values.min()) / (np.ptp(values) or 1), dtype=np.float64)
