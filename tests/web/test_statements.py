"""No page sends more statements to the database because there are more rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg2.extras import RealDictCursor

from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.queries import queries
from tests.web.conftest import Client
from tests.web.test_access import WRITES, fill
from tests.web.walk import Names, requests

pytestmark = pytest.mark.airflow

MORE = 4


class OpenStore(PostgresStore):
    """Stays open when a page closes it."""

    def close(self) -> None:
        pass


@pytest.fixture
def store(database_url: str) -> Iterator[OpenStore]:
    upgrade(database_url)
    store = OpenStore(database_url)
    yield store
    PostgresStore.close(store)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that were sent."""
    names = {text: name for name, text in queries().items()}
    found: list[str] = []
    execute = RealDictCursor.execute

    def noted(cursor: RealDictCursor, statement: Any, values: Any = None) -> Any:
        found.append(names[statement])
        return execute(cursor, statement, values)

    monkeypatch.setattr(RealDictCursor, "execute", noted)
    return found


def statements(client: Client, store: OpenStore, sent: list[str], names: Names) -> dict[str, Counter[str]]:
    """Return what each route sends where the server knows no model yet."""
    from qosflow_airflow.web.app import create_app

    headers = dict(client("admin").headers)
    counted = {}
    for asked in requests(create_app(lambda: store), names):
        if (asked.method, asked.route) not in WRITES:
            sent.clear()
            fresh = TestClient(create_app(lambda: store), headers=headers)
            answer = fresh.request(asked.method, asked.address, **asked.sending)
            assert answer.status_code == 200, (asked, answer.text)
            counted[f"{asked.method} {asked.route}"] = Counter(sent)
    return counted


def test_statements_do_not_grow_with_the_rows(
    client: Client, store: OpenStore, sent: list[str], mounts: dict[str, str]
) -> None:
    names = fill(store, mounts, "", "nightly", "manual__1+2")
    few = statements(client, store, sent, names)
    for at in range(MORE):
        fill(store, mounts, f" {at}", f"nightly {at}", "manual__1+2")
        fill(store, mounts, "", "nightly", "manual__1+2")
        fill(store, mounts, "", "nightly", f"manual__{at}")
        store.add_report_card(names.model_id, {"median_error": 0.1})
        store.add_outcome(names.recommendation_id, {"measured_s": 6.0})
    many = statements(client, store, sent, names)
    assert {route: many[route] - few[route] for route in few if many[route] - few[route]} == {}
    assert max(found.total() for found in few.values()) <= 12
