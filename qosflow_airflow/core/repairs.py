"""What would make an infeasible request feasible: the smallest changes to it, cheapest first.

Each constraint is loosened alone, then two of them together. A pair is listed only where it is smaller than
every repair that it could replace. Where not even two constraints are enough, one repair is found by
loosening all of them and then taking back what is not needed. Every repair has been asked for again and has
an answer; :mod:`~qosflow_airflow.core.loosening` says what a change costs.

A request that is changed can only be looser, so that the search is asked little: what is infeasible without a
constraint stays infeasible however much it is loosened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations, permutations, product
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.loosening import (
    AMOUNTS,
    NUMBERS,
    Change,
    admitting,
    applied,
    asked_constraints,
    changes_to_json,
    in_words,
    is_met,
    is_within,
    joined,
    limit,
    options,
    without,
)
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Configuration

MAX_REPAIRS = 8
MAX_ASKED = 80
"""Changed requests that are searched at most, so that an answer does not take minutes in a huge space."""
MAX_DRAWN = 30
"""The same where a confidence is asked for, and configurations have to be drawn."""


class Repair(NamedTuple):
    """Changes that make the request feasible, and the best configuration then."""

    price: float
    changes: tuple[Change, ...]
    best: Candidate


def find_repairs(search: ConfidentSearch, request: QoSRequest) -> list[Repair]:
    """Return the smallest changes that make ``request`` feasible, cheapest first, at most ``MAX_REPAIRS``.

    The list is empty only where nothing is feasible without any of its constraints.
    """
    repairing = _Repairing(search, request)
    for size in (1, 2):
        for names in combinations(asked_constraints(request), size):
            repairing.loosen(names)
    if not repairing.found:
        repairing.loosen_everything()
    return repairing.smallest()


def repair_to_json(model: Model, request: QoSRequest, repair: Repair) -> dict[str, Any]:
    """Return a repair as plain JSON: ``changes`` are fields of the request with their new values."""
    return {
        "changes": changes_to_json(repair.changes),
        "makespan_s": repair.best.makespan_s,
        "configuration": _configuration(model, repair.best).to_json(),
        "words": " and ".join(in_words(request, change) for change in repair.changes),
    }


class _Repairing:
    """The repairs of one request that were found so far."""

    def __init__(self, search: ConfidentSearch, request: QoSRequest) -> None:
        self.search = search
        self.model = search.model
        self.request = request
        self._names = asked_constraints(request)
        self.found: list[Repair] = []
        self._max_asked = MAX_ASKED if request.confidence is None else MAX_DRAWN
        self._answers: dict[str, Candidate | None] = {}

    def loosen(self, names: Sequence[str]) -> None:
        """Find repairs that change exactly the constraints ``names``: one of them, or two."""
        if self._best(without(self.request, names)) is None:
            return
        numbers = [name for name in names if name in NUMBERS]
        # Two names of one constraint are changed at once where nothing else is.
        sizes = (1, 2) if len(names) == 1 else (1,)
        others = [name for name in names if name not in NUMBERS]
        ways = (
            product(*(options(self.model, self.request, name, size) for name in others)) for size in sizes
        )
        for changes in chain.from_iterable(ways):
            if len(self._answers) >= self._max_asked:
                return
            if not any(_is_part(repair.changes, changes) for repair in self.found):
                self._loosen_numbers(changes, numbers)

    def _loosen_numbers(self, changes: tuple[Change, ...], numbers: Sequence[str]) -> None:
        """Find repairs of ``changes`` and the numbers; of two numbers, one each way and per node count."""
        for order in permutations(numbers):
            self._keep(self._limited(changes, order))
        if len(numbers) == 2:
            limit_nodes = self.request.max_nodes or max(self.model.nodes)
            for nodes in self.model.nodes:
                if nodes < limit_nodes:
                    self._keep(self._limited(changes, numbers, max_nodes=nodes))

    def loosen_everything(self) -> None:
        """Find one repair of as few changes as possible, of any constraints."""
        names = self._names
        best = self._best(without(self.request, names))
        if best is None:
            return
        numbers = [name for name in names if name in NUMBERS]
        configuration = _configuration(self.model, best)
        needed = [part for name in names for part in admitting(self.request, name, configuration)]
        for part in tuple(needed):
            fewer = [other for other in needed if other is not part]
            if self._best(applied(without(self.request, numbers), joined(self.request, fewer))) is not None:
                needed = fewer
        self._keep(self._limited(joined(self.request, needed), numbers))

    def smallest(self) -> list[Repair]:
        """Return the repairs that do not change at least as much as another one does, cheapest first."""
        in_order = sorted(self.found, key=lambda repair: (repair.price, len(repair.changes), repair.best))
        kept: list[Repair] = []
        for repair in in_order:
            if not any(_is_part(other.changes, repair.changes) for other in kept):
                kept.append(repair)
        return kept[:MAX_REPAIRS]

    def _limited(
        self, changes: Sequence[Change], numbers: Sequence[str], max_nodes: int | None = None
    ) -> tuple[Change, ...]:
        """Return ``changes`` with each of ``numbers`` set, in turn, to the smallest that is feasible.

        None at all where nothing is. ``max_nodes`` narrows down the configurations that are considered.
        """
        found = list(changes)
        for position, name in enumerate(numbers):
            loose = applied(without(self.request, numbers[position:]), found)
            if max_nodes is not None:
                loose = replace(loose, max_nodes=max_nodes)
            amount = self._least(loose, name)
            if amount is None or (name == "confidence" and amount == 0):
                return ()
            if not is_met(self.request, name, amount):
                found.append(limit(self.request, name, amount))
        return tuple(found)

    def _least(self, request: QoSRequest, name: str) -> float | None:
        """Return the smallest amount, or the greatest confidence, that a request without it allows for."""
        if name == "confidence":
            return self.search.greatest_confidence(request) if request.deadline_s else 1.0
        if name == "deadline_s" and request.confidence is not None:
            return self.search.shortest_deadline_s(request)
        best = self._best(replace(request, objective=AMOUNTS[name]))
        return None if best is None else best.objective

    def _keep(self, changes: tuple[Change, ...]) -> None:
        best = self._best(applied(self.request, changes)) if changes else None
        if best is not None:
            in_order = tuple(sorted(changes, key=lambda change: self._names.index(change.name)))
            self.found.append(Repair(sum(change.price for change in changes), in_order, best))

    def _best(self, request: QoSRequest) -> Candidate | None:
        key = repr(request)
        if key not in self._answers:
            self._answers[key] = next(iter(self.search.in_order(request)), None)
        return self._answers[key]


def _configuration(model: Model, candidate: Candidate) -> Configuration:
    return model.space.configuration(candidate.nodes, np.array(candidate.layout, dtype=np.int8))


def _is_part(smaller: Sequence[Change], larger: Sequence[Change]) -> bool:
    """Return whether everything that ``smaller`` changes is changed by ``larger`` at least as much."""
    return all(any(is_within(change, other) for other in larger) for change in smaller)
