"""What an answer reads: of past runs and other models, each once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from psycopg2.extras import RealDictCursor

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.queries import queries
from tests.support.small_model import publish_model, small_catalog, small_workflow

MOUNTS = {"disk": "/disk", "ram": "/ram"}


class CountingStore(MemoryStore):
    """Counts what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[tuple[str, ...]] = Counter()

    def list_workflows(self, *args: Any, **kwargs: Any) -> Any:
        self.asked["list_workflows",] += 1
        return super().list_workflows(*args, **kwargs)

    def newest_model(self, workflow: str) -> Any:
        self.asked["newest_model", workflow] += 1
        return super().newest_model(workflow)

    def runs(self, workflow: str | None = None, limit: int = 50, **kwargs: Any) -> Any:
        self.asked["runs", str(workflow)] += 1
        return super().runs(workflow, limit, **kwargs)


@pytest.fixture
def store() -> CountingStore:
    """Two workflows, the second of which has run three times."""
    kept = CountingStore()
    for name in ("two", "three"):
        publish_model(kept, replace(small_workflow(), name=name), small_catalog(MOUNTS))
    stages = {stage: {"measured_s": 2.0, "measured": {}} for stage in ("split", "merge")}
    for measured_s in (5.0, 6.0, 7.0):
        record = answer_request(kept, "three", QoSRequest(max_nodes=1))[0]
        kept.add_outcome(record.recommendation_id, {"measured_s": measured_s, "stages": stages})
    kept.asked.clear()
    return kept


def test_an_answer_reads_every_workflow_once(store: CountingStore) -> None:
    assert "cases" in answer_request(store, "two", QoSRequest(max_nodes=1))[0].answer
    names = [("runs", "two"), ("runs", "three"), ("newest_model", "two"), ("newest_model", "three")]
    assert store.asked == dict.fromkeys([("list_workflows",), *names], 1)


def test_an_answer_sends_few_statements(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(database_url)
    names = {text: name for name, text in queries().items()}
    sent: Counter[str] = Counter()
    execute = RealDictCursor.execute

    def noted(cursor: RealDictCursor, statement: Any, values: Any = None) -> Any:
        sent[names[statement]] += 1
        return execute(cursor, statement, values)

    with PostgresStore(database_url) as store:
        publish_model(store, small_workflow(), small_catalog(MOUNTS))
    monkeypatch.setattr(RealDictCursor, "execute", noted)
    with PostgresStore(database_url) as store:
        answer_request(store, "two", QoSRequest(max_nodes=1))
    once = ("applied_migrations", "models_of_workflow", "runs", "workflows", "add_recommendation")
    assert sent == {"model_part": 2, **dict.fromkeys(once, 1)}


def test_runs_are_read_again_only_where_there_may_be_more(store: CountingStore) -> None:
    past = PastRuns(store)
    newest = store.runs("three", limit=5)
    store.asked.clear()
    assert [past.runs("three", limit) for limit in (2, 1, 2)] == [newest[:2], newest[:1], newest[:2]]
    assert store.asked["runs", "three"] == 1
    assert [past.runs("three", limit) for limit in (5, 50, 3)] == [newest, newest, newest]
    assert store.asked["runs", "three"] == 2


def test_a_workflow_without_a_model_has_none(store: CountingStore) -> None:
    store.register_workflow("empty", "/empty")
    past = PastRuns(store)
    assert past.workflows == ("empty", "three", "two")
    assert [past.model("empty"), past.model("empty")] == [None, None]
    assert store.asked["newest_model", "empty"] == 1
