"""What stands in the way, where, and what would have to be measured; requests that contradict themselves."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import explain
from qosflow_airflow.core.explain import measurement_in_words
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.obstacles import missing_measurements
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.search import best, search_of
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge
from qosflow_airflow.exceptions import RequestError, TierError, WorkflowError
from tests.support.models import random_model
from tests.support.small_model import small_catalog, small_workflow, stage_times

seeds = st.integers(0, 2**32)


def measured(model: Model, missing: list[dict[str, Any]]) -> Model:
    """The model once the missing things are measured: 1 s each."""
    scales = []
    for scale in model.scales:
        times, makespans = scale.times, model.makespans(scale.nodes)
        tables = {
            name: replace(
                getattr(times, name),
                seconds=getattr(times, name).seconds.copy(),
                provenance=getattr(times, name).provenance.copy(),
            )
            for name in ("read", "write", "stage_in", "stage_out")
        }
        tiers, stages = model.catalog.index, model.workflow.index
        for found in (found for found in missing if found["nodes"] == scale.nodes):
            cells: list[tuple[str, tuple[int, ...]]]
            if found["part"] == "copy":
                edge = Edge(found["producer"], found["consumer"])
                legs = makespans.charged_legs(edge, tiers[found["from"]], tiers[found["to"]])
                cells = [(f"stage_{leg}", (times.edges.index(edge), *copy)) for leg, copy in legs]
            else:
                cells = [(found["part"], (stages[found["stage"]], tiers[found["tier"]]))]
            for name, at in cells:
                tables[name].put(at, 1.0, Provenance.MEASURED)
        scales.append(replace(scale, times=replace(times, **tables)))
    return replace(model, scales=tuple(scales))


@settings(max_examples=80)
@given(seeds)
def test_what_is_missing_is_enough_to_measure(seed: int) -> None:
    rng = random.Random(seed)
    model = random_model(rng, COMPLETE, unknown=rng.choice((0.1, 0.3, 0.6)))
    names, stages = model.catalog.names, model.workflow.stage_names
    request = QoSRequest(
        max_nodes=rng.choice((None, 4, 8)),
        exclude=tuple(rng.sample(names, rng.randint(0, len(names) - 1))),
        pin={stage: rng.choice(names) for stage in rng.sample(stages, rng.randint(0, 1))},
    )
    free = replace(request, exclude=tuple(t for t in request.exclude if t not in request.pin.values()))
    # Pinned stages go where they are pinned; the others where nothing is excluded.
    missing = missing_measurements(model, free)
    if missing:
        if free.max_nodes is None or free.max_nodes >= model.nodes[0]:
            assert best(search_of(measured(model, missing)), free)
    else:
        assert best(search_of(model), free) or (free.max_nodes or 99) < model.nodes[0]


def test_nothing_is_missing_where_missing_counts_as_nothing() -> None:
    model = random_model(random.Random(5), REFERENCE, unknown=0.9)
    assert missing_measurements(model, QoSRequest()) == []


def small(times: StageTimes | None = None, catalog: TierCatalog | None = None) -> Model:
    workflow, catalog = small_workflow(), catalog or small_catalog({"disk": "/disk", "ram": "/ram"})
    return Model(workflow, catalog, COMPLETE, (ScaleModel(1, times or stage_times(workflow, catalog, 1)),))


def unmeasured(*parts: tuple[str, Any]) -> Model:
    """The small model on one node with some cells that are not known."""
    model = small()
    times = model.scales[0].times
    for name, at in parts:
        getattr(times, name).seconds[at] = np.nan
        getattr(times, name).provenance[at] = Provenance.UNKNOWN
    return small(times)


def test_where_nothing_is_measured_it_is_said_what_to_measure() -> None:
    answer = recommend(unmeasured(("read", (0, slice(None))), ("write", (1, 0))), QoSRequest())
    assert isinstance(answer, Infeasible)
    assert answer.answer["repairs"] == []
    assert len(answer.answer["missing"]) == 1
    assert answer.answer["missing"][0]["part"] == "read"
    assert answer.answer["missing"][0]["stage"] == "split"
    assert "Measure those missing: reading by split on " in answer.answer["explanation"]


def test_a_pin_to_a_tier_that_was_never_measured_can_be_measured_or_left_out() -> None:
    answer = recommend(unmeasured(("write", (0, 1))), QoSRequest(pin={"split": "ram"})).answer
    assert answer["missing"] == [{"nodes": 1, "part": "write", "stage": "split", "tier": "ram"}]
    assert [repair["words"] for repair in answer["repairs"]] == ["split no longer pinned"]
    assert answer["explanation"].endswith(
        "What was asked for cannot be judged before it is measured: writing by split on ram at 1 node."
    )
    copies = recommend(
        unmeasured(("stage_out", (1, 1, 0))), QoSRequest(pin={"split": "ram", "merge": "disk"})
    )
    assert copies.answer["missing"][0]["part"] == "copy"


def test_copies_to_measure_in_words() -> None:
    copy = {"nodes": 2, "part": "copy", "from": "disk", "to": "ram"}
    assert measurement_in_words({**copy, "producer": INITIAL_DATA, "consumer": "split"}) == (
        "copying the initial data for split from disk to ram at 2 nodes"
    )
    assert measurement_in_words({**copy, "producer": "merge", "consumer": FINAL_DATA}) == (
        "copying what merge writes from disk to ram at 2 nodes"
    )
    many = {"nodes": 1, "part": "read", "stage": "split", "tier": "ram"}
    assert explain._to_measure({"missing": [many] * 5}).endswith(" and 2 more")


def test_stages_are_named_with_the_constraints_that_bind_there() -> None:
    late = recommend(small(), QoSRequest(deadline_s=0.1)).answer
    assert late["binding_stages"] == {"split": ["deadline_s"], "merge": ["deadline_s"]}
    pinned = recommend(small(), QoSRequest(deadline_s=6.0, pin={"split": "disk"})).answer
    assert set(pinned["binding_stages"]["split"]) <= {"deadline_s", "pin"}
    excluded = recommend(small(), QoSRequest(deadline_s=6.0, exclude=("ram",))).answer
    assert all("exclude" in names for names in excluded["binding_stages"].values())


@pytest.mark.parametrize(
    ("request_", "binding", "words"),
    [
        (QoSRequest(pin={"split": "ram"}, exclude=("ram",)), {"exclude", "pin"}, "split no longer pinned"),
        (QoSRequest(pin={"split": "ram"}, allow=("disk",)), {"allow", "pin"}, "ram allowed"),
        (QoSRequest(allow=("disk",), exclude=("disk",)), {"allow", "exclude"}, "disk no longer excluded"),
        (QoSRequest(exclude=("disk", "ram")), {"exclude"}, "ram no longer excluded"),
        (QoSRequest(deadline_s=1e-6), {"deadline_s"}, "a deadline of 5 s"),
        (QoSRequest(max_node_hours=1e-9), {"max_node_hours"}, "up to 0.00139 node-hours"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_the_reason_and_a_way_out(
    request_: QoSRequest, binding: set[str], words: str
) -> None:
    model = small()
    answer = recommend(model, request_)
    assert isinstance(answer, Infeasible)
    assert set(answer.binding) == binding
    repairs = {repair["words"]: repair["changes"] for repair in answer.answer["repairs"]}
    assert words in repairs
    again = QoSRequest.parse({**request_.to_json(), **repairs[words]})
    assert isinstance(recommend(model, again), Recommendation)


def priced(node: float | None, storage: float | None = None) -> TierCatalog:
    tiers = (
        StorageTier("disk", True, "/disk", price_per_gib_hour=storage),
        StorageTier("ram", False, "/ram"),
    )
    return TierCatalog(tiers, "disk", NodePool(price_per_hour=node))


@pytest.mark.parametrize("request_", [QoSRequest(objective="cost"), QoSRequest(max_cost=1.0)])
def test_a_cost_without_prices_is_an_error_with_its_cure(request_: QoSRequest) -> None:
    with pytest.raises(RequestError, match=r"price of a node-hour is not known\. Set `node: price_per_hour`"):
        recommend(small(catalog=priced(None)), request_)
    with pytest.raises(RequestError, match=r"'disk' has a price per GiB-hour.* Trace all stages"):
        recommend(small(catalog=priced(1.0, 0.5)), request_)
    assert isinstance(recommend(small(catalog=priced(1.0)), request_), Recommendation)


def test_a_cost_that_is_too_low_is_repaired_by_the_lowest_that_there_is() -> None:
    answer = recommend(small(catalog=priced(3600.0)), QoSRequest(max_cost=1e-6))
    assert [repair["changes"] for repair in answer.answer["repairs"]] == [{"max_cost": 5.0}]


def test_unknown_names_are_errors_that_name_the_known_ones() -> None:
    with pytest.raises(TierError, match=r"unknown tier 'nvme'\. Use one of disk, ram"):
        recommend(small(), QoSRequest(exclude=("nvme",)))
    with pytest.raises(WorkflowError, match=r"no stage 'sort'\. Use one of split, merge"):
        recommend(small(), QoSRequest(pin={"sort": "disk"}))


def with_sizes(model: Model, ram_gib: float, disk_gib: float | None = None) -> Model:
    """The small model with 3 GiB on every edge and from every stage, at 1 and 3 nodes."""
    gib = 1 << 30
    ram = replace(model.catalog.tiers[1], capacity_bytes=int(ram_gib * gib))
    disk = replace(model.catalog.tiers[0], capacity_bytes=None if disk_gib is None else int(disk_gib * gib))
    catalog = replace(model.catalog, tiers=(disk, ram))
    scales = []
    for nodes in (1, 3):
        times = stage_times(model.workflow, catalog, nodes)
        edge_bytes, output_bytes = np.full(len(times.edges), 3.0 * gib), np.full(2, 3.0 * gib)
        sized = replace(times, edge_bytes=edge_bytes, output_bytes=output_bytes)
        scales.append(ScaleModel(nodes, sized))
    return Model(model.workflow, catalog, COMPLETE, tuple(scales))


def test_more_nodes_are_offered_where_a_local_tier_is_too_small() -> None:
    request = QoSRequest(max_nodes=1, pin={"split": "ram"})
    answer = recommend(with_sizes(small(), ram_gib=4.0), request)
    assert isinstance(answer, Infeasible)
    words = [repair["words"] for repair in answer.answer["repairs"]]
    assert words == ["split no longer pinned", "up to 3 nodes"]
    assert answer.answer["missing"] == []


def test_where_nothing_fits_anywhere_the_missing_capacity_is_said() -> None:
    answer = recommend(with_sizes(small(), ram_gib=0.1, disk_gib=0.1), QoSRequest(deadline_s=100.0))
    assert isinstance(answer, Infeasible)
    assert answer.answer["repairs"] == []
    assert answer.answer["missing"] == []
    assert "GiB of 0.1" in answer.answer["explanation"]
    assert answer.answer["explanation"].endswith("Use larger tiers or more nodes.")
