from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.operators import slack
from qosflow_airflow.operators.copy import QoSStageInOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import FakeTaskInstance, KeptStore

pytestmark = pytest.mark.airflow

PROMISED: dict[str, Any] = {
    "deadline_s": 30.0,
    "makespan_s": 20.0,
    "records": "/nowhere",
    "stages": {
        "split": {"level": 1, "after": [], "tasks": 2, "seconds": 8.0},
        "sort": {"level": 1, "after": [], "tasks": 1, "seconds": 15.0},
        "merge": {"level": 2, "after": ["split"], "tasks": 1, "seconds": 5.0},
        "report": {"level": 3, "after": ["merge", "sort"], "tasks": 1, "seconds": 5.0},
    },
}
BEGAN_S = 1000.0


def record(stage: str, index: int, start_s: float, end_s: float) -> dict[str, Any]:
    return {"stage": stage, "index": index, "start_s": BEGAN_S + start_s, "end_s": BEGAN_S + end_s}


def at(stage: str, elapsed_s: float, *records: dict[str, Any]) -> dict[str, Any]:
    return slack.slack_at(PROMISED, stage, records, BEGAN_S, BEGAN_S + elapsed_s)


def test_at_the_beginning_the_run_takes_as_long_as_the_longest_way_through_it() -> None:
    found = at("split", 0.0)
    assert found["estimate_s"] == 20.0  # sort and report
    assert found["slack_s"] == 10.0
    assert found["done"] == {}


def test_what_is_done_counts_as_it_was_and_what_is_to_come_as_predicted() -> None:
    found = at("merge", 13.0, record("split", 0, 1, 9), record("split", 1, 1, 12))
    assert found["done"] == {"split": {"predicted_s": 8.0, "measured_s": 11.0}}
    # merge ends at 18, later than sort at 15, and report takes 5.
    assert found["estimate_s"] == 23.0
    assert found["remaining_s"] == 10.0
    assert found["slack_s"] == 7.0
    assert "split in 11.0 s (predicted 8.0 s)" in slack.sentence(found)
    assert "7.0 s before its deadline of 30 s" in slack.sentence(found)


def test_a_stage_that_has_records_of_some_tasks_is_not_done() -> None:
    assert at("merge", 13.0, record("split", 0, 1, 9))["done"] == {}


def test_a_stage_that_should_have_ended_and_has_not_ends_now_at_the_earliest() -> None:
    assert at("merge", 40.0)["estimate_s"] == 50.0
    late = at("merge", 24.0)
    assert late["slack_s"] == -4.0
    assert "4.0 s AFTER its deadline" in slack.sentence(late)


@given(st.floats(0, 100), st.sampled_from(sorted(PROMISED["stages"])))
def test_the_estimate_never_lies_before_what_the_stage_itself_needs(elapsed_s: float, stage: str) -> None:
    found = at(stage, elapsed_s)
    assert found["remaining_s"] >= PROMISED["stages"][stage]["seconds"] - 1e-6
    assert found["elapsed_s"] + found["remaining_s"] == pytest.approx(found["estimate_s"])


@given(st.permutations(sorted(PROMISED["stages"])))
def test_the_order_in_which_a_database_gives_the_stages_back_does_not_matter(order: list[str]) -> None:
    shuffled = {**PROMISED, "stages": {name: PROMISED["stages"][name] for name in order}}
    records = [record("split", 0, 1, 9), record("split", 1, 1, 12)]
    assert slack.slack_at(shuffled, "merge", records, BEGAN_S, BEGAN_S + 13) == at("merge", 13, *records)


def recommended(ti: FakeTaskInstance, deadline_s: float | None) -> dict[str, Any]:
    context: Any = {"ti": ti}
    operator = QoSRecommendOperator(
        task_id="recommend", workflow="two", deadline_s=deadline_s, max_nodes=1, allow="disk"
    )
    return operator.execute(context)


def test_a_recommendation_promises_what_its_answer_says(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, workflow: Workflow
) -> None:
    summary = recommended(ti, 60)
    promised = ti.xcom["rows"]["_promise"]
    assert promised["deadline_s"] == 60
    assert promised["records"] == summary["records"]
    assert set(promised["stages"]) == set(workflow.stage_names)
    found = slack.slack_at(promised, workflow.stage_names[0], [], BEGAN_S, BEGAN_S)
    assert found["estimate_s"] == pytest.approx(summary["makespan_s"])


@pytest.mark.parametrize(("began_s_ago", "level"), [(0, logging.INFO), (3600, logging.WARNING)])
def test_a_stage_says_how_the_run_stands_before_it_begins(
    began_s_ago: float,
    level: int,
    ti: FakeTaskInstance,
    store: KeptStore,
    published: ModelVersion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    summary = recommended(ti, 600)
    records = Path(summary["records"])
    records.mkdir(parents=True)
    now_s = time.time()
    for index in range(3):
        done = {"stage": "split", "index": index, "start_s": now_s - 9, "end_s": now_s - 2}
        (records / f"{index}.json").write_text(json.dumps(done))
    began = datetime.fromtimestamp(now_s - began_s_ago, UTC)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(start_date=began)}
    with caplog.at_level(logging.INFO, "qosflow_airflow.operators.slack"):
        QoSStageInOperator(task_id="in", recommend_task_id="recommend", stage="merge").execute(context)
    assert ti.xcom["slack"]["done"]["split"]["measured_s"] == pytest.approx(7)
    (said,) = [one for one in caplog.records if one.name == "qosflow_airflow.operators.slack"]
    assert said.levelno == level
    assert said.getMessage() == slack.sentence(ti.xcom["slack"])
