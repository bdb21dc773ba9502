"""The answer to a request equals the one found by looking at every configuration."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.configurations import evaluate_space
from qosflow_airflow.core.describe import TOLERANCE, describe, state_of
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import OBJECTIVES, QoSRequest
from qosflow_airflow.core.recommend import MAX_ALTERNATIVES, WITHIN, Infeasible, Recommendation, recommend
from qosflow_airflow.core.region_fit import fit_regions
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.exceptions import QoSFlowError, RequestError, TierError
from tests.support.instances import chain, platform, random_times, tiers_of
from tests.support.models import random_model

seeds = st.integers(0, 2**32)


class Found(NamedTuple):
    """A configuration in the order in which answers are preferred."""

    objective: float
    makespan_s: float
    nodes: int
    position: int
    tiers: tuple[tuple[str, str], ...]


def everything(model: Model, objective: str) -> list[Found]:
    """Every configuration with a known makespan, best first."""
    found = []
    layouts = model.space.layouts()
    for nodes in model.nodes:
        for position, makespan_s in enumerate(model.makespans(nodes).makespan_s(layouts).tolist()):
            if math.isnan(makespan_s):
                continue
            hours = nodes * makespan_s / 3600
            value = {
                "makespan": makespan_s,
                "node_hours": hours,
                "cost": 2.0 * hours,
                "balanced": makespan_s * nodes**0.5,
            }[objective]
            tiers = tuple(tiers_of(model.space, layouts[position]).items())
            found.append(Found(value, makespan_s, nodes, position, tiers))
    return sorted(found)


def meets(found: Found, request: QoSRequest, left_out: tuple[str, ...] = ()) -> bool:
    taken = [tier for _, tier in found.tiers]
    holds = {
        "deadline_s": request.deadline_s is None or found.makespan_s <= request.deadline_s,
        "max_nodes": request.max_nodes is None or found.nodes <= request.max_nodes,
        "allow": request.allow is None or set(taken) <= set(request.allow),
        "exclude": not set(taken) & set(request.exclude),
        "pin": all(dict(found.tiers)[stage] == tier for stage, tier in request.pin.items()),
    }
    return all(ok for name, ok in holds.items() if name not in left_out)


def asked(request: QoSRequest) -> tuple[str, ...]:
    given = {
        "deadline_s": request.deadline_s is not None,
        "max_nodes": request.max_nodes is not None,
        "allow": request.allow is not None,
        "exclude": bool(request.exclude),
        "pin": bool(request.pin),
    }
    return tuple(name for name, is_asked in given.items() if is_asked)


def without(request: QoSRequest, left_out: tuple[str, ...]) -> QoSRequest:
    defaults = QoSRequest()
    return replace(request, **{name: getattr(defaults, name) for name in left_out})


def random_request(rng: random.Random, model: Model) -> QoSRequest:
    """A request near what is possible, so that about half of all are not."""
    times = [found.makespan_s for found in everything(model, "makespan")] or [1.0]
    names, stages = model.catalog.names, model.workflow.stage_names
    deadline = rng.choice(times) if rng.random() < 0.5 else rng.uniform(0.5, 1.2) * times[0]
    return QoSRequest(
        deadline_s=max(deadline, 1e-9) if rng.random() < 0.6 else None,
        max_nodes=rng.randint(1, 9) if rng.random() < 0.4 else None,
        allow=tuple(rng.sample(names, rng.randint(1, len(names)))) if rng.random() < 0.4 else None,
        exclude=tuple(rng.sample(names, 1)) if rng.random() < 0.4 else (),
        pin={s: rng.choice(names) for s in rng.sample(stages, rng.randint(0, len(stages)))}
        if rng.random() < 0.4
        else {},
        objective=rng.choice(OBJECTIVES),
    )


def cases(seed: int, rules: MakespanRules) -> Iterator[tuple[Model, QoSRequest]]:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=rng.choice((0.0, 0.1)))
    yield from ((model, random_request(rng, model)) for _ in range(4))


@settings(max_examples=35)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_the_answer_is_the_best_of_all_configurations(seed: int, rules: MakespanRules) -> None:
    for model, request in cases(seed, rules):
        feasible = [found for found in everything(model, request.objective) if meets(found, request)]
        answer = recommend(model, request)
        if not feasible:
            assert isinstance(answer, Infeasible)
            continue
        assert isinstance(answer, Recommendation)
        best = feasible[0]
        assert answer.makespan_s == best.makespan_s
        assert answer.configuration.nodes == best.nodes
        assert tuple(answer.configuration.tiers.items()) == best.tiers
        listed = [
            (other["configuration"]["nodes"], tuple(other["configuration"]["tiers"].items()))
            for other in answer.answer["alternatives"]
        ]
        near = [found for found in feasible[1:] if found.objective <= best.objective * (1 + WITHIN)]
        assert listed == [(found.nodes, found.tiers) for found in near[:MAX_ALTERNATIVES]]
        assert all(slack >= 0 for slack in answer.answer["slack"].values())
        assert set(answer.answer["slack"]) == set(asked(request))


@settings(max_examples=35)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_what_binds_are_the_smallest_sets_that_make_the_request_feasible(
    seed: int, rules: MakespanRules
) -> None:
    for model, request in cases(seed, rules):
        all_of_them = everything(model, request.objective)
        answer = recommend(model, request)
        if isinstance(answer, Recommendation):
            continue
        repairs: list[tuple[str, ...]] = []
        for size in range(len(asked(request)) + 1):
            repairs = [
                left_out
                for left_out in combinations(asked(request), size)
                if any(meets(found, request, left_out) for found in all_of_them)
            ]
            if repairs:
                break
        assert set(answer.binding) == {name for left_out in repairs for name in left_out} or (
            not all_of_them and answer.binding == ("measurements",)
        )
        assert answer.answer["binding"] == list(answer.binding)
        # Each repair, asked for again, has an answer, and the nearest configuration is the best of them.
        repaired = [recommend(model, without(request, left_out)) for left_out in repairs]
        assert all(isinstance(again, Recommendation) for again in repaired)
        best = min(
            (found for left_out in repairs for found in all_of_them if meets(found, request, left_out)),
            default=None,
        )
        if best is None:
            assert answer.nearest is None
        else:
            assert answer.nearest is not None
            assert (answer.nearest.nodes, tuple(answer.nearest.tiers.items())) == (best.nodes, best.tiers)


@pytest.mark.parametrize("layouts_per_block", [1, 2, 5])
def test_the_size_of_the_blocks_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, layouts_per_block: int
) -> None:
    # Times of whole seconds tie often, also across blocks.
    rng = random.Random(6)
    models = [random_model(rng, COMPLETE, unknown=0.05) for _ in range(5)]
    for scale in (scale for model in models for scale in model.scales):
        for name in ("read", "write", "compute", "stage_in", "stage_out"):
            seconds = getattr(scale.times, name).seconds
            seconds[...] = np.ceil(seconds / 5)
    requests = [(model, random_request(rng, model)) for model in models for _ in range(4)]
    whole = [recommend(model, request).answer for model, request in requests]
    spaces = [evaluate_space(model.makespans(model.nodes[0])).makespan_s for model in models]
    monkeypatch.setattr(ConfigurationSpace.blocks, "__defaults__", (layouts_per_block,))
    assert [recommend(model, request).answer for model, request in requests] == whole
    for model, expected in zip(models, spaces, strict=True):
        np.testing.assert_array_equal(evaluate_space(model.makespans(model.nodes[0])).makespan_s, expected)


@settings(max_examples=30)
@given(seeds)
def test_answers_are_plain_json_that_explains_itself(seed: int) -> None:
    for model, request in cases(seed, COMPLETE):
        answer = recommend(model, request).answer
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert answer["status"] in ("feasible", "infeasible")
        assert answer["explanation"].endswith(".")
        assert QoSRequest.parse(answer["request"]) == request


# One stage on two tiers at two node counts, with times that tie on purpose.
STAGE = chain(("only", 4))
TWO_TIERS = platform(("pfs",), ("ssd",))


def tied(catalog: TierCatalog = TWO_TIERS, *, compute_s: tuple[float, ...] = (8.0, 4.0, 2.0)) -> Model:
    """On 1, 2 and 4 nodes: ``compute_s`` seconds, whatever the tier; I/O takes no time."""
    scales = []
    for nodes, seconds in zip((1, 2, 4), compute_s, strict=True):
        times = random_times(random.Random(0), STAGE, catalog, nodes)
        for table in (times.read, times.write, times.stage_in, times.stage_out):
            table.seconds[...], table.provenance[...] = 0.0, Provenance.MEASURED
        times.compute.seconds[...], times.compute.provenance[...] = seconds, Provenance.MEASURED
        scales.append(ScaleModel(nodes, times))
    return Model(STAGE, catalog, COMPLETE, tuple(scales))


def test_equal_node_hours_go_to_the_shorter_run() -> None:
    answer = recommend(tied(), QoSRequest(objective="node_hours"))
    assert isinstance(answer, Recommendation)
    assert (answer.configuration.nodes, answer.makespan_s) == (4, 2.0)


def test_equal_makespans_go_to_fewer_nodes_then_to_the_earlier_layout() -> None:
    answer = recommend(tied(compute_s=(5.0, 5.0, 5.0)), QoSRequest())
    assert isinstance(answer, Recommendation)
    assert answer.configuration.nodes == 1
    assert answer.configuration.tiers == {"only": "pfs"}
    assert [other["configuration"] for other in answer.answer["alternatives"]] == [
        {"nodes": 1, "tiers": {"only": "ssd"}},
        {"nodes": 2, "tiers": {"only": "pfs"}},
        {"nodes": 2, "tiers": {"only": "ssd"}},
        {"nodes": 4, "tiers": {"only": "pfs"}},
        {"nodes": 4, "tiers": {"only": "ssd"}},
    ]


def test_a_deadline_is_met_to_the_last_digit() -> None:
    assert isinstance(recommend(tied(), QoSRequest(deadline_s=2.0)), Recommendation)
    late = recommend(tied(), QoSRequest(deadline_s=math.nextafter(2.0, 0)))
    assert isinstance(late, Infeasible)
    assert late.binding == ("deadline_s",)


def test_constraints_that_bind_only_together_are_both_named() -> None:
    answer = recommend(tied(), QoSRequest(deadline_s=1.0, max_nodes=2, exclude=("ssd", "pfs")))
    assert isinstance(answer, Infeasible)
    assert answer.binding == ("deadline_s", "exclude")
    either = recommend(tied(), QoSRequest(deadline_s=3.0, max_nodes=2))
    assert isinstance(either, Infeasible)
    assert either.binding == ("deadline_s", "max_nodes")  # leaving out either one is enough
    assert either.nearest is not None
    assert either.nearest.nodes == 4


def test_what_stands_in_the_way_is_said_with_the_nearest_configuration() -> None:
    answer = recommend(tied(), QoSRequest(deadline_s=1.5)).answer
    assert answer["explanation"] == (
        "Nothing is feasible. What stands in the way: deadline_s = 1.5. "
        "Without that the best is 2.0 s, on 4 nodes, every stage on pfs. What would help: a deadline of 2 s."
    )
    assert answer["nearest"]["configuration"] == {"nodes": 4, "tiers": {"only": "pfs"}}
    assert answer["nearest"]["makespan_s"] == 2.0


def test_an_answer_in_words() -> None:
    answer = recommend(tied(), QoSRequest(deadline_s=5.0, max_nodes=2)).answer
    assert answer["explanation"] == (
        "Use 2 nodes, every stage on pfs: estimated makespan 4.0 s. That is 1.0 s before the deadline. "
        "In nine of ten runs the makespan is between 3.3 and 4.9 s, from the model's rates. "
        "Most of it is compute (100%). Flexible, any tier will do: only."
    )


def test_without_any_measured_configuration_measurements_bind() -> None:
    model = tied()
    for scale in model.scales:
        scale.times.read.seconds[...] = math.nan
        scale.times.read.provenance[...] = Provenance.UNKNOWN
    for request in (QoSRequest(), QoSRequest(deadline_s=1.0, pin={"only": "ssd"})):
        answer = recommend(model, request)
        assert isinstance(answer, Infeasible)
        assert answer.binding == ("measurements",)
        assert answer.nearest is None
        assert "Measure those missing" in answer.answer["explanation"]


def test_an_unmeasured_configuration_is_never_chosen_however_fast_its_known_parts_are() -> None:
    model = tied()
    for scale in model.scales:
        scale.times.read.seconds[:, 1] = math.nan  # ssd
        scale.times.read.provenance[:, 1] = Provenance.UNKNOWN
        scale.times.read.seconds[:, 0] = 1000.0
    answer = recommend(model, QoSRequest())
    assert isinstance(answer, Recommendation)
    assert answer.configuration.tiers == {"only": "pfs"}
    assert all(other["configuration"]["tiers"] == {"only": "pfs"} for other in answer.answer["alternatives"])
    pinned = recommend(model, QoSRequest(pin={"only": "ssd"}))
    assert isinstance(pinned, Infeasible)
    assert pinned.binding == ("pin",)
    assert answer.answer["swap_s"]["only"] == {"ssd": None}
    assert answer.answer["flexible_stages"] == []


def test_unknown_names_and_missing_prices_are_errors_before_any_search() -> None:
    with pytest.raises(TierError, match="unknown tier 'nvme'"):
        recommend(tied(), QoSRequest(allow=("nvme",)))
    with pytest.raises(RequestError, match="the price of a node-hour is not known"):
        recommend(tied(), QoSRequest(objective="cost"))


def test_a_scale_that_the_model_lacks_is_an_error() -> None:
    with pytest.raises(QoSFlowError, match=r"the model has no scale of 3 nodes\. Use one of 1, 2, 4"):
        tied().makespans(3)


@pytest.mark.parametrize(
    ("provenance", "makespan_s", "word"),
    [
        (Provenance.MEASURED, 1.0, "measured"),
        (Provenance.EXTRAPOLATED, 1.0, "extrapolated"),
        (Provenance.NOT_OBSERVED, 1.0, "not_observed"),
        (Provenance.UNKNOWN, math.nan, "unmeasured"),
        (Provenance.UNKNOWN, 1.0, "incomplete"),
    ],
)
def test_states_in_words(provenance: Provenance, makespan_s: float, word: str) -> None:
    assert state_of(provenance, makespan_s) == word


@settings(max_examples=25)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_a_swap_is_what_the_swapped_configuration_takes_more(seed: int, rules: MakespanRules) -> None:
    rng = random.Random(seed)
    model = random_model(rng, rules, unknown=0.05)
    known = everything(model, "makespan")
    if not known:
        return
    found = rng.choice(known)
    layout = model.space.layout(dict(found.tiers))
    answer = describe(model, found.nodes, layout[0])
    by_tiers = {(other.nodes, other.tiers): other.makespan_s for other in known}
    valid = {tuple(tiers_of(model.space, row).items()) for row in model.space.layouts()}
    for stage, tier in found.tiers:
        changes = answer["swap_s"][stage]
        assert tier not in changes
        for other in model.catalog.names:
            tiers = tuple({**dict(found.tiers), stage: other}.items())
            if tiers not in valid:
                assert other not in changes
            elif other != tier:
                expected = by_tiers.get((found.nodes, tiers))
                assert (changes[other] is None) == (expected is None)
                if expected is not None:
                    assert changes[other] == pytest.approx(expected - found.makespan_s)
        matters = any(c is not None and abs(c) > TOLERANCE * found.makespan_s for c in changes.values())
        is_known = bool(changes) and None not in changes.values()
        assert (stage in answer["flexible_stages"]) == (is_known and not matters)
        if stage in answer["critical_stages"]:
            assert matters
    assert sum(answer["split_s"].values()) == pytest.approx(answer["makespan_s"])
    assert answer["node_hours"] == pytest.approx(found.nodes * found.makespan_s / 3600)


def test_the_region_of_an_answer_holds_its_configuration() -> None:
    workflow, catalog = chain(("a", 4), ("b", 2)), platform(("pfs",), ("tmpfs", "ssd"))
    times = random_times(random.Random(11), workflow, catalog, nodes=2)
    makespans = Model(workflow, catalog, COMPLETE, (ScaleModel(2, times),)).makespans(2)
    evaluated = evaluate_space(makespans)
    regions = fit_regions(makespans, evaluated.layouts, evaluated)
    model = Model(workflow, catalog, COMPLETE, (ScaleModel(2, times, regions),))
    for tiers in (tiers_of(model.space, row) for row in evaluated.layouts):
        answer = recommend(model, QoSRequest(pin=tiers))
        assert isinstance(answer, Recommendation)
        region = answer.answer["region"]
        assert region["nodes"] == 2
        assert region["min_s"] - 1e-9 <= answer.makespan_s <= region["max_s"] + 1e-9
        assert all(tier in region["stages"][stage]["tiers"] for stage, tier in tiers.items())
        assert region["rule"].endswith(".")
