"""What a request allows and minimises, as bounds of what it may find at one node count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qosflow_airflow.core.bounds import BoolArray
from qosflow_airflow.core.cost import SECONDS_PER_HOUR, balanced, check_priced, node_hours, storage_per_hour
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, StageTimes


def tiers_allowed(model: Model, request: QoSRequest) -> BoolArray:
    """Return the tiers that the request lets each stage take, S x T."""
    names = model.catalog.names
    asked = [
        (request.allow is None or name in request.allow) and name not in request.exclude for name in names
    ]
    tiers = np.tile(np.array(asked), (len(model.workflow.stages), 1))
    for stage, pinned in request.pin.items():
        tiers[model.workflow.index[stage]] &= np.array([name == pinned for name in names])
    return tiers


class RequestBounds:
    """Bounds of a request's objective and limits at one node count.

    They are computed as the values themselves are, operation by operation, from bounds of what these are made
    of; so they are not above them by rounding either.
    """

    def __init__(self, catalog: TierCatalog, times: StageTimes, request: QoSRequest) -> None:
        self._times = times
        self._request = request
        self._is_priced = request.objective == "cost" or request.max_cost is not None
        if self._is_priced:
            self._held = times.nodes * check_priced(catalog, times)
            self._stored = storage_per_hour(catalog, times)

    def of_cells(
        self, tiers: BoolArray, conditions: Sequence[int], makespan_s: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Return the least objective of each cell of a box, and whether the request can be met with it.

        ``tiers`` (S x T) is the box and ``makespan_s`` (F x T) the bound of each cell, a stage in
        ``conditions`` (F) on a tier. Where a cell cannot be chosen, its objective is infinite.
        """
        nodes, request = self._times.nodes, self._request
        within = np.isfinite(makespan_s) & tiers[conditions]
        makespan_s = np.where(within, makespan_s, 0.0)
        objective = makespan_s
        hours = node_hours(nodes, makespan_s)
        if request.deadline_s is not None:
            within &= makespan_s <= request.deadline_s
        if request.max_node_hours is not None:
            within &= hours <= request.max_node_hours
        if self._is_priced:
            hourly = self._held + self._stored_per_hour(tiers, conditions)
            cost = hourly * makespan_s / SECONDS_PER_HOUR
            if request.max_cost is not None:
                within &= cost <= request.max_cost
            objective = cost if request.objective == "cost" else objective
        if request.objective == "node_hours":
            objective = hours
        if request.objective == "balanced":
            objective = balanced(nodes, makespan_s)
        return np.where(within, objective, np.inf), within

    def _stored_per_hour(self, tiers: BoolArray, conditions: Sequence[int]) -> FloatArray:
        """Return the least price of an hour of all outputs, with one stage on one tier (F x T)."""
        least = np.where(tiers, self._stored, np.inf).min(axis=1)
        rows = np.tile(least, (len(conditions), tiers.shape[1], 1))
        for at, stage in enumerate(conditions):
            rows[at, :, stage] = self._stored[stage]
        return np.asarray(rows.sum(axis=2))
