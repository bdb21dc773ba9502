"""Repairs and trade-offs where a deadline has to be kept with a confidence."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import pareto
from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.pareto import find_front, front_to_json, not_dominated
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Recommendation, recommend
from qosflow_airflow.core.repairs import find_repairs, repair_to_json
from qosflow_airflow.core.search import best
from qosflow_airflow.core.uncertainty import FactorDraws
from tests.support.models import random_model

seeds = st.integers(0, 2**32)
DRAWS = FactorDraws(count=200)


def random_case(seed: int, slack: tuple[float, float]) -> tuple[ConfidentSearch, QoSRequest] | None:
    """A model and a request with a confidence; the deadline is so many times what is possible."""
    rng = random.Random(seed)
    model = random_model(rng, COMPLETE, unknown=0.0, stages=3)
    search = ConfidentSearch(model, Enumeration(model), DRAWS)
    fastest = best(search, QoSRequest())[0].makespan_s
    if fastest == 0:
        return None
    names = model.catalog.names
    request = QoSRequest(
        deadline_s=fastest * rng.uniform(*slack),
        confidence=rng.choice((0.3, 0.5, 0.9, 0.99)),
        max_nodes=rng.choice((None, 2)),
        exclude=tuple(rng.sample(names, rng.randint(0, 1))),
        objective=rng.choice(("makespan", "node_hours")),
    )
    return search, request


@settings(max_examples=40)
@given(seeds)
def test_every_repair_is_feasible_with_its_confidence_and_nothing_of_it_can_be_left_out(seed: int) -> None:
    case = random_case(seed, (0.6, 1.1))
    if case is None or best(*case):
        return
    search, request = case
    found = find_repairs(search, request)
    assert found
    for repair in found:
        changes = repair_to_json(search.model, request, repair)["changes"]
        changed = QoSRequest.parse({**request.to_json(), **changes})
        answer = recommend(search.model, changed, search)
        assert isinstance(answer, Recommendation)
        assert answer.makespan_s == repair.best.makespan_s
        assert changed.deadline_s is not None
        assert changed.confidence is not None
        assert search.probability(repair.best, changed.deadline_s) >= changed.confidence
        for name in changes:
            assert not best(search, replace(changed, **{name: getattr(request, name)}))


def test_a_confidence_that_cannot_be_had_is_lowered_or_the_deadline_moved() -> None:
    case = random_case(11, (1.0, 1.0))
    assert case is not None
    search, _ = case
    fastest = best(search, QoSRequest())[0].makespan_s
    request = QoSRequest(deadline_s=fastest, confidence=0.99)
    words = [
        repair_to_json(search.model, request, repair)["words"] for repair in find_repairs(search, request)
    ]
    assert any(word.startswith("a confidence of 0.") for word in words)
    assert any(word.startswith("a deadline of ") for word in words)


def sure(search: ConfidentSearch, request: QoSRequest) -> list[Candidate]:
    return list(search.in_order(request))


@settings(max_examples=40)
@given(seeds)
def test_every_trade_off_is_sure_enough_and_none_is_missing(seed: int) -> None:
    case = random_case(seed, (1.0, 3.0))
    if case is None or not best(*case):
        return
    search, request = case
    front = find_front(search, request, best(search, request)[0])
    assert front.complete
    points = (
        pareto.Point(
            c.makespan_s, c.nodes * c.makespan_s / 3600, 2 * c.nodes * c.makespan_s / 3600, c.nodes, c.layout
        )
        for c in sure(search, request)
    )
    expected = [point.amounts for point in not_dominated(points)]
    np.testing.assert_allclose([point.amounts for point in front.points], expected, rtol=1e-12)


def test_a_front_of_which_too_few_are_sure_enough_is_not_called_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pareto, "MAX_DRAWN", 1)
    for seed in range(40):
        case = random_case(seed, (1.0, 1.4))
        if case is None or not best(*case):
            continue
        front = find_front(*case, best(*case)[0])
        assert front.points
        if not front.complete:
            assert front_to_json(case[0].model, front)["complete"] is False
            return
    raise AssertionError("no case was cut short")


def test_the_answer_to_a_request_with_a_confidence_holds_all_of_it() -> None:
    model: Model = random_model(random.Random(4), COMPLETE, unknown=0.0)
    search = ConfidentSearch(model, Enumeration(model), DRAWS)
    fastest = best(search, QoSRequest())[0].makespan_s
    answer = recommend(model, QoSRequest(deadline_s=3 * fastest, confidence=0.9), search).answer
    assert answer["pareto"]["points"]
    assert answer["sensitivity"]["tiers"]
    late = recommend(model, QoSRequest(deadline_s=fastest, confidence=0.99), search).answer
    assert late["repairs"]
    assert late["binding_stages"]
