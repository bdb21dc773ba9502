"""The card equals what the whole model says once the times are really changed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import sensitivity as module
from qosflow_airflow.core.branch_and_bound import BranchAndBound
from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import best, search_of
from qosflow_airflow.core.sensitivity import SLOWER, sensitivity, slower
from qosflow_airflow.core.transfer import StageTimes
from tests.support.models import random_model
from tests.support.small_model import small_catalog, small_workflow, stage_times

seeds = st.integers(0, 2**32)


def times_with_slower(times: StageTimes, tier: int, share: float) -> StageTimes:
    """The times themselves with a slower tier, cell by cell."""
    tables = {}
    for name in ("read", "write", "stage_in", "stage_out"):
        seconds = getattr(times, name).seconds.copy()
        if name in ("read", "write"):
            seconds[:, tier] *= 1 + share
        else:
            for a, b in np.ndindex(seconds.shape[1:]):
                if tier in (a, b):
                    seconds[:, a, b] *= 1 + share
        tables[name] = replace(getattr(times, name), seconds=seconds)
    return replace(times, **tables)


def model_with_slower(model: Model, tier: int) -> Model:
    scales = [replace(s, times=times_with_slower(s.times, tier, SLOWER)) for s in model.scales]
    return replace(model, scales=tuple(scales))


def random_request(rng: random.Random, model: Model) -> QoSRequest:
    found = best(search_of(model), QoSRequest())
    deadline_s = found[0].makespan_s * rng.uniform(1.0, 1.2) if found and found[0].makespan_s else None
    return QoSRequest(
        deadline_s=rng.choice((None, deadline_s)),
        max_nodes=rng.choice((None, 5)),
        objective=rng.choice(("makespan", "node_hours", "cost", "balanced")),
    )


def cases(seed: int, rules: MakespanRules) -> Iterator[tuple[Model, QoSRequest, list[Candidate]]]:
    rng = random.Random(seed)
    # What waits for slower work may end sooner; then it is not sure what overtakes what.
    model = random_model(rng, rules, unknown=rng.choice((0.0, 0.1)), shares=False)
    for _ in range(3):
        request = random_request(rng, model)
        if found := best(search_of(model), request, 10_000):
            yield model, request, found


@settings(max_examples=40)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_a_slower_tier_costs_what_it_costs_when_every_time_is_changed(
    seed: int, rules: MakespanRules
) -> None:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=0.1)
    layouts = model.space.layouts()
    for tier in range(len(model.catalog.names)):
        changed = model_with_slower(model, tier)
        for nodes in model.nodes:
            found = slower(model.makespans(nodes), tier).makespan_s(layouts)
            np.testing.assert_allclose(found, changed.makespans(nodes).makespan_s(layouts), rtol=1e-12)


@settings(max_examples=60)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_whether_the_answer_stays_is_what_the_changed_model_answers(seed: int, rules: MakespanRules) -> None:
    for model, request, found in cases(seed, rules):
        chosen = found[0]
        card = sensitivity(model, request, iter(found))
        assert json.loads(json.dumps(card, allow_nan=False)) == card
        for tier, name in enumerate(model.catalog.names):
            then = card["tiers"][name]
            layouts = np.array([chosen.layout], dtype=np.int8)
            changed = model_with_slower(model, tier)
            expected_s = changed.makespans(chosen.nodes).makespan_s(layouts)[0]
            assert then["makespan_s"] == pytest.approx(expected_s, rel=1e-12)
            assert then["change_s"] == pytest.approx(expected_s - chosen.makespan_s, abs=1e-9)
            assert 0 <= then["share"] <= SLOWER + 1e-12
            again = best(search_of(changed), request, 2)
            if then["same_answer"] is None:
                assert len(found) > module.MAX_RIVALS
            elif not _is_a_tie(again):
                is_same = bool(again) and (again[0].nodes, again[0].layout) == (chosen.nodes, chosen.layout)
                assert then["same_answer"] == is_same


def _is_a_tie(found: list[Candidate]) -> bool:
    """Whether rounding decides between the two best."""
    return len(found) > 1 and found[0].objective == pytest.approx(found[1].objective, rel=1e-12)


@settings(max_examples=30)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_other_node_counts_are_the_same_layout_evaluated_there(seed: int, rules: MakespanRules) -> None:
    for model, request, found in cases(seed, rules):
        chosen = found[0]
        card = sensitivity(model, request, iter(found))["nodes"]
        assert set(card) == {str(nodes) for nodes in model.nodes} - {str(chosen.nodes)}
        for nodes, other in card.items():
            layouts = np.array([chosen.layout], dtype=np.int8)
            expected_s = model.makespans(int(nodes)).makespan_s(layouts)[0]
            if other is None:
                assert np.isnan(expected_s)
            else:
                assert other["makespan_s"] == expected_s
                assert other["change_s"] == expected_s - chosen.makespan_s


def test_too_many_rivals_leave_it_open_whether_the_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(random.Random(2), COMPLETE, unknown=0.0)
    found = best(search_of(model), QoSRequest(), 100)
    changes = {
        tier: then
        for tier, then in sensitivity(model, QoSRequest(), iter(found))["tiers"].items()
        if then["change_s"]
    }
    assert changes
    # Copies of the answer never overtake it, but they never end either.
    endless = [found[0], *[found[0]] * 100]
    for tier, then in sensitivity(model, QoSRequest(), iter(endless))["tiers"].items():
        assert then["same_answer"] is (None if tier in changes else True)


def two_stages(*nodes: int) -> Model:
    workflow, catalog = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
    scales = tuple(ScaleModel(n, stage_times(workflow, catalog, n)) for n in nodes)
    return Model(workflow, catalog, COMPLETE, scales)


def test_the_card_in_words() -> None:
    model = two_stages(1, 2)
    request = QoSRequest(max_nodes=1)
    card = sensitivity(model, request, search_of(model).in_order(request))
    assert card["words"] == [
        "10% slower ram costs 10.0%.",
        "10% slower disk costs 2.0%.",
        "The same tiers on 2 nodes: 3.5 s, 1.5 s less.",
    ]


def test_a_deadline_that_a_slower_tier_breaks_changes_the_answer() -> None:
    model = two_stages(2)
    request = QoSRequest(deadline_s=3.6)
    card = sensitivity(model, request, search_of(model).in_order(request))
    assert card["tiers"]["ram"]["same_answer"] is False
    assert "10% slower ram costs 10.0%, and changes the answer." in card["words"]


def test_a_search_that_gave_up_leaves_it_open_whether_the_answer_stays() -> None:
    model = two_stages(2)
    request = QoSRequest()
    search = BranchAndBound(model)
    chosen = next(search.in_order(request))
    search._gave_up.append((request, chosen.objective))
    card = sensitivity(model, request, iter([chosen]), search)
    assert card["tiers"]["ram"]["same_answer"] is None
    assert sensitivity(model, request, iter([chosen]))["tiers"]["ram"]["same_answer"] is True
