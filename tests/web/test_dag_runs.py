from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow
from tests.web.conftest import Client
from tests.web.test_api import error_of
from tests.web.test_pages import Page

pytestmark = pytest.mark.airflow

DAG = "asks_two"
ROUTE = f"/api/v1/dags/{DAG}/runs"


@pytest.fixture(scope="module")
def dag(airflow_database: None) -> Iterator[str]:
    """A Dag with two of the params that one may ask for, as Airflow's Dag processor keeps it."""
    from airflow import sdk
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    params = {
        "deadline_s": sdk.Param(300, type="number", exclusiveMinimum=0),
        "max_nodes": sdk.Param(None, type=["null", "integer"]),
    }
    with sdk.DAG(DAG, schedule=None, params=params) as made:
        EmptyOperator(task_id="nothing")
    lazy = LazyDeserializedDAG.from_dag(made)
    with create_session() as session:
        session.merge(DagBundleModel(name="testing"))
    SerializedDAG.bulk_write_to_db("testing", None, [lazy])
    SerializedDagModel.write_dag(lazy, bundle_name="testing")
    yield DAG
    with create_session() as session:
        from airflow.models.dagrun import DagRun

        for run in session.query(DagRun).where(DagRun.dag_id == DAG):
            session.delete(run)


@pytest.fixture
def version(store: KeptStore, mounts: dict[str, str], dag: str) -> ModelVersion:
    """The small model, which the Dag, and another one that is gone, have asked."""
    version = publish_model(store, small_workflow(), small_catalog(mounts))
    for name in (dag, "gone"):
        answer_request(store, "two", QoSRequest(), dag_id=name, run_id="one")
    return version


def asked(**question: Any) -> dict[str, Any]:
    return {"workflow": "two", "question": question}


def runs_of(dag_id: str) -> dict[str, Any]:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).where(DagRun.dag_id == dag_id)
        return {run.run_id: (run.conf, run.triggering_user_name) for run in found}


def notes_of(dag_id: str) -> list[tuple[str, str]]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        return [(one.event, one.owner) for one in session.query(Log).where(Log.dag_id == dag_id)]


def test_a_run_is_started_with_what_was_asked(client: Client, version: ModelVersion, dag: str) -> None:
    answer = client("admin").post(ROUTE, json=asked(deadline_s=60))
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert (run["dag_id"], run["params"], run["defaults"]) == (dag, {"deadline_s": 60.0}, {"max_nodes": None})
    assert runs_of(dag)[run["run_id"]] == ({"deadline_s": 60.0}, "admin")
    assert run["path"].startswith(f"/dags/{dag}/runs/manual__")
    assert "+" not in run["path"]
    assert ("trigger_dag_run", "admin") in notes_of(dag)


def test_who_may_not_trigger_the_dag_is_refused_and_offered_none(
    client: Client, version: ModelVersion, dag: str
) -> None:
    before = runs_of(dag)
    for role, status in ((None, 401), ("viewer", 403)):
        answer = client(role).post(ROUTE, json=asked(deadline_s=60))
        assert answer.status_code == status
        assert error_of(answer)["message"]
    assert runs_of(dag) == before
    for role, offered in (("viewer", []), ("admin", [dag])):
        listed = client(role).get("/api/v1/workflows/two/dags").json()["dags"]
        assert [one["dag_id"] for one in listed] == offered
        page = client(role).get(f"/models/{version.model_id}").text
        assert (f'data-dag="{dag}"' in page) == bool(offered)
        assert ("trigger.js" in page) == bool(offered)
        assert "gone" not in page


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"exclude": ["disk"]}, "has no param exclude"),
        ({"exclude": ["disk"], "pin": {"split": "ram"}}, "has no params exclude, pin"),
        ({"deadline_s": -1}, "greater than 0"),
        ({"max_nodes": 0}, "max_nodes"),
        ({"objective": "fun"}, "objective"),
    ],
)
def test_what_the_dag_does_not_take_is_said_and_nothing_starts(
    client: Client, version: ModelVersion, dag: str, question: dict[str, Any], words: str
) -> None:
    before = runs_of(dag)
    answer = client("admin").post(ROUTE, json=asked(**question))
    assert answer.status_code == 422, answer.text
    error = error_of(answer)
    assert words in f"{error['message']} {error['cure']}"
    assert runs_of(dag) == before


def test_the_schema_of_the_dag_s_params_is_kept(
    client: Client, version: ModelVersion, dag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that may be asked for is still none that this Dag takes."""
    from qosflow_airflow.web import dag_runs

    monkeypatch.setattr(dag_runs, "asked_for", lambda _: {"deadline_s": "soon"})
    before = runs_of(dag)
    answer = client("admin").post(ROUTE, json=asked())
    assert answer.status_code == 422
    assert "does not take this: Invalid input for param deadline_s" in error_of(answer)["message"]
    assert runs_of(dag) == before


@pytest.mark.parametrize(("name", "words"), [("gone", "gone"), ("never", "never asked for the workflow two")])
def test_a_dag_that_there_is_not_is_not_found(
    client: Client, version: ModelVersion, name: str, words: str
) -> None:
    answer = client("admin").post(f"/api/v1/dags/{name}/runs", json=asked())
    assert answer.status_code == 404
    assert words in error_of(answer)["message"]


def test_a_dag_that_airflow_cannot_run_now_is_a_conflict(
    client: Client, version: ModelVersion, dag: str
) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    def break_it(is_broken: bool) -> None:
        with create_session() as session:
            session.get_one(DagModel, dag).has_import_errors = is_broken

    break_it(True)
    try:
        answer = client("admin").post(ROUTE, json=asked(deadline_s=60))
    finally:
        break_it(False)
    assert answer.status_code == 409
    assert error_of(answer)["kind"] == "ConflictError"
    assert "import errors" in error_of(answer)["message"]


def test_only_json_is_taken(client: Client, version: ModelVersion, dag: str) -> None:
    """What a form of another site could send without being asked first is refused."""
    before = runs_of(dag)
    body = b'{"workflow": "two", "question": {}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {} if kind is None else {"Content-Type": kind}
        answer = client("admin").post(ROUTE, content=body, headers=headers)
        assert answer.status_code in (415, 422), (kind, answer.text)
    assert runs_of(dag) == before


def test_an_older_model_s_page_offers_no_dag(
    client: Client, store: KeptStore, version: ModelVersion, mounts: dict[str, str]
) -> None:
    newer = publish_model(store, small_workflow(), small_catalog(mounts))
    admin = client("admin")
    assert "data-dag" not in admin.get(f"/models/{version.model_id}").text
    page = Page(admin.get(f"/models/{newer.model_id}").text)
    assert f"Trigger {DAG}" in page.text
