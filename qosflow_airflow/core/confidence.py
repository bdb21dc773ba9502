"""The best configurations among those that keep a deadline with a given probability.

A configuration is drawn as soon as it is the best one left, and the first that is sure enough is the answer:
the others are no better. From a confidence of one half on, a makespan that is estimated beyond the deadline
cannot keep it: half of what is drawn is longer than the estimate, or more, because the longest of several
paths counts, and because what whole runs are off by is as often more as less. Below that the estimate may lie
beyond the deadline, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from qosflow_airflow.core.candidate import Candidate, Search
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.run_spread import RunSpread
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from qosflow_airflow.exceptions import RequestError

MAX_DRAWN = 10_000
"""Configurations drawn at most for one answer; where none of them is sure enough, that is said."""
EVEN_CHANCE = 0.5


@dataclass
class ConfidentSearch:
    """A search that heeds the confidence of a request. Without one it is the search that it is made of.

    ``runs`` is what finished runs tell of how far makespans are off, by node count.
    """

    model: Model
    search: Search
    factors: FactorDraws = field(default_factory=FactorDraws)
    runs: Mapping[int, RunSpread] = field(default_factory=dict)
    gave_up: bool = False
    """Whether so many configurations were drawn that a better or an only one may have been missed."""

    def __post_init__(self) -> None:
        self._draws: dict[int, MakespanDraws] = {}
        self._probabilities: dict[tuple[int, tuple[int, ...], float], float] = {}

    @property
    def method(self) -> str:
        """How configurations are searched before they are drawn."""
        return self.search.method

    def in_order(self, request: QoSRequest) -> Iterator[Candidate]:
        """Yield all configurations that meet ``request``, its confidence included, best first.

        Raises
        ------
        RequestError
            When a confidence is asked for and the times of a configuration carry no spread.
        """
        if request.confidence is None or request.deadline_s is None:
            yield from self.search.in_order(request)
            return
        for drawn, candidate in enumerate(self.search.in_order(_of_estimates(request))):
            if drawn >= MAX_DRAWN:
                self.gave_up = True
                return
            if self.probability(candidate, request.deadline_s) >= request.confidence:
                yield candidate

    def lower_bound(self, request: QoSRequest) -> float | None:
        """Return the least objective that the search among estimates may have missed, ``None`` if none."""
        return self.search.lower_bound(_of_estimates(request))

    def shortest_deadline_s(self, request: QoSRequest) -> float | None:
        """Return the shortest deadline that a configuration keeps with the confidence of ``request``.

        The deadline of the request itself is left out; ``None`` where nothing meets the rest.
        """
        assert request.confidence is not None  # without one it is the shortest makespan
        shortest: float | None = None
        for candidate in self._by_makespan(request):
            sure = request.confidence >= EVEN_CHANCE
            if shortest is not None and sure and candidate.makespan_s >= shortest:
                break
            quantile_s = self._quantile_s(candidate, request.confidence)
            shortest = quantile_s if shortest is None else min(shortest, quantile_s)
        return shortest

    def greatest_confidence(self, request: QoSRequest) -> float | None:
        """Return the highest probability with which a configuration keeps the deadline of ``request``.

        Its own confidence is left out; ``None`` where nothing meets the rest.
        """
        assert request.deadline_s is not None
        greatest: float | None = None
        for candidate in self._by_makespan(request):
            if greatest is not None and greatest > EVEN_CHANCE and candidate.makespan_s > request.deadline_s:
                break
            greatest = max(greatest or 0.0, self.probability(candidate, request.deadline_s))
        return greatest

    def _by_makespan(self, request: QoSRequest) -> Iterator[Candidate]:
        free = replace(request, deadline_s=None, confidence=None, objective="makespan")
        yield from islice(self.search.in_order(free), MAX_DRAWN)

    def _quantile_s(self, candidate: Candidate, probability: float) -> float:
        """Return the shortest time within which so many draws are done."""
        self._check_known(candidate)
        return self.draws(candidate.nodes).kept_within_s(candidate.layout, probability)

    def draws(self, nodes: int) -> MakespanDraws:
        """Return the draws at a node count."""
        if nodes not in self._draws:
            self._draws[nodes] = MakespanDraws(
                self.model.makespans(nodes), self.factors, self.runs.get(nodes)
            )
        return self._draws[nodes]

    def probability(self, candidate: Candidate, deadline_s: float) -> float:
        """Return the probability that a configuration keeps a deadline."""
        key = (candidate.nodes, candidate.layout, deadline_s)
        if key not in self._probabilities:
            self._check_known(candidate)
            draws = self.draws(candidate.nodes)
            self._probabilities[key] = draws.probability_within(candidate.layout, deadline_s)
        return self._probabilities[key]

    def spread_known(self, candidate: Candidate) -> bool:
        """Return whether the spread of every time of a configuration is known."""
        return bool(self.draws(candidate.nodes).spread_known(_row(candidate))[0])

    def _check_known(self, candidate: Candidate) -> None:
        if not self.draws(candidate.nodes).known(_row(candidate))[0]:
            raise RequestError(
                "a confidence is asked for, and the model's times carry no spread",
                cure="Build the model from observations and measured rates, or ask without confidence.",
            )


def _row(candidate: Candidate) -> Layouts:
    return np.array([candidate.layout], dtype=np.int8)


def _of_estimates(request: QoSRequest) -> QoSRequest:
    """Return what to ask of a search that compares estimates with the deadline."""
    if request.confidence is None or request.confidence >= EVEN_CHANCE:
        return request
    return replace(request, deadline_s=None)
