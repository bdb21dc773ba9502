from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from qosflow_airflow.answers import answer_request, answer_with_lesson
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.exceptions import StoreUnavailableError
from qosflow_airflow.store.base import ModelVersion, RecommendationRecord
from qosflow_airflow.web.answer_types import AnswerOut
from tests.support.models import random_model
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow
from tests.web.conftest import Client

pytestmark = pytest.mark.airflow

API = "/api/v1"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def version(store: KeptStore, mounts: dict[str, str]) -> ModelVersion:
    return publish_model(store, small_workflow(), small_catalog(mounts))


@pytest.fixture
def recommendation(store: KeptStore, version: ModelVersion) -> RecommendationRecord:
    request = QoSRequest(deadline_s=10)
    return answer_request(store, "two", request, dag_id="nightly", run_id="one")[0]


def error_of(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"kind", "message", "cure"}
    return dict(body["error"])


def routes(model_id: str, recommendation_id: str) -> list[tuple[str, str]]:
    return [
        ("GET", "/openapi.json"),
        ("GET", "/workflows"),
        ("GET", "/workflows/two/models"),
        ("GET", "/workflows/two/dags"),
        ("POST", "/workflows/two/ask"),
        ("GET", f"/models/{model_id}"),
        ("GET", f"/models/{model_id}/figures?nodes=1"),
        ("GET", f"/models/{model_id}/figures.csv?nodes=1&figure=totals"),
        ("POST", f"/models/{model_id}/ask"),
        ("GET", f"/compare?right={model_id}"),
        ("GET", "/recommendations"),
        ("GET", f"/recommendations/{recommendation_id}"),
    ]


def test_every_route_needs_a_login_and_no_more_than_that(
    client: Client, version: ModelVersion, recommendation: RecommendationRecord
) -> None:
    for method, path in routes(version.model_id, recommendation.recommendation_id):
        for role, expected in ((None, 401), ("viewer", 200), ("admin", 200)):
            sent = {"json": {}} if method == "POST" else {}
            answer = client(role).request(method, API + path, **sent)
            assert answer.status_code == expected, (role, method, path, answer.text)
            assert role is not None or "split" not in answer.text


def test_these_are_all_the_routes(client: Client) -> None:
    from fastapi.routing import APIRoute

    app: Any = client("viewer").app
    found = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    api = {(method, path.removeprefix(API)) for method, path in found if path.startswith(API)}
    # Starting a run is a write, and not for every user: tests/web/test_dag_runs.py.
    assert ("POST", "/dags/{dag_id}/runs") in api
    assert len(api) == len(routes("", "")) + 1
    pages = {path for _, path in found if not path.startswith(API)}
    assert pages == {
        "/",
        "/compare",
        "/models/{model_id}",
        "/models/{model_id}/answer",
        "/recommendations/{recommendation_id}",
        "/dag",
        "/run",
        "/task-instance",
        "/static/{name}",
    }


def test_the_document_names_every_route_as_it_is_served(client: Client) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    viewer = client("viewer")
    outer = FastAPI()
    outer.mount("/airflow/qosflow", viewer.app)
    served = TestClient(outer, headers=dict(viewer.headers))
    document = served.get(f"/airflow/qosflow{API}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert document["servers"] == [{"url": "/airflow/qosflow"}]
    named = {(method.upper(), path) for path, found in document["paths"].items() for method in found}
    assert len(named) == len(routes("", ""))
    assert all(path.startswith(f"{API}/") for _, path in named)
    answered = document["paths"][f"{API}/models/{{model_id}}/ask"]["post"]["responses"]["200"]
    kinds = answered["content"]["application/json"]["schema"]["oneOf"]
    assert [one["$ref"].rpartition("/")[2] for one in kinds] == ["FeasibleOut", "InfeasibleOut"]
    for found in document["paths"].values():
        for operation in found.values():
            assert operation["security"]
            assert operation["description"]
            refusals = {status for status in operation["responses"] if not status.startswith("2")}
            assert refusals >= {"400", "401", "403", "404", "422", "503"}
            for status in refusals:
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Refusal"}


def test_every_refusal_has_the_same_form(client: Client, version: ModelVersion) -> None:
    refused = client(None).get(f"{API}/workflows")
    assert (refused.status_code, error_of(refused)["kind"]) == (401, "LoginError")
    absent = client("viewer").get(f"{API}/nothing")
    assert (absent.status_code, error_of(absent)["kind"]) == (404, "NotFoundError")
    wrong = client("viewer").delete(f"{API}/workflows")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert error_of(wrong)["message"] == "Method Not Allowed"
    broken = client("viewer").post(f"{API}/workflows/two/ask", content=b"\xff", headers=JSON)
    assert broken.status_code == 400
    assert error_of(broken)["message"]


def test_workflows_come_with_their_newest_model_and_their_runs(
    client: Client, store: KeptStore, version: ModelVersion, recommendation: RecommendationRecord
) -> None:
    store.register_workflow("without", "/bundle")
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 4.0, "met_deadline": True})
    two, without = client("viewer").get(f"{API}/workflows").json()["workflows"]
    assert two["newest_model"]["model_id"] == version.model_id
    assert two["runs"] == {"met": 1, "missed": 0, "other": 0}
    assert (without["name"], without["newest_model"]) == ("without", None)


def test_runs_of_dags_that_may_not_be_read_are_not_told(
    client: Client,
    store: KeptStore,
    recommendation: RecommendationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    store.add_outcome(recommendation.recommendation_id, {"measured_s": 4.0, "met_deadline": True})
    viewer = client("viewer")
    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", lambda **_: False)
    (two,) = viewer.get(f"{API}/workflows").json()["workflows"]
    assert two["runs"] == {"met": 0, "missed": 0, "other": 0}
    assert viewer.get(f"{API}/recommendations").json()["recommendations"] == []
    refused = viewer.get(f"{API}/recommendations/{recommendation.recommendation_id}")
    assert refused.status_code == 403
    assert error_of(refused)["kind"] == "ForbiddenError"


def test_what_is_asked_is_answered_as_on_the_command_line_and_not_kept(
    client: Client, store: KeptStore, version: ModelVersion, recommendation: RecommendationRecord
) -> None:
    stages = {stage: {"measured_s": 2.0} for stage in ("split", "merge")}
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 9.0, "stages": stages})
    kept = store.recommendations()
    for asked in (
        {},
        {"deadline_s": 0.5},
        {"max_nodes": 1, "pin": {"split": "disk"}, "objective": "balanced"},
    ):
        expected = answer_with_lesson(store, "two", QoSRequest.parse(asked))[0].answer
        cases = expected.get("cases")
        assert cases  # what is similar may be of Dags that may not be read: the API cites none
        said = expected["explanation"].removesuffix(" " + cases["words"])
        expected = {**expected, "explanation": said}
        del expected["cases"]
        for path in ("/workflows/two/ask", f"/models/{version.model_id}/ask"):
            answer = client("viewer").post(API + path, json=asked)
            assert answer.status_code == 200
            assert answer.json() == json.loads(json.dumps(expected))
    assert store.recommendations() == kept


def test_an_interval_from_past_runs_is_the_same_on_the_page(
    client: Client, store: KeptStore, version: ModelVersion, recommendation: RecommendationRecord
) -> None:
    for at in range(10):
        began = recommendation.created_at + timedelta(seconds=at)
        record = replace(recommendation, recommendation_id=str(uuid4()), created_at=began)
        store.add_recommendation(record)
        longer_s = at % 3 / 5
        stages = {stage: {"measured_s": 2.0 + longer_s} for stage in ("split", "merge")}
        store.add_outcome(record.recommendation_id, {"measured_s": 6.0 + 2 * longer_s, "stages": stages})
    expected = answer_with_lesson(store, "two", QoSRequest())[0].answer["interval"]
    assert expected["source"] == "past_runs"
    found = client("viewer").post(f"{API}/workflows/two/ask", json={}).json()
    assert found["interval"] == json.loads(json.dumps(expected))
    page = client("viewer").get(f"/models/{version.model_id}/answer?deadline_s=99").text
    assert expected["words"] in page


def undeclared(given: Any, typed: Any) -> set[str]:
    """The fields of an answer that its type passes on without naming them."""
    if isinstance(typed, BaseModel):
        found = set(typed.model_extra or {})
        parts = [(given[name], getattr(typed, name)) for name in type(typed).model_fields if name in given]
    elif isinstance(typed, list):
        found, parts = set(), list(zip(given, typed, strict=True))
    else:
        return set()
    return found.union(*(undeclared(*part) for part in parts))


@pytest.mark.parametrize("seed", range(12))
def test_every_field_of_an_answer_is_typed(seed: int) -> None:
    rng = random.Random(seed)
    model = random_model(rng, COMPLETE, stages=4)
    for request in (QoSRequest(), QoSRequest(deadline_s=1e-3), QoSRequest(max_node_hours=1e-9, max_nodes=1)):
        answer = {**recommend(model, request).answer, "calibration": {}}
        typed = TypeAdapter(AnswerOut).validate_python(answer)
        assert undeclared(answer, typed) == set()
        assert typed.model_dump(exclude_unset=True) == answer


def test_an_answer_heeds_runs_that_finished_since(
    store: KeptStore, version: ModelVersion, recommendation: RecommendationRecord
) -> None:
    from qosflow_airflow.web.known_models import LESSON_S, KnownModels

    known = KnownModels().get(store, version.model_id)
    now = [0.0]
    known.clock = lambda: now[0]
    before = known.answer(store, QoSRequest())
    stages = {stage: {"measured_s": 2.0} for stage in ("split", "merge")}
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 9.0, "stages": stages})
    assert known.answer(store, QoSRequest()) == before
    now[0] = LESSON_S + 1
    assert known.answer(store, QoSRequest())["calibration"]["runs"] == 1


def test_only_so_many_models_are_kept(store: KeptStore, mounts: dict[str, str]) -> None:
    from qosflow_airflow.web.known_models import KnownModels

    versions = [publish_model(store, small_workflow(), small_catalog(mounts)) for _ in range(3)]
    known = KnownModels(2)
    first, second, _ = (known.get(store, one.model_id) for one in versions)
    assert known.get(store, versions[1].model_id) is second
    assert known.get(store, versions[0].model_id) is not first


def test_a_model_tells_what_is_in_it(client: Client, version: ModelVersion) -> None:
    found = client("viewer").get(f"{API}/models/{version.model_id}").json()
    assert found["stages"] == ["split", "merge"]
    assert found["tiers"] == ["disk", "ram"]
    assert [scale["nodes"] for scale in found["scales"]] == [1, 2]
    assert found["scales"][0]["states"] == {"measured": 4}
    assert found["scales"][1]["evaluation"]["makespan_s"]["best"] == 3.5
    figures = client("viewer").get(f"{API}/models/{version.model_id}/figures?nodes=2").json()
    assert figures["totals"]["best_s"] == [5.0, 3.5]


def test_recommendations_are_listed_and_shown(
    client: Client, store: KeptStore, recommendation: RecommendationRecord
) -> None:
    store.add_outcome(recommendation.recommendation_id, {"measured_s": 4.0, "met_deadline": True})
    viewer = client("viewer")
    listed = viewer.get(f"{API}/recommendations?workflow=two&limit=1").json()
    assert listed["recommendations"][0]["recommendation_id"] == recommendation.recommendation_id
    assert listed["next_offset"] == 1
    assert viewer.get(f"{API}/recommendations?offset=1").json()["next_offset"] is None
    one = viewer.get(f"{API}/recommendations/{recommendation.recommendation_id}").json()
    assert one["answer"] == recommendation.answer
    assert one["outcomes"][0]["met_deadline"] is True


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"deadline_s": -1}, "greater than 0"),
        ({"deadline_s": "soon"}, "deadline_s"),
        ({"allow": []}, "allow is empty"),
        ({"allow": ["tape"]}, "tape"),
        ({"pin": {"join": "disk"}}, "join"),
        ({"colour": "red"}, "colour"),
        ({"confidence": 0.9, "deadline_s": 9}, "spread"),
        ({"max_cost": 3}, "price"),
        ({"max_nodes": 10**30}, "max_nodes"),
        ({"pin": {"\ud800": "disk"}}, "unicode"),
    ],
)
def test_what_cannot_be_asked_is_said_with_its_cure(
    client: Client, version: ModelVersion, asked: dict[str, Any], word: str
) -> None:
    answer = client("viewer").post(f"{API}/workflows/two/ask", content=json.dumps(asked), headers=JSON)
    assert answer.status_code == 422, answer.text
    error = error_of(answer)
    assert error["cure"]
    assert word in f"{error['message']} {error['cure']}"


@pytest.mark.parametrize(
    "path", ["/workflows/no/models", "/workflows/%00/models", "/models/no", "/recommendations/no"]
)
def test_what_is_not_there_is_said(client: Client, version: ModelVersion, path: str) -> None:
    answer = client("viewer").get(API + path)
    assert answer.status_code == 404
    assert error_of(answer)["kind"] == "NotFoundError"


def test_a_database_that_is_away_is_said(
    client: Client, store: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("The QoSFlow database at db.internal:5432 cannot be reached.")

    monkeypatch.setattr(store, "recommendations", away)
    answer = client("viewer").get(f"{API}/recommendations")
    assert answer.status_code == 503
    assert "db.internal" not in answer.text


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("deadline_s", "confidence", "max_nodes", "max_node_hours", "max_cost", "objective")
TIER = st.sampled_from(["disk", "ram", "tape", "", "\ud800"])
QUESTION = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, ANY_JSON | st.sampled_from([1, 2.5, 1e300, "cost"])),
        "allow": ANY_JSON | st.lists(TIER, max_size=3),
        "exclude": ANY_JSON | st.lists(TIER, max_size=3),
        "pin": ANY_JSON | st.dictionaries(st.sampled_from(["split", "merge", "join"]), TIER, max_size=2),
    },
)
RELAXED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@RELAXED
@given(question=QUESTION | ANY_JSON)
def test_no_question_breaks_the_server(client: Client, version: ModelVersion, question: Any) -> None:
    answer = client("viewer").post(f"{API}/workflows/two/ask", content=json.dumps(question), headers=JSON)
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code == 422:
        error_of(answer)


@RELAXED
@given(
    template=st.sampled_from(
        ["/workflows/{}/models", "/models/{}", "/models/{}/figures?nodes={}&region={}", "/recommendations/{}"]
    ),
    words=st.lists(st.text(max_size=10) | st.integers().map(str), min_size=3, max_size=3),
    known=st.booleans(),
)
def test_no_address_breaks_the_server(
    client: Client, version: ModelVersion, template: str, words: list[str], known: bool
) -> None:
    from urllib.parse import quote

    words = [quote(word.encode("utf-8", "replace"), safe="") for word in words]
    named = [version.model_id, *words[1:]] if known else words
    answer = client("viewer").get(API + template.format(*named))
    assert answer.status_code < 500, answer.text


@RELAXED
@given(limit=st.integers() | st.text(max_size=4), offset=st.integers(), workflow=st.text(max_size=5))
def test_no_listing_breaks_the_server(
    client: Client, version: ModelVersion, limit: int | str, offset: int, workflow: str
) -> None:
    asked = {"limit": str(limit), "offset": str(offset), "workflow": workflow.encode("utf-8", "replace")}
    assert client("viewer").get(f"{API}/recommendations", params=asked).status_code in (200, 404, 422)
