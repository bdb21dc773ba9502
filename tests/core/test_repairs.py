"""Repairs make a request feasible when it is asked again, and nothing smaller does."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.branch_and_bound import BranchAndBound
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.cost import money, node_hours
from qosflow_airflow.core.loosening import asked_constraints, limit
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import OBJECTIVES, QoSRequest
from qosflow_airflow.core.recommend import Recommendation, recommend
from qosflow_airflow.core.repairs import MAX_REPAIRS, find_repairs, repair_to_json
from qosflow_airflow.core.search import best, search_of
from tests.support.models import random_model
from tests.support.small_model import small_catalog, small_workflow, stage_times

seeds = st.integers(0, 2**32)


def two_stages(*nodes: int) -> Model:
    """Stages ``split`` and ``merge``; ``ram`` is four times as fast as ``disk``, and nodes share the work."""
    workflow, catalog = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
    scales = tuple(ScaleModel(n, stage_times(workflow, catalog, n)) for n in nodes)
    return Model(workflow, catalog, COMPLETE, scales)


def repairs_of(model: Model, request: QoSRequest) -> list[dict[str, Any]]:
    search = search_of(model)
    assert not best(search, request)
    found = find_repairs(search, request)
    return [{**repair_to_json(model, request, repair), "price": repair.price} for repair in found]


def random_request(rng: random.Random, model: Model) -> QoSRequest:
    """A request that asks for rather too much."""
    search = search_of(model)
    fastest = [best(search, QoSRequest(objective=name)) for name in ("makespan", "node_hours", "cost")]
    amounts = [found[0].objective if found else 1.0 for found in fastest]
    names, stages = model.catalog.names, model.workflow.stage_names

    def near(amount: float) -> float | None:
        return max(amount * rng.uniform(0.3, 1.4), 1e-9) if rng.random() < 0.4 else None

    return QoSRequest(
        deadline_s=near(amounts[0]),
        max_node_hours=near(amounts[1]),
        max_cost=near(amounts[2]),
        max_nodes=rng.randint(1, 4) if rng.random() < 0.5 else None,
        allow=tuple(rng.sample(names, rng.randint(1, len(names)))) if rng.random() < 0.4 else None,
        exclude=tuple(rng.sample(names, rng.randint(1, len(names)))) if rng.random() < 0.3 else (),
        pin={s: rng.choice(names) for s in rng.sample(stages, rng.randint(0, len(stages)))}
        if rng.random() < 0.4
        else {},
        objective=rng.choice(OBJECTIVES),
    )


def infeasible_cases(seed: int, rules: MakespanRules) -> list[tuple[Model, QoSRequest]]:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=rng.choice((0.0, 0.1)), stages=3)
    requests = [random_request(rng, model) for _ in range(8)]
    search = search_of(model)
    return [(model, request) for request in requests if not best(search, request)]


def prices(model: Model, request: QoSRequest) -> list[float]:
    """What it takes to let each configuration in, exactly, of as many constraints as the repairs look at."""
    found = []
    layouts = model.space.layouts()
    for scale in model.scales:
        makespan_s = model.makespans(scale.nodes).makespan_s(layouts)
        hours = node_hours(scale.nodes, makespan_s)
        costs = money(model.catalog, scale.times, layouts, makespan_s)
        for row, layout in enumerate(layouts):
            if math.isnan(makespan_s[row]):
                continue
            tiers = dict(model.space.configuration(1, layout).tiers)
            amounts = {
                "deadline_s": makespan_s[row],
                "max_node_hours": hours[row],
                "max_cost": costs[row],
                "max_nodes": scale.nodes,
            }
            numbers = {
                name: amount / getattr(request, name) - 1
                for name, amount in amounts.items()
                if getattr(request, name) is not None and amount > getattr(request, name)
            }
            taken = set(tiers.values())
            sets = {
                "allow": len(taken - set(request.allow)) if request.allow else 0,
                "exclude": len(taken & set(request.exclude)),
                "pin": sum(tiers[stage] != tier for stage, tier in request.pin.items()),
            }
            broken = {**numbers, **{name: count for name, count in sets.items() if count}}
            most = 2 if len(broken) == 1 else 1
            if len(broken) <= 2 and all(count <= most for count in sets.values()):
                found.append(sum(broken.values()))
    return found


@settings(max_examples=60)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_every_repair_is_feasible_when_the_request_is_asked_again(seed: int, rules: MakespanRules) -> None:
    for model, request in infeasible_cases(seed, rules):
        for repair in repairs_of(model, request):
            again = recommend(model, QoSRequest.parse({**request.to_json(), **repair["changes"]}))
            assert isinstance(again, Recommendation)
            assert again.makespan_s == repair["makespan_s"]
            assert again.configuration.to_json() == repair["configuration"]
            assert json.loads(json.dumps(repair, allow_nan=False)) == repair


@settings(max_examples=60)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_nothing_of_a_repair_can_be_left_out(seed: int, rules: MakespanRules) -> None:
    for model, request in infeasible_cases(seed, rules):
        search = search_of(model)
        for repair in repairs_of(model, request):
            changed = QoSRequest.parse({**request.to_json(), **repair["changes"]})
            assert set(repair["changes"]) <= set(asked_constraints(request))
            for name in repair["changes"]:
                assert not best(search, replace(changed, **{name: getattr(request, name)})), name
                if isinstance(repair["changes"][name], float):
                    tighter = replace(changed, **{name: 0.989 * getattr(changed, name)})
                    assert not best(search, tighter), f"{name} could be 1 % smaller"


@settings(max_examples=60)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_the_first_repair_is_the_cheapest_and_there_is_one_whenever_anything_is_possible(
    seed: int, rules: MakespanRules
) -> None:
    for model, request in infeasible_cases(seed, rules):
        found = repairs_of(model, request)
        assert len(found) <= MAX_REPAIRS
        assert all(a["price"] <= b["price"] for a, b in pairwise(found))
        exact = prices(model, request)
        if exact:
            # Limits are rounded up by at most 1 % of their value, two at most in a repair.
            assert found[0]["price"] <= min(exact) * 1.01 + 0.0201
        else:
            assert bool(found) == bool(best(search_of(model), QoSRequest()))


@settings(max_examples=25)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_repairs_do_not_depend_on_how_configurations_are_searched(seed: int, rules: MakespanRules) -> None:
    for model, request in infeasible_cases(seed, rules)[:3]:
        large = ConfidentSearch(model, BranchAndBound(model))
        assert find_repairs(large, request) == find_repairs(search_of(model), request)


def test_a_deadline_is_rounded_up_so_that_it_is_met() -> None:
    (repair,) = repairs_of(two_stages(1, 2), QoSRequest(deadline_s=0.1))
    assert repair["changes"] == {"deadline_s": 3.5}
    assert repair["words"] == "a deadline of 3.5 s"
    assert repair["configuration"] == {"nodes": 2, "tiers": {"split": "ram", "merge": "ram"}}


@given(st.floats(1e-6, 1e12), st.floats(0.1, 1.0))
def test_a_limit_is_never_below_what_is_needed_and_at_most_one_percent_above(
    needed: float, share: float
) -> None:
    change = limit(QoSRequest(deadline_s=needed * share), "deadline_s", needed)
    assert needed <= change.value <= needed * 1.0101
    assert len(f"{change.value:.15g}".replace(".", "").rstrip("0").lstrip("0")) <= 3 or "e" in str(
        change.value
    )


def words_of(model: Model, request: QoSRequest) -> list[str]:
    return [repair["words"] for repair in repairs_of(model, request)]


def test_tiers_stages_and_nodes_are_offered_one_by_one_and_together_where_one_is_not_enough() -> None:
    one_node = two_stages(1, 2, 4)
    # On one node: 16 s on disk, 13 s with one stage on ram, 6 s on ram alone.
    assert words_of(one_node, QoSRequest(deadline_s=6.0, max_nodes=1, exclude=("ram",))) == [
        "ram no longer excluded",
        "a deadline of 8 s and up to 2 nodes",
        "a deadline of 16 s",
        "up to 4 nodes",
    ]
    assert words_of(one_node, QoSRequest(deadline_s=6.0, max_nodes=1, allow=("disk",)))[0] == "ram allowed"
    pinned = {"split": "disk", "merge": "disk"}
    assert "split and merge no longer pinned" in words_of(
        one_node, QoSRequest(deadline_s=5.0, max_nodes=1, pin=pinned)
    )


def test_where_everything_stands_in_the_way_one_repair_of_all_is_found() -> None:
    model = two_stages(2)
    request = QoSRequest(
        deadline_s=0.1, max_nodes=1, allow=("disk",), exclude=("disk",), pin={"split": "ram"}
    )
    (repair,) = repairs_of(model, request)
    # `split` may stay pinned, and `disk` excluded.
    assert repair["changes"] == {"deadline_s": 3.5, "max_nodes": 2, "allow": ["disk", "ram"]}
    assert repair["words"] == "a deadline of 3.5 s and up to 2 nodes and ram allowed"
