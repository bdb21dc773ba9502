from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import StoreUnavailableError
from qosflow_airflow.store.base import RecommendationRecord
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow
from tests.web.conftest import Client

pytestmark = pytest.mark.airflow

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """The tags, links and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture
def recommendation(store: KeptStore, mounts: dict[str, str]) -> RecommendationRecord:
    publish_model(store, small_workflow(), small_catalog(mounts))
    return ask(store, "two", deadline_s=10)


def ask(store: KeptStore, workflow: str, *, dag_id: str | None = "nightly", **request: Any) -> Any:
    run_id = None if dag_id is None else "manual__1+2"
    return answer_request(store, workflow, QoSRequest.parse(request), dag_id=dag_id, run_id=run_id)[0]


@pytest.mark.parametrize("path", ["/", "/recommendations/{id}", "/recommendations/none", "/nowhere"])
def test_nothing_is_shown_without_a_login(
    client: Client, recommendation: RecommendationRecord, path: str
) -> None:
    answer = client(None).get(path.format(id=recommendation.recommendation_id))
    assert answer.status_code in (401, 404)
    assert path == "/nowhere" or answer.status_code == 401
    assert "two" not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_there_is_no_page_about_the_pages(client: Client, path: str) -> None:
    assert client(None).get(path).status_code == 404


def test_a_token_that_is_none_is_refused(client: Client, recommendation: RecommendationRecord) -> None:
    answer = client(None).get("/", headers={"Authorization": "Bearer garbage"})
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_whoever_logged_in_sees_models_and_recommendations(
    client: Client, recommendation: RecommendationRecord, role: str
) -> None:
    answer = client(role).get("/")
    assert answer.status_code == 200
    page = Page(answer.text)
    assert f"recommendations/{recommendation.recommendation_id}" in page.links
    assert "nightly / manual__1+2" in page.text
    assert "complete" in page.text


def test_what_runs_have_taught_is_shown_with_the_model_and_in_the_answer(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    stages = {stage: {"measured_s": 2.0} for stage in ("split", "merge")}
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 9.0, "stages": stages})
    second = ask(store, "two", deadline_s=20)
    listed = client("viewer").get("/").text
    assert '<span class="tag drift-unknown" title="too few runs to tell a drift">unknown</span>' in listed
    assert "1 run" in Page(listed).text
    page = Page(client("viewer").get(f"/recommendations/{second.recommendation_id}").text)
    assert "Corrected by 1 run: split on ram takes 1.8 times its estimate" in page.text
    told = " ".join(page.text.split())
    assert f"Makespan {second.answer['makespan_s']:.2f} s With Airflow's own time" in told
    assert f"With Airflow's own time {second.answer['run_s']:.2f} s" in told


def test_an_empty_store_says_how_it_is_filled(client: Client) -> None:
    text = Page(client("viewer").get("/").text).text
    assert "qosflow_pipeline" in text
    assert "QoSRecommendOperator" in text


def test_a_recommendation_shows_request_answer_and_stages(
    client: Client, recommendation: RecommendationRecord
) -> None:
    answer = client("viewer").get(f"/recommendations/{recommendation.recommendation_id}")
    assert answer.status_code == 200
    text = Page(answer.text).text
    assert recommendation.answer["explanation"] in text
    words = text.split()
    assert words[words.index("deadline_s") + 1] == "10"
    # In the order of the workflow, which is not the alphabet's.
    stages = re.findall(r"(split|merge)\s+(\d)\s+(\w+)\s+([\d.]+) s", text)
    assert stages == [("split", "3", "ram", "0.50"), ("merge", "1", "ram", "0.50")]
    assert "Measured" not in text
    assert re.search(r"(?s)Trade-offs .*2 nodes, every stage on ram\s+3\.50 s\s+0\.0019", text)
    assert "What the answer depends on" in text
    assert "The same tiers on 1 node: 5.0 s, 1.5 s more." in text
    assert "What would help" not in text


def test_an_answer_of_an_older_version_is_shown_with_what_it_has(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    new = ("pareto", "sensitivity", "interval", "optimality")
    answer = {name: value for name, value in recommendation.answer.items() if name not in new}
    old = store.add_recommendation(replace(recommendation, recommendation_id=str(uuid4()), answer=answer))
    page = client("viewer").get(f"/recommendations/{old.recommendation_id}")
    assert page.status_code == 200
    assert "Trade-offs" not in Page(page.text).text


def test_an_outcome_is_shown_beside_the_prediction(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    stages = {name: {"tier": "ram", "predicted_s": 1.0, "measured_s": 1.25} for name in ("merge", "split")}
    outcome = {"predicted_s": 3.5, "measured_s": 4.5, "met_deadline": True, "stages": stages}
    store.add_outcome(recommendation.recommendation_id, outcome)
    text = Page(client("viewer").get(f"/recommendations/{recommendation.recommendation_id}").text).text
    assert "deadline met" in text
    assert re.search(r"whole run\s+3\.50 s\s+4\.50 s", text)


def test_an_infeasible_answer_shows_the_nearest_or_says_that_there_is_none(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    refused = ask(store, "two", deadline_s=0.1)
    text = Page(client("viewer").get(f"/recommendations/{refused.recommendation_id}").text).text
    assert "infeasible" in text
    assert "Stages of the nearest configuration" in text
    assert "deadline_s = 0.1" in text
    assert re.search(
        r"(?s)What would help .*a deadline of 3\.5 s\s+2 nodes, every stage on ram\s+3\.50 s", text
    )


@pytest.mark.parametrize("name", ["none", "00000000-0000-0000-0000-000000000000", EVIL, "..%2F..%2Fetc"])
def test_an_unknown_recommendation_is_not_found(client: Client, store: KeptStore, name: str) -> None:
    answer = client("admin").get(f"/recommendations/{name}")
    assert answer.status_code == 404
    assert EVIL not in answer.text


def test_text_from_bundles_and_dags_stays_text(
    client: Client, store: KeptStore, mounts: dict[str, str]
) -> None:
    tier = StorageTier(f"disk{EVIL}", True, mounts["disk"])
    workflow = Workflow(EVIL, (Stage(f"stage{EVIL}", 1, 1, {INITIAL_DATA: ()}),))
    publish_model(store, workflow, TierCatalog((tier,)))
    record = ask(store, EVIL, dag_id=f"dag{EVIL}")
    store.add_outcome(record.recommendation_id, {"stages": {f"stage{EVIL}": {"tier": EVIL}}})
    for path in ("/", f"/recommendations/{record.recommendation_id}"):
        answer = client("viewer").get(path)
        page = Page(answer.text)
        assert answer.status_code == 200
        assert EVIL in page.text
        assert EVIL not in answer.text
        assert page.tags.count("script") == 1
        assert page.handlers == []


def test_a_recommendation_needs_the_right_to_read_its_dag(
    client: Client,
    store: KeptStore,
    recommendation: RecommendationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    by_hand = ask(store, "two", dag_id=None)
    viewer = client("viewer")
    asked = []

    def is_authorized_dag(**asking: Any) -> bool:
        asked.append((asking["method"], asking["details"].id, asking["user"].get_name()))
        return False

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", is_authorized_dag)
    answer = viewer.get(f"/recommendations/{recommendation.recommendation_id}")
    assert answer.status_code == 403
    assert recommendation.answer["explanation"] not in answer.text
    assert asked == [("GET", "nightly", "viewer")]
    listed = viewer.get("/").text
    assert recommendation.recommendation_id not in listed
    assert by_hand.recommendation_id in listed
    assert viewer.get(f"/recommendations/{by_hand.recommendation_id}").status_code == 200


def test_pages_run_no_script_and_are_framed_by_airflow_only(
    client: Client, recommendation: RecommendationRecord
) -> None:
    for path in ("/", f"/recommendations/{recommendation.recommendation_id}", "/recommendations/none"):
        headers = client("viewer").get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_links_stay_below_the_server_s_path(client: Client, recommendation: RecommendationRecord) -> None:
    """Relative links: they hold under any path at which Airflow is served."""
    pages = client("viewer")
    outer = FastAPI()
    outer.mount("/airflow/qosflow", pages.app)
    served = TestClient(outer, headers=dict(pages.headers))
    first = served.get("/airflow/qosflow/")
    seen, left = set(), {str(first.url.join(link)) for link in Page(first.text).links}
    while left:
        address = left.pop()
        assert "/airflow/qosflow/" in address
        answer = served.get(address)
        assert answer.status_code == 200, address
        seen.add(address.partition("?")[0])
        if "html" in answer.headers["content-type"]:
            links = {str(answer.url.join(link)).partition("#")[0] for link in Page(answer.text).links}
            left |= {link for link in links if link.partition("?")[0] not in seen}
    kinds = {address.partition("/airflow/qosflow/")[2].partition("/")[0] for address in seen}
    assert kinds == {"", "static", "models", "compare", "recommendations", "api"}


def test_a_database_that_is_away_is_said_without_telling_where_it_is(
    client: Client, store: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StoreUnavailableError("The QoSFlow database at db.internal:5432 cannot be reached.")

    monkeypatch.setattr(store, "summaries", away)
    answer = client("viewer").get("/")
    assert answer.status_code == 503
    assert "db.internal" not in answer.text
