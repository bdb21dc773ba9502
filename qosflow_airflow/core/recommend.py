"""The answer to a request: the best configuration there is, or why there is none.

The optimum is exact: every configuration of every scale is evaluated, in blocks, so that memory stays
bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.cost import check_priced, money, node_hours
from qosflow_airflow.core.describe import describe
from qosflow_airflow.core.explain import CAPACITY, explain
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Configuration, Layouts
from qosflow_airflow.core.transfer import FloatArray

WITHIN = 0.05
"""Alternatives are listed while their objective is at most this share above the best."""
MAX_ALTERNATIVES = 5


@dataclass(frozen=True)
class Recommendation:
    """The best configuration that meets a request. ``answer`` is plain JSON, as stored and shown."""

    configuration: Configuration
    makespan_s: float
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Infeasible:
    """No configuration meets the request.

    ``binding`` names the constraints that stand in the way: the smallest sets which, left out, would make the
    request feasible. ``nearest`` is the best configuration once they are left out.
    """

    binding: tuple[str, ...]
    nearest: Configuration | None
    answer: Mapping[str, Any]


class _Candidate(NamedTuple):
    """A configuration with what it is ranked by; ties go to fewer nodes, then to the earlier layout."""

    objective: float
    makespan_s: float
    nodes: int
    position: int
    layout: NDArray[np.int8]


def recommend(model: Model, request: QoSRequest) -> Recommendation | Infeasible:
    """Return the exact optimum of ``request``, or what stands in its way.

    Raises
    ------
    RequestError, TierError, WorkflowError
        When the request names an unknown tier or stage, or asks for a cost without prices.
    """
    request.check_names(model.space)
    if request.objective == "cost":
        check_priced(model.catalog)
    search = _Search(model, request)
    for makespans, layouts in model.blocks():
        search.add(makespans, layouts)
    best = search.best(())
    if best is not None:
        return _recommendation(model, request, best, search.alternatives(best))
    return _infeasible(model, request, search)


class _Search:
    """The best candidates per set of constraints left out, over all blocks seen so far."""

    def __init__(self, model: Model, request: QoSRequest) -> None:
        self.model = model
        self.request = request
        self._best: dict[tuple[str, ...], list[_Candidate]] = {}
        self._seen: dict[int, int] = {}

    def add(self, makespans: MakespanModel, layouts: Layouts) -> None:
        nodes = makespans.times.nodes
        makespan_s = makespans.makespan_s(layouts)
        objective = _objective(self.model, self.request, nodes, makespan_s)
        slacks = self.request.slacks(self.model.space, layouts, nodes, makespan_s)
        if makespans.capacity.limited:
            slacks[CAPACITY] = np.where(makespans.capacity.fit(layouts).over, -1.0, 0.0)
        # An unmeasured configuration is never a candidate; comparing NaN would only hide it.
        known = ~np.isnan(makespan_s)
        first = self._seen.get(nodes, 0)
        for left_out in _subsets(tuple(slacks)):
            keep = known.copy()
            for name, slack in slacks.items():
                if name not in left_out:
                    keep &= slack >= 0
            self._keep_best(left_out, np.flatnonzero(keep), objective, makespan_s, layouts, nodes, first)
        self._seen[nodes] = first + len(layouts)

    def _keep_best(
        self,
        left_out: tuple[str, ...],
        rows: NDArray[np.intp],
        objective: FloatArray,
        makespan_s: FloatArray,
        layouts: Layouts,
        nodes: int,
        first: int,
    ) -> None:
        wanted = MAX_ALTERNATIVES + 1 if not left_out else 1
        if len(rows) > wanted:
            # All ties at the border stay in, so that the order below decides and not the partition.
            border = np.partition(objective[rows], wanted - 1)[wanted - 1]
            rows = rows[objective[rows] <= border]
        rows = rows[np.lexsort((rows, makespan_s[rows], objective[rows]))[:wanted]]
        found = [
            _Candidate(
                float(objective[row]), float(makespan_s[row]), nodes, first + int(row), layouts[row].copy()
            )
            for row in rows
        ]
        kept = self._best.get(left_out, []) + found
        self._best[left_out] = sorted(kept, key=lambda candidate: candidate[:4])[:wanted]

    def best(self, left_out: tuple[str, ...]) -> _Candidate | None:
        kept = self._best.get(left_out)
        return kept[0] if kept else None

    def alternatives(self, best: _Candidate) -> list[_Candidate]:
        limit = best.objective * (1 + WITHIN)
        return [candidate for candidate in self._best[()][1:] if candidate.objective <= limit]

    def relaxations(self, *, keeping: str | None = None) -> list[tuple[str, ...]]:
        """Return the smallest sets of constraints that, left out, make the request feasible.

        Sets with the constraint ``keeping`` are not considered.
        """
        feasible = [left for left, kept in self._best.items() if left and kept and keeping not in left]
        smallest = min((len(left_out) for left_out in feasible), default=0)
        return [left_out for left_out in feasible if len(left_out) == smallest]


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from combinations(names, size)


def _objective(model: Model, request: QoSRequest, nodes: int, makespan_s: FloatArray) -> FloatArray:
    if request.objective == "node_hours":
        return node_hours(nodes, makespan_s)
    if request.objective == "cost":
        return money(model.catalog, nodes, makespan_s)
    return makespan_s


def _recommendation(
    model: Model, request: QoSRequest, best: _Candidate, alternatives: list[_Candidate]
) -> Recommendation:
    answer = {
        "status": "feasible",
        "workflow": model.workflow.name,
        "rules": model.rules.name,
        "request": request.to_json(),
        **describe(model, best.nodes, best.layout),
        "slack": _slack(model, request, best),
        "alternatives": [_brief(model, candidate) for candidate in alternatives],
    }
    answer["explanation"] = explain(answer)
    configuration = model.space.configuration(best.nodes, best.layout)
    return Recommendation(configuration, best.makespan_s, answer)


def _slack(model: Model, request: QoSRequest, best: _Candidate) -> dict[str, float]:
    slacks = request.slacks(model.space, best.layout[None, :], best.nodes, np.array([best.makespan_s]))
    return {name: float(slack[0]) for name, slack in slacks.items()}


def _brief(model: Model, candidate: _Candidate) -> dict[str, Any]:
    return {
        "configuration": model.space.configuration(candidate.nodes, candidate.layout).to_json(),
        "makespan_s": candidate.makespan_s,
        "node_hours": float(node_hours(candidate.nodes, np.array([candidate.makespan_s]))[0]),
    }


def _infeasible(model: Model, request: QoSRequest, search: _Search) -> Infeasible:
    # A request can be changed; what does not fit cannot run, and is never proposed.
    repairs = search.relaxations(keeping=CAPACITY)
    relaxations = [*search.relaxations(), *repairs]
    binding = tuple(sorted({name for left_out in relaxations for name in left_out}))
    found = {left_out: best for left_out in relaxations if (best := search.best(left_out)) is not None}
    candidates = [found[left_out] for left_out in repairs]
    too_large = min(
        (best for left_out, best in found.items() if CAPACITY in left_out),
        key=lambda candidate: candidate[:4],
        default=None,
    )
    nearest = min(candidates, key=lambda candidate: candidate[:4], default=None)
    answer: dict[str, Any] = {
        "status": "infeasible",
        "workflow": model.workflow.name,
        "rules": model.rules.name,
        "request": request.to_json(),
        "binding": list(binding) or ["measurements"],
        "nearest": None if nearest is None else describe(model, nearest.nodes, nearest.layout),
        "over_capacity": []
        if too_large is None
        else model.makespans(too_large.nodes).capacity.reasons(too_large.layout[None, :]),
    }
    answer["explanation"] = explain(answer)
    configuration = None if nearest is None else model.space.configuration(nearest.nodes, nearest.layout)
    return Infeasible(tuple(answer["binding"]), configuration, answer)
