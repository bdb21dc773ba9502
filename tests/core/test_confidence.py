"""A deadline with a confidence: the best of the configurations that are sure enough, by looking at all."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import confidence
from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from qosflow_airflow.exceptions import RequestError
from tests.support.models import random_model

DRAWS = FactorDraws(count=400)


def searching(model: Model) -> ConfidentSearch:
    return ConfidentSearch(model, Enumeration(model), DRAWS)


def sure_enough(model: Model, request: QoSRequest) -> list[Candidate]:
    """All configurations whose own draws keep the deadline often enough, best first."""
    assert request.deadline_s is not None and request.confidence is not None  # noqa: PT018
    free = replace(request, deadline_s=None, confidence=None)
    return [
        found
        for found in Enumeration(model).in_order(free)
        if MakespanDraws(model.makespans(found.nodes), DRAWS).probability_within(
            found.layout, request.deadline_s
        )
        >= request.confidence
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([COMPLETE, REFERENCE]),
    st.sampled_from([0.1, 0.3, 0.6, 0.9, 0.99]),
    st.sampled_from(["makespan", "node_hours"]),
)
def test_the_answer_is_the_best_of_all_that_are_sure_enough(
    seed: int, rules: MakespanRules, sure: float, objective: str
) -> None:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=0.05, stages=3)
    known = list(Enumeration(model).in_order(QoSRequest()))
    if not known:
        return
    deadline_s = rng.choice(known).makespan_s * rng.uniform(0.8, 1.5)
    request = QoSRequest(deadline_s=deadline_s or 1.0, confidence=sure, objective=objective)
    assert list(searching(model).in_order(request)) == sure_enough(model, request)


def test_without_confidence_or_deadline_nothing_is_drawn() -> None:
    model = random_model(random.Random(5), COMPLETE, unknown=0.0)
    for request in (QoSRequest(deadline_s=1000.0), QoSRequest(confidence=0.9)):
        search = searching(model)
        assert list(search.in_order(request)) == list(Enumeration(model).in_order(request))
        assert not search._draws


def test_a_confidence_without_known_spreads_is_an_error() -> None:
    model = random_model(random.Random(5), COMPLETE, unknown=0.0)
    for scale in model.scales:
        scale.times.read.log_sd[...] = np.nan
    with pytest.raises(RequestError, match="the model's times carry no spread"):
        next(searching(model).in_order(QoSRequest(deadline_s=1e6, confidence=0.9)))


def test_giving_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence, "MAX_DRAWN", 2)
    model = random_model(random.Random(8), COMPLETE, unknown=0.0)
    best = next(Enumeration(model).in_order(QoSRequest()))
    search = searching(model)
    assert list(search.in_order(QoSRequest(deadline_s=best.makespan_s * 1000, confidence=0.6)))
    assert search.gave_up


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.6, 0.95]))
def test_the_shortest_deadline_and_the_greatest_confidence_are_the_limits_of_what_is_feasible(
    seed: int, sure: float
) -> None:
    model = random_model(random.Random(seed), COMPLETE, unknown=0.05, stages=3)
    search = searching(model)
    shortest_s = search.shortest_deadline_s(QoSRequest(confidence=sure))
    if shortest_s is None:
        assert not list(Enumeration(model).in_order(QoSRequest()))
        return
    at_limit = QoSRequest(deadline_s=shortest_s, confidence=sure)
    assert sure_enough(model, at_limit)
    assert not sure_enough(model, replace(at_limit, deadline_s=shortest_s * (1 - 1e-9)))
    greatest = search.greatest_confidence(at_limit)
    assert greatest is not None
    assert greatest >= sure
    assert sure_enough(model, replace(at_limit, confidence=min(greatest, 1 - 1e-9)))
    if greatest < 1:
        assert not sure_enough(model, replace(at_limit, confidence=greatest + 1e-6))
