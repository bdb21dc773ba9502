"""The JSON API is asked what its own description allows, and much that it does not."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow
from tests.web.conftest import Client

pytestmark = pytest.mark.airflow

DOCUMENT = "/api/v1/openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NOT_BY_CHANCE = {
    "GET /api/v1/compare",
    "GET /api/v1/models/{model_id}/figures.csv",
    "POST /api/v1/dags/{dag_id}/runs",
}
"""Routes that no generated question is right for: they name a model, a figure or a Dag beyond their path."""
SAME_EACH_TIME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=20,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def known(store: KeptStore, mounts: dict[str, str]) -> dict[str, str]:
    """What there is, by the names of the parameters that ask for it."""
    version = publish_model(store, small_workflow(), small_catalog(mounts))
    record = answer_request(store, "two", QoSRequest.parse({"deadline_s": 10}), dag_id="nightly")[0]
    store.add_outcome(record.recommendation_id, {"measured_s": 4.0, "met_deadline": True})
    return {
        "name": "two",
        "model_id": version.model_id,
        "recommendation_id": record.recommendation_id,
        "dag_id": "nightly",
    }


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("named", ["anything", "what there is"])
def test_nothing_that_is_asked_breaks_the_server(
    client: Client, known: dict[str, str], mode: GenerationMode, named: str
) -> None:
    admin = client("admin")
    headers = dict(admin.headers)
    api = schemathesis.openapi.from_asgi(DOCUMENT, admin.app, headers=headers)
    asked = set()
    for found in api.get_all_operations():
        operation = found.ok()
        names = (
            {one.name: known[one.name] for one in operation.path_parameters} if named != "anything" else {}
        )

        @SAME_EACH_TIME
        @given(operation.as_strategy(mode, path_parameters=names or None))
        def ask(case: Any) -> None:
            answer = case.call_and_validate(checks=CHECKS, headers=headers)
            asked.add((case.operation.label, answer.status_code))

        ask()
    routes = {label for label, _ in asked}
    assert len(routes) >= 7
    if mode is GenerationMode.POSITIVE and named != "anything":
        assert {label for label, status in asked if status == 200} == routes - NOT_BY_CHANCE
