"""The answer to a request: the best configuration there is, or why there is none.

The optimum is exact. When nothing meets the request, :mod:`~qosflow_airflow.core.infeasibility` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.cost import node_hours
from qosflow_airflow.core.describe import describe
from qosflow_airflow.core.explain import explain
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.pareto import find_front, front_to_json
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import Candidate, ConfidentSearch, check_request, search_of
from qosflow_airflow.core.sensitivity import sensitivity
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.uncertainty import shares_of_best

WITHIN = 0.05
"""Alternatives are listed while their objective is at most this share above the best."""
MAX_ALTERNATIVES = 5
MOMENT_S = 1e-6


class Recommendation(NamedTuple):
    """The best configuration that meets a request. ``answer`` is plain JSON, as stored and shown."""

    configuration: Configuration
    makespan_s: float
    answer: Mapping[str, Any]


class Infeasible(NamedTuple):
    """No configuration meets the request.

    ``binding`` names the constraints that stand in the way: the smallest sets which, left out, would make the
    request feasible. ``nearest`` is the best configuration once they are left out.
    """

    binding: tuple[str, ...]
    nearest: Configuration | None
    answer: Mapping[str, Any]


def recommend(
    model: Model, request: QoSRequest, search: ConfidentSearch | None = None, *, overhead_s: float = 0.0
) -> Recommendation | Infeasible:
    """Return the exact optimum of ``request``, or what stands in its way.

    ``search`` is that of the model, where it is kept for several requests. ``overhead_s`` is what every run
    takes beyond its makespan, whatever its configuration: deadlines are compared with both together.

    Raises
    ------
    RequestError, TierError, WorkflowError
        When the request names an unknown tier or stage, or asks for a cost without prices.
    """
    check_request(model, request)
    search = search or search_of(model)
    within = _within(request, overhead_s)
    in_order = search.in_order(within)
    found = list(islice(in_order, MAX_ALTERNATIVES + 1))
    answered = (
        _recommendation(model, within, search, found, in_order)
        if found
        else _infeasible(model, within, search)
    )
    return answered._replace(answer=_with_overhead(answered.answer, request, overhead_s))


def _within(request: QoSRequest, overhead_s: float) -> QoSRequest:
    """Return the request that the makespan alone must meet."""
    if request.deadline_s is None or not overhead_s:
        return request
    # A deadline of nothing is no deadline: what no run can keep is asked for as a moment.
    return replace(request, deadline_s=max(request.deadline_s - overhead_s, MOMENT_S))


def _with_overhead(answer: Mapping[str, Any], request: QoSRequest, overhead_s: float) -> dict[str, Any]:
    """Return an answer to the request as it was made, in words too."""
    found = {**answer, "request": request.to_json(), "overhead_s": overhead_s}
    if "makespan_s" in found:
        found["run_s"] = found["makespan_s"] + overhead_s
    elif found["nearest"] is not None:
        found["nearest"] = {**found["nearest"], "run_s": found["nearest"]["makespan_s"] + overhead_s}
    if overhead_s and "repairs" in found:
        from qosflow_airflow.core.infeasibility import repaired

        found["repairs"] = [repaired(repair, request, overhead_s) for repair in found["repairs"]]
    found["explanation"] = explain(found)
    return found


def _recommendation(
    model: Model,
    request: QoSRequest,
    search: ConfidentSearch,
    found: list[Candidate],
    in_order: Iterator[Candidate],
) -> Recommendation:
    chosen = found[0]
    leading = [other for other in found if other.objective <= chosen.objective * (1 + WITHIN)]
    p_best = _probabilities_of_best(search, leading)
    layout = _layout(chosen)
    answer = {
        "status": "feasible",
        "workflow": model.workflow.name,
        "rules": model.rules.name,
        "request": request.to_json(),
        **describe(model, chosen.nodes, layout),
        "interval": search.draws(chosen.nodes).interval(chosen.layout, request.deadline_s),
        "slack": _slack(model, request, chosen),
        "p_best": p_best[0],
        "alternatives": [
            {**_brief(model, other), "p_best": p} for other, p in zip(leading[1:], p_best[1:], strict=True)
        ],
        "pareto": front_to_json(model, find_front(search, request, chosen)),
        "sensitivity": sensitivity(model, request, chain(found, in_order), search),
        "optimality": _optimality(request, search, chosen),
    }
    return Recommendation(model.space.configuration(chosen.nodes, layout), chosen.makespan_s, answer)


def _layout(candidate: Candidate) -> NDArray[np.int8]:
    return np.array(candidate.layout, dtype=np.int8)


def _probabilities_of_best(search: ConfidentSearch, leading: list[Candidate]) -> list[float] | list[None]:
    """Return how likely each is the shortest of the leading ones, those within 5 % of it counting as ties."""
    if len(leading) == 1 or not all(search.spread_known(candidate) for candidate in leading):
        return [None] * len(leading)
    drawn = [search.draws(candidate.nodes).makespan_s(candidate.layout) for candidate in leading]
    return [float(share) for share in shares_of_best(drawn, WITHIN)]


def _slack(model: Model, request: QoSRequest, chosen: Candidate) -> dict[str, float]:
    times = model.scale(chosen.nodes).times
    row = _layout(chosen)[None, :]
    slacks = request.slacks(model.space, row, times, np.array([chosen.makespan_s]))
    return {name: float(slack[0]) for name, slack in slacks.items()}


def _brief(model: Model, candidate: Candidate) -> dict[str, Any]:
    return {
        "configuration": model.space.configuration(candidate.nodes, _layout(candidate)).to_json(),
        "makespan_s": candidate.makespan_s,
        "node_hours": float(node_hours(candidate.nodes, np.array([candidate.makespan_s]))[0]),
    }


def _optimality(request: QoSRequest, search: ConfidentSearch, chosen: Candidate | None) -> dict[str, Any]:
    """Return whether nothing better can exist, and the objective that nothing is below."""
    missed = search.lower_bound(request)
    objective = None if chosen is None else chosen.objective
    proven = not search.gave_up and (missed is None or (objective is not None and missed >= objective))
    bound = objective if proven else missed
    return {"proven": proven, "method": search.method, "objective": objective, "lower_bound": bound}


def _infeasible(model: Model, request: QoSRequest, search: ConfidentSearch) -> Infeasible:
    # Imported here: most requests can be met, and then a task need not wait for this.
    from qosflow_airflow.core.infeasibility import hindrances

    nearest, hindered = hindrances(model, request, search)
    answer = {
        "status": "infeasible",
        "workflow": model.workflow.name,
        "rules": model.rules.name,
        "request": request.to_json(),
        **hindered,
        "optimality": _optimality(request, search, None),
    }
    configuration = None if nearest is None else model.space.configuration(nearest.nodes, _layout(nearest))
    return Infeasible(tuple(hindered["binding"]), configuration, answer)
