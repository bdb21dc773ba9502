"""A run planned again: what has begun stays, what failed is left, and what is left is the best there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.replan import model_of_the_rest
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import QoSFlowError, TierError, WorkflowError
from tests.support.small_model import stage_times

TIERS = ("disk", "fast", "third")
STAGES = ("a", "b", "c")


def three_stages() -> Model:
    """Three stages in a chain on three tiers."""
    stages = tuple(
        Stage(name, level, 1, {before: (".*",)}, (".*",))
        for level, (name, before) in enumerate(zip(STAGES, (INITIAL_DATA, "a", "b"), strict=True), 1)
    )
    workflow = Workflow("chain", stages)
    catalog = TierCatalog(tuple(StorageTier(name, name == "disk", f"/{name}") for name in TIERS), "disk")
    scales = tuple(ScaleModel(nodes, stage_times(workflow, catalog, nodes)) for nodes in (1, 2))
    return Model(workflow, catalog, COMPLETE, scales)


MODEL = three_stages()
ALL = [
    (dict(zip(STAGES, MODEL.space.configuration(1, layout).tiers.values(), strict=True)), float(seconds))
    for makespans, layouts in MODEL.blocks()
    if makespans.times.nodes == 1
    for layout, seconds in zip(layouts, makespans.makespan_s(layouts), strict=True)
]


@given(
    begun=st.dictionaries(st.sampled_from(STAGES), st.sampled_from(TIERS)),
    failed=st.sets(st.sampled_from(TIERS)),
)
def test_the_best_of_what_is_left_is_found(begun: dict[str, str], failed: set[str]) -> None:
    left = [
        seconds
        for tiers, seconds in ALL
        if all(tiers[stage] == tier for stage, tier in begun.items())
        and all(tiers[stage] not in failed for stage in STAGES if stage not in begun)
    ]
    answer = recommend(model_of_the_rest(MODEL, 1, begun, failed), QoSRequest())
    if not left:
        assert isinstance(answer, Infeasible)
        assert answer.nearest is None
        return
    assert isinstance(answer, Recommendation)
    found = answer.configuration
    assert found.nodes == 1
    assert answer.makespan_s == pytest.approx(min(left))
    assert begun.items() <= found.tiers.items()
    assert not {tier for stage, tier in found.tiers.items() if stage not in begun} & failed


def test_nothing_loosened_leads_back_to_what_failed() -> None:
    rest = model_of_the_rest(MODEL, 1, {"a": "fast"}, {"fast"})
    answer = recommend(rest, QoSRequest(pin={"b": "fast"}, deadline_s=0.1))
    assert isinstance(answer, Infeasible)
    assert answer.nearest is not None
    assert answer.nearest.tiers["a"] == "fast"
    assert "fast" not in (answer.nearest.tiers["b"], answer.nearest.tiers["c"])
    pins = [repair["changes"].get("pin") for repair in answer.answer["repairs"]]
    assert {"b": "fast"} not in pins


def test_what_is_not_of_the_model_is_refused() -> None:
    with pytest.raises(WorkflowError):
        model_of_the_rest(MODEL, 1, {"z": "disk"}, ())
    with pytest.raises(TierError):
        model_of_the_rest(MODEL, 1, {"a": "tape"}, ())
    with pytest.raises(TierError):
        model_of_the_rest(MODEL, 1, {}, {"tape"})
    with pytest.raises(QoSFlowError, match="no scale of 7 nodes"):
        model_of_the_rest(MODEL, 7, {}, ())
