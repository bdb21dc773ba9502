"""Numbers of tasks that are chosen together with tiers and nodes, and answers in these numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.chunk_times import ChunkTimes
from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Recommendation
from qosflow_airflow.core.tiers import NodePool, TierCatalog
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import RequestError, WorkflowError
from qosflow_airflow.learn.amdahl import AmdahlLaw, StageTiming
from qosflow_airflow.learn.chunk_choice import Objective
from qosflow_airflow.learn.division import Division, recommend_divided
from qosflow_airflow.learn.lessons import Lesson, recommend_with
from qosflow_airflow.learn.parallelism import StageParallelism
from qosflow_airflow.learn.parallelism_fit import fit_parallelism
from qosflow_airflow.learn.run_errors import RunError, RunErrors
from tests.support.small_model import small_catalog, small_workflow, stage_times

WORKFLOW = small_workflow()
PLAIN = small_catalog({"disk": "/disk", "ram": "/ram"})
CATALOG = TierCatalog(PLAIN.tiers, PLAIN.home, NodePool(slots=4))
# In 1 to 8 tasks `split` reads slower on disk the more there are, and faster in memory.
FACTORS = {"disk": [0.5, 0.75, 1.5, 3.0], "ram": [3.0, 1.5, 0.75, 0.75]}


def times(nodes: int, compute_s: float = 12.0, chunks: bool = True) -> StageTimes:
    found = stage_times(WORKFLOW, CATALOG, nodes)
    found.compute.seconds[0] = compute_s / nodes
    for table in (found.read, found.write, found.compute, found.stage_in, found.stage_out):
        table.log_sd[...] = 0.1
    read = np.ones((2, 2, 4))
    read[0] = [FACTORS["disk"], FACTORS["ram"]]
    known = ChunkTimes((1, 2, 4, 8), read, np.ones((2, 2, 4)))
    return replace(found, chunks=known if chunks else None)


def model(catalog: TierCatalog = CATALOG, chunks: bool = True, compute_s: float = 12.0) -> Model:
    scales = tuple(ScaleModel(nodes, times(nodes, compute_s, chunks)) for nodes in (1, 2))
    return Model(WORKFLOW, catalog, COMPLETE, scales)


def fitted() -> StageParallelism:
    law = AmdahlLaw(single_s=60.0, parallel=0.95)
    runs = [
        StageTiming(count, float(law.seconds(np.array([float(count)]))[0]) + 2.0, startup_s=2.0)
        for count in (3, 8)
        for _ in range(4)
    ]
    found = fit_parallelism(runs)
    assert found is not None
    return found


def asked(division: Division, request: QoSRequest | None = None, of: Model | None = None) -> Recommendation:
    found = recommend_divided(of or model(), request or QoSRequest(), Lesson(), division)
    assert isinstance(found, Recommendation)
    return found


def test_before_any_run_the_io_model_chooses_and_the_answer_is_that_of_the_number() -> None:
    plain = recommend_with(model(), QoSRequest(max_nodes=1), Lesson())
    found = asked(Division({"split": 8}), QoSRequest(max_nodes=1))
    chosen = found.answer["chunks"]["split"]
    # Four slots: 12 s in three tasks are 9 s in four, in one wave.
    assert (chosen["chunks"], chosen["was"], chosen["why"], chosen["by"]) == (4, 3, "cold", "model")
    assert found.configuration.tiers["split"] == "ram"
    stage = found.answer["stage_s"]["split"]
    assert stage["compute_s"] == pytest.approx(9.0)
    assert stage["read_s"] == pytest.approx(0.75)
    assert found.makespan_s == pytest.approx(plain.answer["makespan_s"] - 3.25)
    assert "split in 4 instead of 3" in found.answer["explanation"]
    assert found.answer["state"] == "extrapolated"


@given(limit=st.integers(1, 32), objective=st.sampled_from(["time", "node_hours", "knee", "published"]))
def test_never_above_the_limit_and_never_worse_than_the_own_number(limit: int, objective: Objective) -> None:
    division = Division({"split": limit}, objective)
    for tier in CATALOG.names:
        for nodes in (1, 2):
            chosen = division.choose(model(), ("split", tier, nodes))
            assert chosen.chunks == 3 or chosen.chunks <= limit
            assert chosen.seconds is not None
            assert chosen.own_s is not None
            if objective == "time":
                assert chosen.seconds <= chosen.own_s


def test_of_numbers_as_good_as_its_own_a_stage_keeps_its_own() -> None:
    """Without computing, and read at one rate."""
    flat = model(compute_s=0.0)
    for scale in flat.scales:
        assert scale.times.chunks is not None
        scale.times.chunks.read[...] = 1.0
    assert Division({"split": 8}).choose(flat, ("split", "disk", 1)).chunks == 3


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (model(PLAIN), "slots"),
        (model(chunks=False), "without rates for other numbers"),
    ],
)
def test_what_the_io_model_cannot_tell_stays_and_is_said(of: Model, said: str) -> None:
    found = asked(Division({"split": 8}), of=of)
    chosen = found.answer["chunks"]["split"]
    assert (chosen["chunks"], chosen["by"]) == (3, None)
    assert said in chosen["words"]
    assert found.answer["makespan_s"] == recommend_with(of, QoSRequest(), Lesson()).answer["makespan_s"]


def test_tiers_and_tasks_fit_together() -> None:
    """In its own number of tasks a stage is best on disk; in many it would be in memory."""
    found = model(compute_s=0.0)
    for scale in found.scales:
        assert scale.times.chunks is not None
        scale.times.chunks.read[0] = [[1.0, 1.0, 1.0, 1.0], [3.0, 1.5, 0.1, 0.1]]
        scale.times.read.seconds[...], scale.times.write.seconds[...] = 2.0, 1.0
    one = QoSRequest(max_nodes=1)
    assert recommend_with(found, one, Lesson()).answer["configuration"]["tiers"]["split"] == "disk"
    few = asked(Division({"split": 2}), one, of=found)
    assert few.configuration.tiers["split"] == "disk"
    many = asked(Division({"split": 8}), one, of=found)
    assert many.configuration.tiers["split"] == "ram"
    assert many.answer["chunks"]["split"]["chunks"] == 4


def test_more_nodes_pay_with_more_tasks() -> None:
    """A stage of one task takes as long on two nodes as on one, until it may be divided."""
    single = WORKFLOW.with_tasks({"split": 1})
    one, two = times(1), replace(times(1), nodes=2)
    found = Model(single, CATALOG, COMPLETE, (ScaleModel(1, one), ScaleModel(2, two)))
    assert recommend_with(found, QoSRequest(), Lesson()).answer["configuration"]["nodes"] == 1
    answer = asked(Division({"split": 8}), of=found).answer
    assert answer["configuration"]["nodes"] == 2
    assert answer["chunks"]["split"]["chunks"] == 8


def test_a_deadline_that_only_the_chosen_number_keeps_is_kept() -> None:
    plain = recommend_with(model(), QoSRequest(), Lesson())
    deadline_s = plain.answer["makespan_s"] - 0.5
    request = QoSRequest(deadline_s=deadline_s)
    assert not isinstance(recommend_with(model(), request, Lesson()), Recommendation)
    found = asked(Division({"split": 8}, no_slower=True), request)
    assert found.makespan_s <= deadline_s
    assert found.answer["slack"]["deadline_s"] == pytest.approx(deadline_s - found.makespan_s)


def test_what_runs_tell_is_foretold_where_they_ran_and_counts_elsewhere_too() -> None:
    division = Division({"split": 8}, fits={("split", "ram", 2): fitted()})
    found = asked(division)
    chosen = found.answer["chunks"]["split"]
    # 60 s in one task, 95 % of it divided: the model's few seconds are wrong on all tiers alike.
    assert found.configuration.nodes == 2
    assert found.configuration.tiers["split"] == "ram"
    assert (chosen["chunks"], chosen["by"]) == (8, "runs")
    stage = found.answer["stage_s"]["split"]
    took_s = stage["read_s"] + stage["compute_s"] + stage["write_s"]
    assert took_s == pytest.approx(60 * (0.05 + 0.95 / 8), rel=0.1)
    assert took_s == pytest.approx(chosen["seconds"] - 2.0)
    assert found.answer["swap_s"]["split"]["disk"] > 0


def test_a_number_that_never_ran_is_less_sure_than_one_that_did() -> None:
    """Past runs narrow no interval of a number that was not among theirs."""
    errors = RunErrors(
        own=tuple(RunError(1, 0.01 * at, 0.0) for at in range(-6, 6)),
        tried={1: frozenset((stage, tier) for stage in ("split", "merge") for tier in CATALOG.names)},
    )
    lesson, one = Lesson(errors=errors), QoSRequest(max_nodes=1)
    own = recommend_with(model(), one, lesson).answer["interval"]
    assert own["source"] == "past_runs"
    cold = recommend_divided(model(), one, lesson, Division({"split": 8})).answer
    assert cold["chunks"]["split"]["chunks"] != 3
    assert cold["interval"]["source"] == "both"
    assert cold["interval"]["p95_s"] / cold["interval"]["p50_s"] > own["p95_s"] / own["p50_s"]
    ran = Division({"split": 8}, fits={("split", "ram", 1): fitted()})
    assert recommend_divided(model(), one, lesson, ran).answer["interval"]["source"] == "past_runs"


def test_a_stage_that_shares_processors_is_foretold_as_its_runs_had_it() -> None:
    """What a run took holds what its stages waited for each other: that must not count twice."""
    beside = Workflow("beside", (WORKFLOW.stages[0], replace(WORKFLOW.stages[0], name="other")))
    alone = stage_times(beside, CATALOG, 1)
    alone.read.seconds[...] = alone.write.seconds[...] = 0.0
    alone.compute.seconds[...] = 10.0
    none, ends = np.zeros((2, 2)), np.zeros((len(alone.edges), 2, 2))
    factors = np.ones((2, 2, 1))
    demand = Demand(none, none, np.ones(2), ends, ends)
    shared = replace(alone, chunks=ChunkTimes((1,), factors, factors), demand=demand)
    of = Model(beside, CATALOG, COMPLETE, (ScaleModel(1, shared),))
    found = asked(
        Division({"split": 8}, fits={("split", "disk", 1): fitted()}),
        QoSRequest(pin={"split": "disk", "other": "disk"}),
        of,
    )
    chosen, stage = found.answer["chunks"]["split"], found.answer["stage_s"]["split"]
    assert stage["compute_s"] == pytest.approx(chosen["seconds"] - 2.0, rel=0.25)
    assert found.answer["stage_s"]["other"]["compute_s"] > 10.0


@pytest.mark.parametrize("fits", [{}, {("split", "ram", 2): fitted()}, {("split", "disk", 1): fitted()}])
def test_the_same_answer_from_what_was_kept(fits: dict[tuple[str, str, int], StageParallelism]) -> None:
    division = Division({"split": 8}, "published", fits=fits, startup_s=0.5)
    kept = json.loads(json.dumps(asked(division).answer, allow_nan=False))
    again = asked(Division.from_json(kept["division"])).answer
    assert json.dumps(again) == json.dumps(kept)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(WorkflowError):
        recommend_divided(model(), QoSRequest(), Lesson(), Division({"absent": 2}))
    with pytest.raises(RequestError):
        Division({"split": 2}, "speed")  # type: ignore[arg-type]
