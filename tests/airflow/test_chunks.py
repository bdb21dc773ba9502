"""Numbers of tasks: the workflow's own until runs tell better, and only where the Dag allows it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from qosflow_airflow.answers import answer_again, replay
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.learn.amdahl import AmdahlLaw, StageTiming
from qosflow_airflow.learn.chunk_request import parse_limits
from qosflow_airflow.operators.boundary import _workflow
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.store.base import ModelVersion
from qosflow_airflow.store.finished_runs import Observation
from tests.support.small_model import FakeTaskInstance, KeptStore

pytestmark = pytest.mark.airflow

LAW = AmdahlLaw(single_s=60.0, parallel=0.95)


def recommend(ti: FakeTaskInstance, **request: Any) -> dict[str, Any]:
    operator = QoSRecommendOperator(**{"task_id": "recommend", "workflow": "two", **request})
    context: Any = {"ti": ti, "params": {}}
    operator.render_template_fields(context)
    return operator.execute(context)


def finish(store: KeptStore, summary: dict[str, Any], stage: str = "split", **changes: Any) -> None:
    """Keep what tasks tell that took together as long as the law says, and waited two seconds each."""
    count = summary["tasks"][stage]
    took_s = float(LAW.seconds(np.array([float(count)]))[0])
    store.add_observations(
        [
            Observation(
                **{
                    "recommendation_id": summary["recommendation_id"],
                    "stage": stage,
                    "map_index": index,
                    "try_number": 1,
                    "state": "success",
                    "count": count,
                    "start_s": 1000.0,
                    "work_start_s": 1000.5,
                    "work_end_s": 1000.5 + took_s,
                    "end_s": 1001.0 + took_s,
                    "queue_s": 1.5,
                    "read_bytes": 10_000,
                    **changes,
                }
            )
            for index in range(count)
        ]
    )


def test_without_limits_nothing_changes(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    finish(store, recommend(ti))
    again = recommend(ti)
    assert again["tasks"] == {"split": 3, "merge": 1}
    assert "chunks" not in again


def test_a_cold_start_keeps_the_number_of_the_workflow_and_says_so(
    ti: FakeTaskInstance, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = recommend(ti, max_chunks={"split": 8})
    assert summary["tasks"] == {"split": 3, "merge": 1}
    assert summary["chunks"]["split"]["why"] == "cold"
    assert (
        "split in 3 tasks, as its workflow says: no finished run on ram and 2 nodes tells yet how it "
        "divides, and the I/O model cannot tell, because how many tasks run at once on a node is not known"
        in capsys.readouterr().out
    )


def test_runs_tell_how_many_tasks_are_best(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"max_chunks": "split=8", "objective": "balanced"}
    reasons = []
    for _ in range(6):
        summary = recommend(ti, **asked)
        reasons.append(summary["chunks"]["split"]["why"])
        finish(store, summary)
    assert reasons[:2] == ["cold", "probe"]
    assert reasons[-1] == "best"
    # T sqrt(s) is least at p T1 / (c + (1 - p) T1) = 57 / 5.
    assert summary["tasks"] == {"split": 8, "merge": 1}
    rows = ti.xcom["rows"]["split"]
    assert [row["index"] for row in rows] == list(range(8))
    assert {row["env"]["QOSFLOW_COUNT"] for row in rows} == {"8"}
    assert rows[7]["env"]["QOSFLOW_LABEL"].startswith("split 8/8 on")
    assert ti.xcom["rows"]["_promise"]["stages"]["split"]["tasks"] == 8
    law = summary["chunks"]["split"]["parallelism"]["law"]
    assert law["parallel"] == pytest.approx(0.95, abs=0.05)
    assert law["startup_s"] == pytest.approx(2.0)
    assert "split in 8 tasks instead of 3: least published" in capsys.readouterr().out
    assert store.recommendation(summary["recommendation_id"]).answer["chunks"] == summary["chunks"]
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("sources", "loads"), [(["host"], [0.0, 0.25]), (["host", "prometheus"], [None, None])]
)
def test_loads_reach_the_fit_where_all_are_of_one_source(
    ti: FakeTaskInstance,
    store: KeptStore,
    published: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
    sources: list[str],
    loads: list[float | None],
) -> None:
    for at in range(2):
        finish(store, recommend(ti), load=at / 4, load_source=sources[at % len(sources)])
    fitted: list[StageTiming] = []
    monkeypatch.setattr("qosflow_airflow.learn.parallelism_fit.fit_parallelism", fitted.extend)
    recommend(ti, max_chunks={"split": 8})
    assert [timing.load for timing in fitted] == loads


def test_runs_elsewhere_or_that_did_not_go_well_do_not_teach(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    finish(store, recommend(ti, pin={"split": "disk"}))
    finish(store, recommend(ti, max_nodes=1))
    finish(store, recommend(ti), try_number=2)
    finish(store, recommend(ti), source="user")
    finish(store, recommend(ti), work_end_s=900.0)
    finish(store, recommend(ti), count=4)
    assert recommend(ti, max_chunks={"split": 8})["chunks"]["split"]["why"] == "cold"
    finish(store, recommend(ti))
    assert recommend(ti, max_chunks={"split": 8})["chunks"]["split"]["parallelism"]["runs"] == 1


def test_an_outcome_tells_where_nobody_watched_the_tasks(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    measured = {"stages": {"split": {"tasks": 3, "measured_s": 22.0, "tier": "ram"}}}
    store.add_outcome(recommend(ti)["recommendation_id"], measured)
    found = recommend(ti, max_chunks={"split": 8})["chunks"]["split"]
    assert found["why"] == "probe"
    assert found["parallelism"]["seen"] == {"3": 1}


def test_with_a_deadline_no_stage_is_made_slower(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    """By node-hours alone fewer tasks would do."""
    for _ in range(6):
        finish(store, recommend(ti, max_chunks={"split": 8}))
    asked = {"max_chunks": {"split": 8}, "chunk_objective": "node_hours"}
    assert recommend(ti, **asked, deadline_s=100)["tasks"]["split"] >= 3


def test_limits_that_cannot_be_met_are_said(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, recommend(ti))
    summary = recommend(ti, max_chunks={"split": 2}, deadline_s=100)
    assert summary["chunks"]["split"]["why"] == "infeasible"
    assert summary["tasks"]["split"] == 3
    assert "no number of chunks up to 2 meets deadline_s" in capsys.readouterr().out


def test_a_run_that_is_planned_again_keeps_its_numbers(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    from qosflow_airflow.answers import load_model

    finish(store, recommend(ti))
    summary = recommend(ti, max_chunks={"split": 8}, fallback=True)
    plan = ti.xcom["rows"]["_plan"]
    workflow = _workflow(plan, load_model(store, "two"))
    assert workflow.stage("split").tasks == summary["tasks"]["split"] != 3


def test_the_rest_of_a_run_is_foretold_in_the_numbers_that_were_chosen(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    finish(store, recommend(ti))
    summary = recommend(ti, max_chunks={"split": 8})
    first = store.recommendation(summary["recommendation_id"])
    assert first.answer["chunks"]["split"]["chunks"] != 3
    later, _, _ = answer_again(store, first, summary["configuration"]["nodes"], {}, {"ram": "full"})
    assert later.answer["chunks"] == first.answer["chunks"]
    assert later.answer["configuration"]["tiers"]["split"] == "disk"
    # The disk is slower, and what runs tell of the stage in memory counts there as well.
    assert later.answer["stage_s"]["split"]["read_s"] > first.answer["stage_s"]["split"]["read_s"] > 5
    _, again = replay(store, later.recommendation_id)
    assert json.loads(json.dumps(again)) == later.answer


def test_what_is_foretold_is_what_the_chosen_number_takes(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    """The model knows of a few seconds; runs took twenty and more."""
    for _ in range(4):
        finish(store, recommend(ti, max_chunks={"split": 8}))
    summary = recommend(ti, max_chunks={"split": 8}, deadline_s=1000)
    count = summary["tasks"]["split"]
    assert count > 3
    took_s = float(LAW.seconds(np.array([float(count)]))[0])
    record = store.recommendation(summary["recommendation_id"])
    parts = record.answer["stage_s"]["split"]
    assert parts["read_s"] + parts["compute_s"] + parts["write_s"] == pytest.approx(took_s, rel=0.1)
    assert summary["makespan_s"] > took_s
    assert record.answer["slack"]["deadline_s"] == pytest.approx(1000 - summary["run_s"])


@pytest.mark.parametrize("finished", [0, 1, 4])
def test_a_kept_choice_is_made_again_from_what_was_kept(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, finished: int
) -> None:
    asked = {"max_chunks": {"split": 8}, "deadline_s": 100}
    for _ in range(finished):
        finish(store, recommend(ti, **asked))
    summary = recommend(ti, **asked)
    finish(store, recommend(ti, **asked))
    record, again = replay(store, summary["recommendation_id"])
    assert record.answer["chunks"]["split"]["why"] == (
        "probe" if finished == 1 else "cold" if not finished else "best"
    )
    assert json.loads(json.dumps(again)) == record.answer


@pytest.mark.parametrize(
    "asked",
    [
        {"max_chunks": {"absent": 3}},
        {"max_chunks": {"split": 0}},
        {"max_chunks": {"split": 3}, "chunk_objective": "speed"},
    ],
)
def test_what_cannot_be_asked_fails_at_once(
    ti: FakeTaskInstance, published: ModelVersion, asked: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException):
        recommend(ti, **asked)


@pytest.mark.parametrize("value", [None, "", "None", {}])
def test_no_limits(value: Any) -> None:
    assert parse_limits(value) == {}


@pytest.mark.parametrize("value", [{"a": 3, "b": 8}, '{"a": 3, "b": 8}', "a=3, b=8"])
def test_limits_in_three_forms(value: Any) -> None:
    assert parse_limits(value) == {"a": 3, "b": 8}


@pytest.mark.parametrize("value", ["a", "a=", "[1]", 3, {"a": "many"}, {"a": -1}])
def test_limits_that_are_none(value: Any) -> None:
    with pytest.raises(RequestError):
        parse_limits(value)
