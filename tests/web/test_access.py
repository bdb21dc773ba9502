"""Who sees what, asked of every route that there is: a new one is walked without being named here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from qosflow_airflow.answers import answer_again, answer_request
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.store.finished_runs import Observation
from tests.support.small_model import KeptStore
from tests.web.conftest import Client
from tests.web.test_model_page import EVIL, publish, with_regions
from tests.web.test_pages import Page
from tests.web.walk import Names, Sent, requests

pytestmark = pytest.mark.airflow

WRITES = {("POST", "/api/v1/dags/{dag_id}/runs")}
"""Routes that change something; all others must answer whoever has logged in."""

TASKS = (3, 1)
"""Of the two stages."""


def fill(store: KeptStore, mounts: dict[str, str], name: str, dag_id: str, run_id: str) -> Names:
    """Keep a workflow whose every name holds ``name``, and a run that was planned again and compared."""
    first, second = f"one{name}", f"two{name}"
    tiers = TierCatalog(
        (
            StorageTier(f"disk{name}", True, mounts["disk"]),
            StorageTier(f"ram{name}", False, mounts["ram"]),
            StorageTier(f"ssd{name}", False, f"{mounts['ram']}2"),
        )
    )
    stages = (
        Stage(first, 1, TASKS[0], {INITIAL_DATA: ()}, ("x",)),
        Stage(second, 2, TASKS[1], {first: ("x",)}),
    )
    workflow = f"workflow{name}"
    model = with_regions(Workflow(workflow, stages), tiers)
    version = publish(store, model)
    task_id = f"{first}.run"
    before = _ask(store, workflow, dag_id=dag_id, run_id=f"before {run_id}", task_id=task_id)
    _finish(store, before, task_id)
    record = _ask(store, workflow, dag_id=dag_id, run_id=run_id, task_id=task_id)
    chosen = record.answer["configuration"]
    kept = {first: chosen["tiers"][first]}
    failed = {chosen["tiers"][second]: f"it is down{name}"}
    again, _, _ = answer_again(
        store, record, chosen["nodes"], kept, failed, dag_id=dag_id, run_id=run_id, task_id=task_id
    )
    _finish(store, record, task_id)
    _finish(store, again, task_id)
    publish(store, model)
    return Names(workflow, version.model_id, again.recommendation_id, dag_id, run_id, task_id)


def _ask(store: KeptStore, workflow: str, **task: Any) -> RecommendationRecord:
    return answer_request(store, workflow, QoSRequest(deadline_s=30.0), **task)[0]


def _finish(store: KeptStore, record: RecommendationRecord, task_id: str) -> None:
    where = {"dag_id": record.dag_id, "run_id": record.run_id, "task_id": task_id}
    tiers = record.answer["configuration"]["tiers"]
    observed = [
        Observation(
            record.recommendation_id,
            stage,
            index,
            1,
            "success",
            count=count,
            start_s=10.0 + level,
            end_s=14.0 + level,
            queue_s=0.5,
            tier=tier,
            host=f"host of {tier}",
            **where,
        )
        for level, ((stage, tier), count) in enumerate(zip(tiers.items(), TASKS, strict=True))
        for index in range(count)
    ]
    store.add_observations(observed)
    stages = {stage: {"tier": tier, "measured_s": 4.0, "predicted_s": 2.0} for stage, tier in tiers.items()}
    store.add_outcome(
        record.recommendation_id,
        {"measured_s": 6.0, "predicted_s": 4.0, "met_deadline": True, "stages": stages},
    )


@pytest.fixture
def names(store: KeptStore, mounts: dict[str, str]) -> Names:
    return fill(store, mounts, "", "nightly", "manual__1+2")


def walk(client: Client, role: str | None, names: Names) -> Iterator[tuple[Sent, Any]]:
    connected = client(role)
    app: Any = connected.app
    for sent in requests(app, names):
        yield sent, connected.request(sent.method, sent.address, **sent.sending)


def test_every_route_needs_a_login(client: Client, names: Names) -> None:
    walked = list(walk(client, None, names))
    assert len(walked) >= 15
    for sent, answer in walked:
        assert answer.status_code == 401, sent
        for told in (names.workflow, "manual__1", "ram", "makespan"):
            assert told not in answer.text, sent


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_every_route_that_changes_nothing_answers_whoever_has_logged_in(
    client: Client, names: Names, role: str
) -> None:
    for sent, answer in walk(client, role, names):
        if (sent.method, sent.route) in WRITES:
            # A viewer may not; to an admin Airflow says that there is no such Dag.
            assert answer.status_code == (403 if role == "viewer" else 404), (sent, answer.text)
        else:
            assert answer.status_code == 200, (sent, answer.text)


def test_nothing_of_a_dag_that_may_not_be_read_is_told_by_any_route(
    client: Client, store: KeptStore, mounts: dict[str, str], names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    secret = fill(store, mounts, "", "secret_dag", "secret_run")
    admin = client("admin")
    shown = admin.get(f"/recommendations/{secret.recommendation_id}")
    assert "secret_dag" in shown.text
    monkeypatch.setattr(
        get_auth_manager(), "is_authorized_dag", lambda **asking: asking["details"].id != "secret_dag"
    )
    refused = set()
    for asked in (secret, names):
        for sent, answer in walk(client, "admin", asked):
            assert answer.status_code < 500, sent
            if answer.status_code == 403:
                refused.add(sent.route)
            for told in ("secret_dag", "secret_run"):
                assert told not in answer.text, sent
    assert refused - {route for _, route in WRITES} == {
        "/recommendations/{recommendation_id}",
        "/api/v1/recommendations/{recommendation_id}",
        "/dag",
        "/run",
        "/task-instance",
    }


@pytest.mark.parametrize("evil", EVIL)
def test_names_change_the_text_of_a_page_and_never_its_structure(
    client: Client, mounts: dict[str, str], evil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qosflow_airflow.web.app import create_app

    shown = {}
    for name in ("plain", evil):
        store = KeptStore()
        names = fill(store, mounts, name, f"dag{name}", f"run{name}")
        app = create_app(lambda kept=store: kept)
        connected = TestClient(app, headers=dict(client("viewer").headers))
        for sent in requests(app, names):
            answer = connected.request(sent.method, sent.address, **sent.sending)
            if "text/html" not in answer.headers["content-type"]:
                assert answer.headers["content-type"] != "application/xhtml+xml", sent
                continue
            page = Page(answer.text)
            assert answer.status_code == 200, (sent, answer.text)
            assert page.handlers == [], sent
            assert {link.partition(":")[0] for link in page.links if ":" in link.partition("?")[0]} == set()
            shown.setdefault(sent.route, []).append((page.tags, page.text))
    assert len(shown) >= 7
    for route, ((plain, _), (tags, text)) in shown.items():
        if evil.startswith("{") and route.startswith("/models/"):
            # Code that Airflow would render is not shown: no button that copies it, and a sentence instead.
            plain, tags = (
                [tag for tag in found if tag in ("script", "img", "svg", "a")] for found in (plain, tags)
            )
        assert tags == plain, route
        assert evil in text, route


def test_what_similar_runs_of_other_dags_took_is_told_to_whoever_may_read_them(
    client: Client, store: KeptStore, mounts: dict[str, str], names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    record = _ask(store, names.workflow, dag_id="open", run_id="one", task_id="recommend")
    cited = record.answer["cases"]["similar"]
    assert cited
    addresses = [f"{before}/recommendations/{record.recommendation_id}" for before in ("", "/api/v1")]
    viewer = client("viewer")
    for address in addresses:
        told = viewer.get(address).text
        assert "similar run" in told
        assert all(one["run"] in told for one in cited)
    monkeypatch.setattr(
        get_auth_manager(), "is_authorized_dag", lambda **asking: asking["details"].id == "open"
    )
    for address in addresses:
        answer = viewer.get(address)
        assert answer.status_code == 200
        assert not any(one["run"] in answer.text for one in cited)
        assert record.answer["cases"]["words"] not in answer.text
        assert "of Dags that you may not read" in answer.text
    kept = viewer.get(addresses[1]).json()["answer"]
    assert kept["cases"]["similar"] == []
    assert json.dumps(kept["configuration"]) == json.dumps(record.answer["configuration"])
