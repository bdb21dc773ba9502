"""The best configurations of a model, by whichever way is quicker; both give the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from qosflow_airflow.core.candidate import Candidate, Search, check_request
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.run_spread import RunSpread

__all__ = ["Candidate", "ConfidentSearch", "Search", "best", "check_request", "search_of", "without_capacity"]

FEW = 1 << 15
"""Configurations up to which looking at all of them is quicker."""


def search_of(model: Model, runs: Mapping[int, RunSpread] | None = None) -> ConfidentSearch:
    """Return the quicker way to search the model; it is worth keeping for several requests.

    ``runs`` is what finished runs tell of how far makespans are off, by node count.
    """
    if model.space.size * len(model.scales) <= FEW:
        return ConfidentSearch(model, Enumeration(model), runs=runs or {})
    # Imported only where it is used: a task that asks about a small space pays for no more.
    from qosflow_airflow.core.branch_and_bound import BranchAndBound

    return ConfidentSearch(model, BranchAndBound(model), runs=runs or {})


def best(search: Search, request: QoSRequest, count: int = 1) -> list[Candidate]:
    """Return the ``count`` best configurations that meet ``request``, or all where there are fewer."""
    return list(islice(search.in_order(request), count))


def without_capacity(model: Model) -> Model:
    """Return the model as if every tier held everything."""
    return replace(model, rules=model.rules._replace(respects_capacity=False))
