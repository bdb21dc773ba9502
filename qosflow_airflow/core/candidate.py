"""A configuration with what it is ranked by, and what a search for the best ones promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from qosflow_airflow.core.cost import balanced, check_priced, money, node_hours
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, IntArray, StageTimes


class Candidate(NamedTuple):
    """A configuration, in the order of preference.

    The smaller objective comes first, then the shorter makespan, fewer nodes, and the layout that is
    enumerated earlier. ``layout`` holds the position of each stage's tier in the catalog. Values are compared
    as they are, to the last bit: there is no tolerance within which two of them would count as equal.
    """

    objective: float
    makespan_s: float
    nodes: int
    layout: tuple[int, ...]


class Search(Protocol):
    """A way to find the best configurations of a model."""

    @property
    def method(self) -> str:
        """The way in a word, as answers name it."""
        ...

    def in_order(self, request: QoSRequest) -> Iterator[Candidate]:
        """Yield all configurations that meet ``request``, best first, as far as they are asked for.

        Those with a time that is not known, or with data that does not fit on its tiers, are left out. The
        deadline is compared with the estimated makespan, whatever confidence is asked for.
        """
        ...

    def lower_bound(self, request: QoSRequest) -> float | None:
        """Return the least objective that may have been missed, where a search of ``request`` gave up.

        ``None`` where what was yielded is proven to be the best.
        """
        ...


def objective_of(
    catalog: TierCatalog, request: QoSRequest, times: StageTimes, layouts: Layouts, makespan_s: FloatArray
) -> FloatArray:
    """Return what ``request`` minimises, per layout (C x S) of the given makespan (C)."""
    if request.objective == "node_hours":
        return node_hours(times.nodes, makespan_s)
    if request.objective == "cost":
        return money(catalog, times, layouts, makespan_s)
    if request.objective == "balanced":
        return balanced(times.nodes, makespan_s)
    return makespan_s


def rank(
    model: Model,
    request: QoSRequest,
    times: StageTimes,
    layouts: Layouts,
    makespan_s: FloatArray,
    wanted: int | None = None,
) -> tuple[IntArray, FloatArray]:
    """Return the layouts that meet ``request``, best first, and what it minimises for each of all layouts.

    ``makespan_s`` is NaN for what cannot be chosen. Layouts (C x S) are in the order of their enumeration. Of
    those that meet the request, at most ``wanted`` are returned.
    """
    # A comparison with NaN would only hide what is not known.
    keep = ~np.isnan(makespan_s)
    for slack in request.slacks(model.space, layouts, times, makespan_s).values():
        keep &= slack >= 0
    rows = np.flatnonzero(keep)
    objective = objective_of(model.catalog, request, times, layouts, makespan_s)
    if wanted is not None and len(rows) > wanted:
        # All ties at the border stay in, so that the order below decides and not the partition.
        border = np.partition(objective[rows], wanted - 1)[wanted - 1]
        rows = rows[objective[rows] <= border]
    return rows[np.lexsort((rows, makespan_s[rows], objective[rows]))[:wanted]], objective


def check_request(model: Model, request: QoSRequest) -> None:
    """Refuse what cannot be answered, before anything is searched.

    Raises
    ------
    RequestError, TierError, WorkflowError
        When the request names an unknown tier or stage, or asks for a cost without prices.
    """
    request.check_names(model.space)
    if request.objective == "cost" or request.max_cost is not None:
        for scale in model.scales:
            check_priced(model.catalog, scale.times)
