"""Branch and bound finds what looking at every configuration finds: the same ones, in the same order."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from qosflow_airflow.core import branch_and_bound, pareto
from qosflow_airflow.core.bounds import bounds_of
from qosflow_airflow.core.branch_and_bound import BranchAndBound
from qosflow_airflow.core.capacity_bounds import CapacityBounds
from qosflow_airflow.core.cost import money
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import OBJECTIVES, QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.search import ConfidentSearch, best, search_of, without_capacity
from qosflow_airflow.core.tiers import TierCatalog
from tests.support.models import random_model

INSTANCES = int(os.environ.get("QOSFLOW_SEARCH_INSTANCES", "1200"))
"""Random instances to compare; set it higher to look longer."""
EVERYTHING = 10**9
GIB = 1 << 30
TABLES = ("read", "write", "compute", "stage_in", "stage_out")


def random_instance(rng: random.Random) -> Model:
    """A small model of either rules: with unknown times or none, capacities, prices, and times that tie."""
    rules = rng.choice((COMPLETE, REFERENCE))
    model = random_model(rng, rules, unknown=rng.choice((0.0, 0.1)), stages=rng.choice((3, 5, 6)))
    if rng.random() < 0.3:
        for scale in model.scales:
            for name in TABLES:
                seconds = getattr(scale.times, name).seconds
                seconds[...] = np.ceil(seconds / 5)
    return with_sizes(rng, model) if rng.random() < 0.6 else model


def with_sizes(rng: random.Random, model: Model) -> Model:
    """The model with tiers of some capacity and price, and known volumes."""
    generator = np.random.default_rng(rng.getrandbits(32))

    def some_bytes() -> int | None:
        return int(generator.uniform(0.5, 8) * GIB) if rng.random() < 0.5 else None

    tiers = tuple(
        replace(
            tier,
            capacity_bytes=some_bytes(),
            price_per_gib_hour=rng.choice((None, 0.0, 0.1, 3.0)),
            memory=not tier.shared and rng.random() < 0.5,
        )
        for tier in model.catalog.tiers
    )
    node = model.catalog.node._replace(memory_bytes=some_bytes())
    edges, stages = len(model.workflow.edges), len(model.workflow.stages)
    scales = [
        replace(
            scale,
            times=replace(
                scale.times,
                edge_bytes=generator.uniform(0.1, 2, edges) * GIB,
                output_bytes=generator.uniform(0.1, 2, stages) * GIB,
            ),
        )
        for scale in model.scales
    ]
    return replace(model, catalog=TierCatalog(tiers, model.catalog.home, node), scales=tuple(scales))


def random_request(rng: random.Random, model: Model, known: Enumeration) -> QoSRequest:
    """Constraints near what some configuration reaches, to the last digit at times."""
    request = QoSRequest(objective=rng.choice(OBJECTIVES))
    found = best(known, QoSRequest(), 200)
    if not found:
        return request
    near, names = rng.choice(found), model.catalog.names
    times = model.scale(near.nodes).times
    layouts, makespan_s = np.array([near.layout], dtype=np.int8), np.array([near.makespan_s])
    limits = {
        "deadline_s": near.makespan_s,
        "max_node_hours": near.nodes * near.makespan_s / 3600,
        "max_cost": float(money(model.catalog, times, layouts, makespan_s)[0]),
    }
    for name, value in limits.items():
        if rng.random() < 0.3:
            request = replace(request, **{name: max(1e-9, value * rng.choice((0.9, 1.0, 1.1)))})
    if rng.random() < 0.3:
        request = replace(request, max_nodes=rng.randint(1, 8))
    if rng.random() < 0.2:
        request = replace(request, allow=tuple(rng.sample(names, rng.randint(1, len(names)))))
    if rng.random() < 0.2:
        request = replace(request, exclude=(rng.choice(names),))
    if rng.random() < 0.2:
        request = replace(request, pin={rng.choice(model.workflow.stage_names): rng.choice(names)})
    return request


def cases(seeds: range) -> Iterator[tuple[random.Random, Model, QoSRequest, Enumeration]]:
    for seed in seeds:
        rng = random.Random(seed)
        model = random_instance(rng)
        known = Enumeration(model)
        yield rng, model, random_request(rng, model, known), known


@pytest.mark.parametrize("small", [1, 4, 30])
def test_the_same_configurations_in_the_same_order(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    # Boxes this small are looked at as a whole; everything above is bounded.
    monkeypatch.setattr(branch_and_bound, "SMALL", small)
    share = INSTANCES // 3
    counts = {"feasible": 0, "infeasible": 0}
    for rng, model, request, known in cases(range(small * share, (small + 1) * share)):
        wanted = rng.choice((1, 6, 20, EVERYTHING))
        search = BranchAndBound(model)
        expected = list(islice(known.in_order(request), wanted))
        assert list(islice(search.in_order(request), wanted)) == expected
        assert search.lower_bound(request) is None
        counts["feasible" if expected else "infeasible"] += 1
    assert min(counts.values()) > share // 20


@pytest.mark.parametrize("rules", [COMPLETE, REFERENCE])
def test_no_bound_is_above_what_it_bounds(rules: MakespanRules) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        model = random_model(rng, rules, unknown=0.05, stages=5)
        makespans, layouts = model.makespans(model.nodes[0]), model.space.layouts()
        makespan_s = makespans.makespan_s(layouts)
        stages, tiers = layouts.shape[1], len(model.catalog.tiers)
        box = np.random.default_rng(seed).random((stages, tiers)) < 0.8
        inside = box[np.arange(stages), layouts].all(axis=1) & ~np.isnan(makespan_s)
        bound_s = bounds_of(makespans).cells(box[:, :, None], range(stages))[:, :, 0]
        for stage in range(stages):
            for tier in range(tiers):
                there = makespan_s[inside & (layouts[:, stage] == tier)]
                # To the last bit: a bound that is above by rounding would lose the best configuration.
                assert bound_s[tier, stage] <= there.min(initial=np.inf)


def test_no_choice_that_fits_is_taken_for_one_that_does_not() -> None:
    ruled_out = 0
    for seed in range(150):
        rng = random.Random(seed)
        model = with_sizes(rng, random_model(rng, COMPLETE, stages=4))
        makespans, layouts = model.makespans(model.nodes[0]), model.space.layouts()
        if not makespans.capacity.limited:
            continue
        fits = ~makespans.capacity.fit(layouts).over
        bounds = CapacityBounds(makespans.capacity)
        stages = np.arange(layouts.shape[1])
        box = np.random.default_rng(seed).random((len(stages), len(model.catalog.tiers))) < 0.8
        possible = np.zeros_like(box)
        inside = layouts[fits & box[stages, layouts].all(axis=1)]
        for stage in stages:
            possible[stage, inside[:, stage]] = True
        if box.any(axis=1).all():
            fitting = bounds.fitting(box)
            assert not (possible & ~fitting).any()
            ruled_out += int((box & ~fitting).sum())
        impossible = bounds.impossible_pairs(len(model.workflow.edges))
        index = model.workflow.index
        for e, (producer, consumer) in enumerate(model.workflow.edges):
            if producer in index and consumer in index:
                ends = layouts[fits][:, [index[producer], index[consumer]]]
                assert not impossible[e][ends[:, 0], ends[:, 1]].any()
    assert ruled_out > 50


def test_the_answer_is_the_same_whichever_way_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    # A front is followed in fewer steps where each of them takes a search; here the steps must be the same.
    monkeypatch.setattr(pareto, "MAX_STEPS_LARGE", pareto.MAX_STEPS)
    infeasible = 0
    for _, model, request, known in cases(range(40)):
        enumerated = recommend(model, request, ConfidentSearch(model, known))
        bounded = recommend(model, request, ConfidentSearch(model, BranchAndBound(model)))
        assert {**enumerated.answer, "optimality": None} == {**bounded.answer, "optimality": None}
        assert bounded.answer["optimality"]["method"] == "branch and bound"
        assert enumerated.answer["optimality"]["proven"] is bounded.answer["optimality"]["proven"] is True
        infeasible += isinstance(bounded, Infeasible)
    assert 0 < infeasible < 40


def test_blocks_that_are_not_kept_are_evaluated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, model, request, known in cases(range(30)):
        monkeypatch.setattr("qosflow_airflow.core.enumeration.MAX_KEPT_BYTES", 0)
        assert best(Enumeration(model), request, 100) == best(known, request, 100)
        monkeypatch.undo()


def test_capacity_can_be_left_out() -> None:
    for _, model, request, _ in cases(range(30)):
        for free, limited in zip(
            best(search_of(without_capacity(model)), request, 5),
            best(search_of(model), request, 5),
            strict=False,
        ):
            assert free <= limited


def test_a_search_that_gives_up_says_so_and_how_far_it_may_be_from_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(branch_and_bound, "SMALL", 1)
    gave_up = 0
    for _, model, _, known in cases(range(60)):
        request = QoSRequest()
        search = BranchAndBound(model, most_work=0)
        answer = recommend(model, request, ConfidentSearch(model, search))
        truth = best(known, request)
        optimality = answer.answer["optimality"]
        if search.lower_bound(request) is None:
            # Each node count was looked into once, and that was enough.
            assert not truth or optimality["objective"] == truth[0].objective
            continue
        gave_up += 1
        if isinstance(answer, Recommendation):
            assert optimality["proven"] == (optimality["lower_bound"] >= optimality["objective"])
            assert optimality["objective"] == answer.makespan_s >= truth[0].makespan_s
            assert optimality["lower_bound"] <= truth[0].objective
        else:
            assert not optimality["proven"]
    assert gave_up > 30
