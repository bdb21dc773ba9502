from __future__ import annotations

import random
from dataclasses import replace

import pytest

from qosflow_airflow.core.comparison import STAGE_PARTS, at_scale, compare
from qosflow_airflow.core.comparison_words import difference_in_words
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import QoSFlowError, TierError
from tests.support.models import random_model
from tests.support.small_model import small_catalog, small_workflow, stage_times

CATALOG = small_catalog({"disk": "/disk", "ram": "/ram"})
WHERE = ("in version 1", "in version 2")


def model(workflow: Workflow | None = None, nodes: tuple[int, ...] = (1, 2), **reads_s: float) -> Model:
    """The small model; ``stage_tier`` gives the seconds that a stage reads on a tier."""
    workflow = workflow or small_workflow()
    scales = []
    for count in nodes:
        times = stage_times(workflow, CATALOG, count)
        for key, seconds in reads_s.items():
            stage, tier = key.split("_")
            times.read.seconds[workflow.index[stage], CATALOG.index[tier]] = seconds
        scales.append(ScaleModel(count, times))
    return Model(workflow, CATALOG, COMPLETE, tuple(scales))


def test_a_slower_tier_moves_a_stage_and_is_named_as_the_reason() -> None:
    slow = {"split_ram": 60.0}
    found = compare(model(), model(**slow), QoSRequest())
    split, merge = found.stages
    assert (split.state, split.cause) == ("changed", "read")
    assert split.left is not None
    assert split.right is not None
    assert (split.left.tier, split.right.tier) == ("ram", "disk")
    # Reading takes 0.5 s on ram and 2 s on disk; on the right 60 s on ram.
    assert split.left.parts_s["read"] == 0.5
    assert split.left.other_s is not None
    assert split.left.other_s["read"] == 2.0
    assert split.right.other_s is not None
    assert split.right.other_s["read"] == 60.0
    assert split.gain_s is not None
    assert split.gain_s["read"] == pytest.approx((2.0 - 0.5) + (60.0 - 2.0))
    assert (merge.state, merge.cause, merge.gain_s) == ("same", None, None)


def test_the_reason_is_said_in_words() -> None:
    found = compare(model(), model(split_ram=60.0), QoSRequest())
    assert difference_in_words(found.stages[0], found, *WHERE) == (
        "split moves from ram to disk, mostly because of reading: that takes 1.5 s more on disk than on ram "
        "in version 1, and 58 s less in version 2."
    )
    assert difference_in_words(found.stages[1], found, *WHERE) == ""


def test_a_choice_that_hardly_matters_is_said_to() -> None:
    # On 1 node split takes 7.5 s on ram, copy included, and 4 s and its reads on disk.
    left, right = (model(nodes=(1,), split_ram=6.0, split_disk=reads_s) for reads_s in (3.2, 2.8))
    found = compare(left, right, QoSRequest())
    assert (found.left.makespan_s, found.right.makespan_s) == pytest.approx((10.0, 9.8))
    assert difference_in_words(found.stages[0], found, *WHERE) == (
        "split moves from ram to disk, but either will do: the makespan changes by at most 5%."
    )


def test_each_side_s_best_is_its_own_answer_and_costs_the_other_at_least_its_best() -> None:
    rng = random.Random(7)
    compared = 0
    for _ in range(60):
        left = random_model(rng, COMPLETE, stages=4)
        scaled = replace(left, scales=tuple(rng.sample(left.scales, 1)))
        found = compare(left, scaled, QoSRequest())
        for side, model_ in ((found.left, left), (found.right, scaled)):
            answer = recommend(model_, QoSRequest()).answer
            assert side.makespan_s == answer.get("makespan_s")
            assert side.nodes == (answer.get("configuration") or {}).get("nodes")
            if side.makespan_s is None:
                continue
            assert sum((side.split_s or {}).values()) == pytest.approx(side.makespan_s)
            if side.other_makespan_s is not None:
                assert side.other_makespan_s >= side.makespan_s
        for stage in found.stages:
            for half, whole in ((stage.left, found.left), (stage.right, found.right)):
                if half is not None and half.swap_s is not None:
                    compared += 1
                    assert half.swap_s >= -1e-9 * (whole.makespan_s or 1)
    assert compared > 10


def test_a_side_without_an_answer_says_nothing_of_its_stages() -> None:
    found = compare(model(), model(split_ram=60.0), QoSRequest(deadline_s=4.0))
    assert found.left.makespan_s == 3.5
    assert (found.right.makespan_s, found.right.nodes, found.left.other_makespan_s) == (None, None, None)
    assert [(stage.state, stage.right) for stage in found.stages] == [("unknown", None), ("unknown", None)]
    assert all(stage.left is not None for stage in found.stages)


def test_two_node_counts_of_one_model_are_compared() -> None:
    whole = model()
    found = compare(at_scale(whole, 1), at_scale(whole, 2), QoSRequest())
    assert (found.left.nodes, found.right.nodes) == (1, 2)
    assert (found.left.makespan_s, found.right.makespan_s) == (5.0, 3.5)
    assert at_scale(whole, None) is whole
    with pytest.raises(QoSFlowError, match="no scale of 3 nodes"):
        at_scale(whole, 3)


def test_stages_of_one_side_alone_are_told_apart() -> None:
    stages = (*small_workflow().stages[:1], Stage("join", 2, 1, {"split": (r"piece\d\.txt",)}))
    found = compare(model(), model(Workflow("two", stages)), QoSRequest())
    assert [(one.stage, one.state) for one in found.stages] == [
        ("split", "same"),
        ("merge", "only_left"),
        ("join", "only_right"),
    ]
    assert (found.stages[1].right, found.stages[2].left) == (None, None)
    assert found.left.other_makespan_s is None


def test_a_tier_that_one_side_does_not_have_is_the_reason() -> None:
    workflow = Workflow("one", (Stage("only", 1, 1, {INITIAL_DATA: ()}),))
    tape = TierCatalog((StorageTier("tape", True, "/tape"),))
    old = Model(workflow, tape, COMPLETE, (ScaleModel(1, stage_times(workflow, tape, 1)),))
    found = compare(old, model(workflow, (1,)), QoSRequest())
    (only,) = found.stages
    assert (only.state, only.cause, only.gain_s) == ("changed", None, None)
    assert difference_in_words(only, found, *WHERE) == (
        "only moves from tape to ram: there is no ram in version 1."
    )
    with pytest.raises(TierError):
        compare(old, model(workflow, (1,)), QoSRequest(exclude=("disk",)))


def test_what_is_not_known_is_none_and_no_reason_is_made_of_it() -> None:
    found = compare(model(split_ram=float("nan")), model(), QoSRequest())
    split = found.stages[0]
    assert split.state == "changed"
    assert split.left is not None
    assert split.left.other_s is not None
    assert set(split.left.other_s) == set(STAGE_PARTS)
    assert split.left.other_s["read"] is None
    assert (split.left.swap_s, split.gain_s, split.cause) == (None, None, None)
    said = "split moves from disk to ram: what it takes on ram is not known in version 1."
    assert difference_in_words(split, found, *WHERE) == said
