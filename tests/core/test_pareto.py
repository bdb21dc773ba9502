"""The front holds every configuration that nothing dominates, as looking at all of them finds it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import pareto
from qosflow_airflow.core.branch_and_bound import BranchAndBound
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.cost import money
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.pareto import (
    MAX_POINTS,
    Front,
    Point,
    find_front,
    front_to_json,
    knee_of,
    not_dominated,
    thinned,
)
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import best, search_of
from tests.support.models import random_model

seeds = st.integers(0, 2**32)


def with_storage_prices(rng: random.Random, model: Model) -> Model:
    """The same model with a price per tier and known volumes, so that a slower layout may be cheaper."""
    tiers = tuple(
        replace(tier, price_per_gib_hour=rng.choice((0.0, 1.0, 5.0))) for tier in model.catalog.tiers
    )
    sizes = np.array([rng.choice((1.0, 8.0)) * 2.0**30 for _ in model.workflow.stages])
    scales = tuple(replace(s, times=replace(s.times, output_bytes=sizes)) for s in model.scales)
    return replace(model, catalog=replace(model.catalog, tiers=tiers), scales=scales)


def without_prices(model: Model) -> Model:
    return replace(
        model, catalog=replace(model.catalog, node=model.catalog.node._replace(price_per_hour=None))
    )


def front_of(model: Model, request: QoSRequest) -> Front | None:
    search = search_of(model)
    chosen = best(search, request)
    return find_front(search, request, chosen[0]) if chosen else None


def all_amounts(model: Model, request: QoSRequest) -> list[tuple[float, ...]]:
    """What each configuration that meets the request takes."""
    found: list[tuple[float, ...]] = []
    layouts = model.space.layouts()
    for scale in model.scales:
        makespan_s = model.makespans(scale.nodes).makespan_s(layouts)
        slacks = request.slacks(model.space, layouts, scale.times, makespan_s)
        keep = ~np.isnan(makespan_s)
        for slack in slacks.values():
            keep &= slack >= 0
        amounts = [makespan_s, scale.nodes * makespan_s / 3600]
        if pareto.is_priced(model):
            amounts.append(money(model.catalog, scale.times, layouts, makespan_s))
        found += [tuple(map(float, row)) for row in np.stack(amounts, axis=1)[keep]]
    return found


def non_dominated(amounts: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    return {
        one
        for one in amounts
        if not any(other != one and all(o <= i for o, i in zip(other, one, strict=True)) for other in amounts)
    }


def cases(seed: int, rules: MakespanRules, prices: str) -> list[tuple[Model, QoSRequest]]:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=rng.choice((0.0, 0.1)), stages=3)
    if prices == "storage":
        model = with_storage_prices(rng, model)
    if prices == "none":
        model = without_prices(model)
    fastest = best(search_of(model), QoSRequest())
    deadline_s = fastest[0].makespan_s * rng.uniform(1, 2) if fastest and fastest[0].makespan_s else None
    asked = QoSRequest(
        deadline_s=deadline_s,
        max_nodes=rng.choice((None, 2, 5)),
        exclude=tuple(rng.sample(model.catalog.names, rng.randint(0, 1))),
        objective=rng.choice(("makespan", "node_hours", "balanced")),
    )
    return [(model, QoSRequest()), (model, asked)]


@settings(max_examples=60)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]), st.sampled_from(["none", "nodes", "storage"]))
def test_the_front_is_what_nothing_dominates(seed: int, rules: MakespanRules, prices: str) -> None:
    for model, request in cases(seed, rules, prices):
        front = front_of(model, request)
        everything = all_amounts(model, request)
        if front is None:
            assert not everything
            continue
        expected = non_dominated(everything)
        found = {point.amounts for point in front.points}
        rounded = {tuple(round(value, 12) for value in amounts) for amounts in expected}
        assert {tuple(round(value, 12) for value in amounts) for amounts in found} <= rounded
        assert len(front.points) <= MAX_POINTS
        if front.epsilon == 0:
            assert len(front.points) == len(rounded)
        for amounts in expected:
            assert any(
                all(
                    mine <= its * (1 + front.epsilon) * (1 + 1e-12)
                    for mine, its in zip(p.amounts, amounts, strict=True)
                )
                for p in front.points
            )
        for point in front.points:
            layouts = np.array([point.layout], dtype=np.int8)
            assert model.makespans(point.nodes).makespan_s(layouts)[0] == point.makespan_s


@settings(max_examples=25)
@given(seeds)
def test_a_front_that_is_followed_in_large_steps_says_how_large(seed: int) -> None:
    rng = random.Random(seed)
    model = with_storage_prices(rng, random_model(rng, COMPLETE, unknown=0.0, stages=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "MAX_STEPS", 2)
        patch.setattr(pareto, "COARSE_STEPS", 3)
        front = front_of(model, QoSRequest())
    assert front is not None
    for amounts in non_dominated(all_amounts(model, QoSRequest())):
        assert any(
            all(m <= i * (1 + front.epsilon) * (1 + 1e-12) for m, i in zip(p.amounts, amounts, strict=True))
            for p in front.points
        )


@settings(max_examples=25)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_the_front_does_not_depend_on_how_configurations_are_searched(
    seed: int, rules: MakespanRules
) -> None:
    for model, request in cases(seed, rules, "nodes"):
        large = ConfidentSearch(model, BranchAndBound(model))
        chosen = best(large, request)
        if chosen:
            assert find_front(large, request, chosen[0]) == front_of(model, request)


def points(*amounts: tuple[float, float]) -> tuple[Point, ...]:
    return tuple(Point(makespan_s, hours, None, 1, ()) for makespan_s, hours in amounts)


def test_of_equal_points_one_is_kept_and_what_is_dominated_is_not() -> None:
    found = not_dominated(iter(points((2.0, 1.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (1.0, 3.0))))
    assert found == points((1.0, 2.0), (2.0, 1.0))


def test_the_knee_lies_farthest_below_the_chord() -> None:
    assert knee_of(points((1.0, 100.0))) == 0
    assert knee_of(points((1.0, 100.0), (100.0, 1.0))) == 0
    # In logarithms the second point is halfway in time and has saved nine tenths of the way in node-hours.
    assert knee_of(points((1.0, 1000.0), (10.0, 2.0), (20.0, 1.5), (100.0, 1.0))) == 1
    assert knee_of(points((0.0, 2.0), (5.0, 0.0))) == 0


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=1, max_size=60))
def test_a_thinned_front_stands_for_the_whole_and_keeps_ends_and_knee(
    amounts: list[tuple[float, float]],
) -> None:
    whole = not_dominated(iter(points(*amounts)))
    listed, epsilon = thinned(whole)
    assert len(listed) <= MAX_POINTS
    assert set(listed) <= set(whole)
    assert {whole[0], whole[-1], whole[knee_of(whole)]} <= set(listed)
    assert (epsilon == 0) == (listed == whole)
    for point in whole:
        assert any(
            all(m <= i * (1 + epsilon) * (1 + 1e-12) for m, i in zip(p.amounts, point.amounts, strict=True))
            for p in listed
        )


def test_a_front_as_json_marks_one_knee() -> None:
    model = random_model(random.Random(3), COMPLETE, unknown=0.0)
    front = front_of(model, QoSRequest())
    assert front is not None
    answer = front_to_json(model, front)
    assert [point["knee"] for point in answer["points"]].count(True) == 1
    assert answer["epsilon"] == 0.0
    assert answer["complete"] is True
    assert set(answer["points"][0]) == {"configuration", "makespan_s", "node_hours", "cost", "knee"}
    assert answer["points"][0]["cost"] == pytest.approx(2.0 * answer["points"][0]["node_hours"])


def test_a_front_of_a_search_that_gave_up_is_not_called_complete() -> None:
    model = random_model(random.Random(3), COMPLETE, unknown=0.0)
    bounded = BranchAndBound(model)
    search = ConfidentSearch(model, bounded)
    chosen = next(search.in_order(QoSRequest()))
    assert find_front(search, QoSRequest(), chosen).complete
    fastest = QoSRequest(max_nodes=max(model.nodes))
    bounded._gave_up.append((fastest, chosen.objective / 2))
    assert not find_front(search, QoSRequest(), chosen).complete
