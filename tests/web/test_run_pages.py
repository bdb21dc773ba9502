from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import numpy as np
import pytest

from qosflow_airflow.answers import answer_again, answer_request
from qosflow_airflow.core.chunk_times import ChunkTimes
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import NodePool, TierCatalog
from qosflow_airflow.learn.chunk_request import ChunkRequest
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.store.finished_runs import Observation
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow, stage_times
from tests.web.conftest import Client
from tests.web.test_pages import Page

pytestmark = pytest.mark.airflow

RUN = {"dag_id": "nightly", "run_id": "manual__1+2"}


@pytest.fixture
def recommendation(store: KeptStore, mounts: dict[str, str]) -> RecommendationRecord:
    publish_model(store, small_workflow(), small_catalog(mounts))
    return ask(store)


def ask(store: KeptStore, run_id: str = RUN["run_id"], **request: Any) -> RecommendationRecord:
    asked = QoSRequest.parse({"deadline_s": 10, **request})
    return answer_request(store, "two", asked, dag_id="nightly", run_id=run_id, task_id="recommend")[0]


def told(record: RecommendationRecord, stage: str, index: int, **fields: Any) -> Observation:
    values = {"try_number": 1, "state": "success", "count": 3 if stage == "split" else 1}
    task = {"dag_id": record.dag_id, "run_id": record.run_id, "task_id": f"{stage}.run"}
    return Observation(record.recommendation_id, stage, index, **values | task | fields)


def finish(store: KeptStore, record: RecommendationRecord, *stages: str) -> None:
    """Let tasks of stages tell: those of ``split`` from 100 s to 104 s, ``merge`` from 106.5 s to 108 s."""
    spans = {"split": [(100.0, 103.0), (100.5, 104.0), (101.0, 102.0)], "merge": [(106.5, 108.0)]}
    for stage in stages or spans:
        store.add_observations(
            [
                told(record, stage, index, start_s=start_s, end_s=end_s, queue_s=1.5, host="node")
                for index, (start_s, end_s) in enumerate(spans[stage])
            ]
        )


def page_of(client: Client, address: str) -> Page:
    answer = client("viewer").get(address)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def shown(client: Client, record: RecommendationRecord) -> Page:
    return page_of(client, f"/recommendations/{record.recommendation_id}")


def replanned(store: KeptStore, first: RecommendationRecord) -> RecommendationRecord:
    task = {**RUN, "task_id": "merge.stage_in", "try_number": 1}
    return answer_again(store, first, 2, {"split": "ram"}, {"ram": "it is full (No space left)"}, **task)[0]


def numbers(page: Page, stage: str) -> list[str]:
    """Return the cells of a stage in the table of what happened."""
    table = page.text.partition("Off by")[2]
    found = re.search(rf"\b{stage}\b\s+(\w+)((?:\s+(?:-?[\d.]+ s|–|[+-]\d+ %)){{8}})", table)
    assert found, table
    return [found[1], *re.findall(r"-?[\d.]+ s|–|[+-]\d+ %", found[2])]


def test_what_happened_stands_beside_what_was_predicted(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    finish(store, recommendation)
    store.add_outcome(
        recommendation.recommendation_id,
        {"measured_s": 8.0, "met_deadline": True, "stages": {}, "run_s": 30.0, "airflow_s": 22.5},
    )
    page = shown(client, recommendation)
    # Observed seconds count from when the first task was ready, at 98.5 s.
    split = ["ram", "0.50 s", "1.00 s", "1.50 s", "1.50 s", "4.00 s", "5.50 s", "1.50 s", "+300 %"]
    assert numbers(page, "split") == split
    assert numbers(page, "merge")[4:] == ["8.00 s", "1.50 s", "9.50 s", "1.50 s", "+50 %"]
    assert "The run took 8.00 s, predicted were 3.50 s (+129 %)." in page.text
    assert "It was compared 30.00 s after the Dag run had begun. In 22.50 s of them no task" in page.text
    assert "deadline met" in page.text
    assert "split, observed, work: 1.5 s to 5.5 s" in page.text
    assert "No task waited longer than 1.50 s for Airflow to start it." in page.text


def test_a_number_of_tasks_that_was_chosen_is_shown_with_its_reason(
    client: Client, store: KeptStore, mounts: dict[str, str]
) -> None:
    """Two slots: a stage of three tasks that computes for 12 s takes 9 s in two or four."""
    workflow, plain = small_workflow(), small_catalog(mounts)
    catalog = TierCatalog(plain.tiers, plain.home, NodePool(slots=2))
    times = stage_times(workflow, catalog, 1)
    times.compute.seconds[0] = 12.0
    same = np.ones((2, 2, 2))
    times = replace(times, chunks=ChunkTimes((1, 2), same, same))
    publish_model(store, workflow, catalog, {1: times})
    record = answer_request(store, "two", QoSRequest(), chunks=ChunkRequest({"split": 4}), **RUN)[0]
    page = shown(client, record)
    assert re.search(r"\bsplit\b\s+2\s+ram\s+0.50 s\s+1.00 s\s+9.00 s\s+1.00 s", page.text)
    assert "split in 2 tasks instead of 3: least time; no finished run on ram and 1 node tells" in page.text
    assert "11.0 s by the I/O model, 14.0 s in 3." in page.text


def test_a_run_that_goes_on_shows_what_is_known_so_far(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    assert "No task has told anything of this run yet." in shown(client, recommendation).text
    finish(store, recommendation, "split")
    store.add_observations([told(recommendation, "split", 0, start_s=99.0, end_s=99.5, source="user")])
    page = shown(client, recommendation)
    assert "Tasks of 1 of 2 stages have told what they did" in page.text
    assert "split: 1 try failed, came after one that failed, or had a state set by somebody." in page.text
    assert numbers(page, "merge")[4:] == ["–", "–", "–", "–", "–"]


def test_an_outcome_alone_is_drawn_one_stage_after_the_other(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    stages = {
        stage: {"tier": "ram", "measured_s": 2.0, "measured": {"stage_in_s": 0.25, "stage_out_s": None}}
        for stage in ("merge", "split")
    }
    store.add_outcome(
        recommendation.recommendation_id, {"measured_s": 9.0, "met_deadline": False, "stages": stages}
    )
    page = shown(client, recommendation)
    assert "deadline not met" in page.text
    assert "merge, measured, work: 2.5 s to 4.5 s" in page.text
    assert "The outcome says how long stages took, and not when" in page.text


def test_what_was_asked_for_by_hand_or_in_vain_says_so(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    by_hand = answer_request(store, "two", QoSRequest())[0]
    assert "asked for on the command line. No run is known" in shown(client, by_hand).text
    finish(store, replace(by_hand, dag_id="other", run_id="r"))
    assert "Tasks of 2 of 2 stages" in shown(client, by_hand).text
    in_vain = ask(store, "second", deadline_s=0.1)
    assert "no task is known that ran on the nearest configuration" in shown(client, in_vain).text


def test_a_run_that_was_planned_again_shows_both_plans_and_leads_from_one_to_the_other(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    finish(store, recommendation, "split")
    again = replanned(store, recommendation)
    finish(store, again, "merge")
    first, second = shown(client, recommendation), shown(client, again)
    assert f"../recommendations/{again.recommendation_id}" in first.links
    assert f"../recommendations/{recommendation.recommendation_id}" in second.links
    assert "ram: it is full (No space left)" in second.text
    assert "What had begun stayed: split on ram." in second.text
    for page in (first, second):
        assert re.search(r"merge\s+ram\s+disk", page.text)
        # Each stage ran by the plan that it followed.
        assert (numbers(page, "split")[0], numbers(page, "merge")[0]) == ("ram", "disk")
        assert numbers(page, "merge")[4:7] == ["8.00 s", "1.50 s", "9.50 s"]
        assert "merge, plan 1, work" in page.text
        assert "merge, plan 2, work" in page.text
    other = shown(client, ask(store))
    assert "Plans of this run" not in other.text


def test_a_decision_of_last_month_opens_as_it_was(
    client: Client, store: KeptStore, recommendation: RecommendationRecord, mounts: dict[str, str]
) -> None:
    kept = ("status", "configuration", "makespan_s", "explanation")
    old = store.add_recommendation(
        replace(
            recommendation,
            recommendation_id=str(uuid4()),
            answer={name: recommendation.answer[name] for name in kept}
            | {"interval": {"p05_s": 3.25, "p95_s": 4.25}},
            request={"deadline_s": 10.0, "max_nodes": None},
            created_at=recommendation.created_at - timedelta(days=31),
            run_id="old",
        )
    )
    newer = publish_model(store, small_workflow(), small_catalog(mounts))
    page = shown(client, old)
    assert recommendation.answer["explanation"] in page.text
    assert "90 of 100 runs 3.25 s to 4.25 s" in " ".join(page.text.split())
    assert "version 1 of" in page.text
    assert f"../models/{newer.model_id}" in page.links
    assert "version 2" in page.text
    assert "Similar past runs" not in page.text
    assert "What had been learned" not in page.text
    assert "figure" not in page.tags
    finish(store, old)
    assert "split, observed, work: 1.5 s to 5.5 s" in shown(client, old).text


def test_what_if_opens_the_model_with_the_same_request(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    record = ask(store, deadline_s=12.5, pin="merge=disk", objective="node_hours", max_nodes=2)
    (link,) = [link for link in shown(client, record).links if link.endswith("#what-if")]
    answer = client("viewer").get(link.removeprefix("..").partition("#")[0])
    assert answer.status_code == 200
    assert 'name="deadline_s" value="12.5"' in answer.text
    assert '<option value="disk" selected>' in answer.text
    assert '<option value="node_hours" selected>' in answer.text
    assert record.answer["explanation"] in Page(answer.text).text


def test_what_was_learned_is_said_in_words(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    finish(store, recommendation)
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 9.0})
    broken = ask(store, "broken")
    store.add_observations([told(broken, "split", 0, state="failed", start_s=1.0, end_s=2.0)])
    record = ask(store, "third")
    page = shown(client, record)
    after = page.text.partition("What had been learned")[2]
    assert "Corrected by 1 run" in after
    assert re.search(r"split\s+ram\s+\d\.\d\d\s+1", after)
    assert "Drift unknown: too few runs to tell a drift" in " ".join(after.split())
    assert f"{broken.recommendation_id[:8]} : split had tasks that failed" in " ".join(after.split())
    assert f"../recommendations/{broken.recommendation_id}" in page.links


def test_a_dag_lists_its_recommendations_with_what_came_of_them(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    later = ask(store, "later run")
    store.add_outcome(
        recommendation.recommendation_id, {"predicted_s": 4.0, "measured_s": 5.0, "met_deadline": False}
    )
    store.add_outcome(later.recommendation_id, {"predicted_s": 4.0, "measured_s": 3.0, "met_deadline": True})
    page = page_of(client, "/dag?dag_id=nightly")
    assert "Deadlines: 1 met, 1 missed, 0 not known or without one." in page.text
    made = [link for link in page.links if link.startswith("recommendations/")]
    assert made == [f"recommendations/{one.recommendation_id}" for one in (later, recommendation)]
    assert re.search(r"missed\s+4\.00 s\s+5\.00 s\s+\+25 %", page.text)
    assert "run?dag_id=nightly&run_id=later+run" in page.links
    assert "has asked for a recommendation yet" in page_of(client, "/dag?dag_id=weekly").text


def test_a_run_shows_its_only_recommendation_at_once(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    address = f"/run?{urlencode(RUN)}"
    page = page_of(client, address)
    assert recommendation.answer["explanation"] in page.text
    assert f"models/{recommendation.model_id}" in page.links
    again = replanned(store, recommendation)
    page = page_of(client, address)
    made = [link for link in page.links if link.startswith("recommendations/")]
    assert made == [f"recommendations/{one.recommendation_id}" for one in (again, recommendation)]
    assert "planned again" in page.text
    empty = page_of(client, "/run?dag_id=nightly&run_id=other")
    assert "Nothing was recommended in this run." in empty.text


def test_a_task_instance_shows_its_stage_as_predicted_and_itself_as_observed(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    store.add_observations(
        [
            told(recommendation, "split", 1, start_s=90.0, end_s=91.0, state="failed"),
            told(
                recommendation,
                "split",
                1,
                try_number=2,
                start_s=95.0,
                end_s=97.0,
                read_bytes=3 << 20,
                load=0.25,
                load_source="cores",
            ),
        ]
    )
    finish(store, recommendation, "merge")
    address = f"/task-instance?{urlencode({**RUN, 'task_id': 'split.run'})}"
    page = page_of(client, f"{address}&map_index=1")
    assert re.search(
        r"0\.50 s\s+0\.50 s\s+0\.00 s\s+0\.50 s\s+0\.00 s\s+1\.00 s\s+7\.00 s\s+\+600 %", page.text
    )
    assert re.search(r"1\s+1\s+failed\s+1 of 3\s+1\.00 s", page.text)
    assert re.search(r"1\s+2\s+success\s+1 of 3\s+2\.00 s\s+–\s+3\.0 MiB\s+–\s+25% \(cores\)", page.text)
    assert "So far 0 of the stage's 3 tasks succeeded at the first try." in page.text
    assert "told nothing yet" in page_of(client, f"{address}&map_index=2").text
    # Airflow leaves its placeholder where no instance of a mapped task is meant: all of them are shown.
    assert "1 of 3" in page_of(client, f"{address}&map_index={quote('{MAP_INDEX}')}").text


def test_a_task_that_has_not_ended_is_known_by_its_name(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    for task_id, words in (
        ("merge.stage_in", "Stage merge of two, on ram"),
        ("group.split.run", "Stage split of two, on ram"),
        ("recommend", "This task made the recommendation."),
        ("clean", "no part of a recommended run"),
    ):
        page = page_of(client, f"/task-instance?{urlencode({**RUN, 'task_id': task_id})}")
        assert words in " ".join(page.text.split()), task_id
    page = page_of(client, "/task-instance?dag_id=nightly&run_id=none&task_id=merge.run")
    assert "no part of a recommended run" in page.text


@pytest.mark.parametrize("path", ["dag", "run", "task-instance"])
@pytest.mark.parametrize("name", ["", "%00", "x" * 1001])
def test_a_name_that_airflow_does_not_give_is_not_found(client: Client, path: str, name: str) -> None:
    answer = client("viewer").get(f"/{path}?dag_id={name}&run_id=r&task_id=t")
    assert answer.status_code == 404


def test_pages_ask_the_store_as_often_for_much_as_for_little(
    client: Client, store: KeptStore, recommendation: RecommendationRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    inside: list[str] = []

    def count(name: str) -> None:
        real = getattr(store, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            # A store in memory asks itself as well, which is no statement.
            asked[name] += not inside
            inside.append(name)
            try:
                return real(*arguments, **named)
            finally:
                inside.pop()

        monkeypatch.setattr(store, name, counted)

    def calls(address: str) -> Counter[str]:
        asked.clear()
        page_of(client, address)
        return +asked

    again = replanned(store, recommendation)
    finish(store, recommendation, "split")
    addresses = [
        f"/recommendations/{again.recommendation_id}",
        "/dag?dag_id=nightly",
        f"/run?{urlencode(RUN)}",
        f"/task-instance?{urlencode({**RUN, 'task_id': 'split.run'})}",
    ]
    for name in (
        *("recommendation", "recommendations", "runs", "observations", "task_observations", "outcomes"),
        *("model", "models", "newest_model", "model_part", "dags_of"),
    ):
        count(name)
    few = [calls(address) for address in addresses]
    for number in range(12):
        record = ask(store, f"run {number}")
        finish(store, record)
        store.add_outcome(record.recommendation_id, {"measured_s": 8.0})
        ask(store)
    third = answer_again(store, again, 2, {"split": "ram"}, {"ram": "full"}, **RUN, task_id="m")[0]
    assert third.answer["replans"]["recommendation_id"] == again.recommendation_id
    assert [calls(address) for address in addresses] == few
    last = ask(store, "last")
    assert len(last.answer["cases"]["similar"]) > 5
    counted = calls(f"/recommendations/{last.recommendation_id}")
    assert counted["dags_of"] == 1
    assert sum(counted.values()) <= 8, counted
