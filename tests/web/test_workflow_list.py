from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.store import connections
from qosflow_airflow.store.base import RecommendationRecord, Store
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.web.api_types import RunOut
from qosflow_airflow.web.charts import draw_sparkline
from qosflow_airflow.web.workflow_list import run_ratios
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow
from tests.web.conftest import Client
from tests.web.test_pages import Page

pytestmark = pytest.mark.airflow

START = datetime(2026, 1, 1, tzinfo=UTC)


def run(predicted_s: float | None, measured_s: float | None, met: bool | None = None) -> RunOut:
    return RunOut(
        recommendation_id="one",
        created_at=START,
        deadline_s=None,
        predicted_s=predicted_s,
        measured_s=measured_s,
        met_deadline=met,
    )


def test_runs_are_told_oldest_first_and_only_those_that_were_compared() -> None:
    newest_first = [run(10, 20, False), run(10, None), run(None, 5), run(0, 5), run(10, 9, True), run(10, 10)]
    found = run_ratios(newest_first, "genome")
    assert found is not None
    assert found["ratio"] == [1.0, 0.9, 2.0]
    assert found["met"] == [None, True, False]
    assert found["title"] == "genome: measured over predicted of 3 runs, the newest last"
    assert found["description"] == "1.00, 0.90 (deadline met), 2.00 (deadline missed)."
    assert run_ratios([run(10, None)], "genome") is None


def test_the_sparkline_says_in_words_and_shapes_what_it_draws() -> None:
    data = run_ratios([run(10, 20, False), run(10, 9, True), run(10, 10)], "<genome>")
    assert data is not None
    root = ElementTree.fromstring(draw_sparkline(data))
    assert root.attrib["aria-label"].startswith("<genome>: measured over predicted of 3 runs")
    assert root.findtext("desc") == data["description"]
    assert [one.attrib["class"] for one in root.findall("circle")] == ["other", "met"]
    assert [one.attrib["class"] for one in root.findall("rect")] == ["missed"]
    heights = [float(one.attrib["cy"]) for one in root.findall("circle")]
    assert heights[0] == float(root.find("line").attrib["y1"])  # type: ignore[union-attr]
    assert heights[1] > heights[0]  # quicker than predicted: below the line
    one = run_ratios([run(10, 10)], "genome")
    assert one is not None
    assert "path" not in draw_sparkline(one)


def fill(
    store: Store, mounts: Mapping[str, str], workflows: int, runs: int, first_number: int = 0
) -> list[RecommendationRecord]:
    """Workflows that were each asked and run so many times, all by Dags of their own."""
    made = []
    for number in range(first_number, first_number + workflows):
        workflow = small_workflow()
        workflow = type(workflow)(f"w{number:02}", workflow.stages)
        publish_model(store, workflow, small_catalog(mounts))
        first = answer_request(store, workflow.name, QoSRequest(deadline_s=10), dag_id=f"dag{number}")[0]
        made.append(first)
        for at in range(1, runs):
            again = RecommendationRecord(
                first.model_id,
                first.workflow,
                first.request,
                first.answer,
                "feasible",
                dag_id=f"dag{number}",
                created_at=START + timedelta(seconds=at),
            )
            made.append(store.add_recommendation(again))
    for at, record in enumerate(made):
        store.add_outcome(record.recommendation_id, {"measured_s": 3.0 + at % 2, "met_deadline": at % 2 == 0})
    return made


def test_a_workflow_is_listed_with_its_model_its_drift_and_its_runs(
    client: Client, store: KeptStore, mounts: dict[str, str]
) -> None:
    fill(store, mounts, 1, 25)
    answer = client("viewer").get("/")
    text = " ".join(Page(answer.text).text.split())
    assert "version 1 just now unknown 13 12" in text
    assert "w00: measured over predicted of 20 runs, the newest last" in text
    assert answer.text.count('class="missed"') == 9
    (listed,) = client("viewer").get("/api/v1/workflows").json()["workflows"]
    assert listed["runs"] == {"met": 13, "missed": 12, "other": 0}
    assert len(listed["recent"]) == 20
    assert (listed["recent"][0]["predicted_s"], listed["recent"][0]["measured_s"]) == (3.5, 3.0)
    assert listed["drift"] == {"state": "unknown", "words": "too few runs to tell a drift"}


@pytest.mark.parametrize("state", ["ok", "watch", "stale"])
def test_the_drift_is_what_the_newest_model_last_answered_with(
    client: Client, store: KeptStore, mounts: dict[str, str], state: str
) -> None:
    (first,) = fill(store, mounts, 1, 1)
    drift = {"state": state, "words": "runs take 1.8 times what they took"}
    answer = {**first.answer, "calibration": {"runs": 7, "drift": drift}}
    store.add_recommendation(RecommendationRecord(first.model_id, "w00", {}, answer, "feasible"))
    text = client("viewer").get("/").text
    assert f'<span class="tag drift-{state}"' in text
    assert "7 runs" in Page(text).text
    assert ("runs take 1.8 times" in Page(text).text) == (state != "ok")


def test_runs_of_dags_that_may_not_be_read_are_neither_counted_nor_drawn(
    client: Client, store: KeptStore, mounts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    fill(store, mounts, 2, 3)
    viewer = client("viewer")
    monkeypatch.setattr(
        get_auth_manager(), "is_authorized_dag", lambda **asked: asked["details"].id == "dag1"
    )
    first, second = viewer.get("/api/v1/workflows").json()["workflows"]
    assert (first["recent"], first["runs"]) == ([], {"met": 0, "missed": 0, "other": 0})
    assert len(second["recent"]) == 3


class OpenStore(PostgresStore):
    """Stays open when a page closes it."""

    def close(self) -> None:
        pass


@pytest.fixture
def postgres(database_url: str) -> Iterator[OpenStore]:
    upgrade(database_url)
    with OpenStore(database_url) as store:
        yield store
    PostgresStore.close(store)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that are sent to Postgres."""
    names: list[str] = []
    known = connections.queries()

    class Noted(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            names.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(connections, "queries", lambda: Noted(known))
    return names


def test_no_page_sends_more_statements_for_more_rows(
    airflow_database: None, postgres: OpenStore, sent: list[str], mounts: dict[str, str]
) -> None:
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    from qosflow_airflow.web.app import create_app

    token = init_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    admin = TestClient(create_app(lambda: postgres), headers={"Authorization": f"Bearer {token}"})
    fill(postgres, mounts, 2, 1)
    kept = postgres.recommendations(limit=1)[0]
    model, one = f"/models/{kept.model_id}", f"/recommendations/{kept.recommendation_id}"
    pages = ["/", "/api/v1/workflows", "/api/v1/recommendations", model, f"{model}/answer", one]

    def statements() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for page in pages:
            admin.get(page)  # what is kept of a model is looked up once
            sent.clear()
            assert admin.get(page).status_code == 200
            found[page] = list(sent)
        return found

    few = statements()
    fill(postgres, mounts, 12, 9, first_number=2)
    assert statements() == few
    assert few["/"] == ["workflows", "newest_models", "run_lines", "recommendations"]
