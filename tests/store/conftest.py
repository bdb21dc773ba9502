"""Both stores, empty for each test, and short ways to fill them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg2
import pytest
from psycopg2 import extensions

from qosflow_airflow.store.base import ModelVersion, RecommendationRecord, Store
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.postgres import PostgresStore

PARTS = {
    ("configurations", "2"): b"two nodes",
    ("configurations", "10"): b"ten nodes",
    ("regions", None): b"{}",
}
TABLES = (
    *("observations", "report_cards", "outcomes", "recommendations", "model_parts", "models"),
    *("build_parts", "builds", "workflows"),
)
DIGEST = "0123456789abcdef" * 4

OpenStore = Callable[..., PostgresStore]


@pytest.fixture(scope="session")
def migrated_url(postgres_url: str) -> str:
    """A migrated database that the tests of this folder share; each empties it first."""
    name = f"store_{uuid4().hex}"
    server = psycopg2.connect(postgres_url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    server.close()
    url = postgres_url.removesuffix("postgres") + name
    upgrade(url)
    return url


@pytest.fixture(scope="session")
def cleaner(migrated_url: str) -> Iterator[extensions.connection]:
    """A connection that may remove what triggers and foreign keys keep."""
    connection = psycopg2.connect(migrated_url, options="-csession_replication_role=replica")
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.fixture
def url(migrated_url: str, cleaner: extensions.connection) -> str:
    """The shared database, emptied."""
    with cleaner.cursor() as cursor:
        cursor.execute(";".join(f"delete from qosflow.{table}" for table in TABLES))
    return migrated_url


@pytest.fixture
def open_postgres(url: str) -> Iterator[OpenStore]:
    """Open a store on the empty database, as often as wanted."""
    opened: list[PostgresStore] = []

    def open_it(**options: float) -> PostgresStore:
        opened.append(PostgresStore(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def postgres(open_postgres: OpenStore) -> PostgresStore:
    return open_postgres()


@pytest.fixture
def raw(url: str) -> Iterator[extensions.connection]:
    """A connection beside the store's own, to look and to interfere."""
    connection = psycopg2.connect(url)
    yield connection
    connection.close()


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "postgres":
        yield request.getfixturevalue("postgres")
    else:
        with MemoryStore() as memory:
            yield memory


@pytest.fixture
def new_build() -> Callable[..., str]:
    """Start a build with all its parts."""

    def new_build(store: Store, workflow: str = "genome") -> str:
        store.register_workflow(workflow, f"/bundles/{workflow}")
        build_id = store.create_build(workflow, {"scales": [2, 10]}, {"workflow.yaml": DIGEST})
        for (kind, scale), content in PARTS.items():
            store.put_part(build_id, kind, scale, content)
        return build_id

    return new_build


@pytest.fixture
def new_model(new_build: Callable[..., str]) -> Callable[..., ModelVersion]:
    """Publish a new build with all its parts."""

    def new_model(store: Store, workflow: str = "genome") -> ModelVersion:
        build_id = new_build(store, workflow)
        return store.publish(build_id, {"configurations": 261}, list(PARTS), qosflow_version="0.1.0")

    return new_model


@pytest.fixture
def new_recommendation(new_model: Callable[..., ModelVersion]) -> Callable[..., RecommendationRecord]:
    """Keep a recommendation by a new model."""

    def new_recommendation(store: Store, workflow: str = "genome", **fields: object) -> RecommendationRecord:
        values: dict[str, object] = {
            "model_id": new_model(store, workflow).model_id,
            "workflow": workflow,
            "request": {"deadline_s": 200.0},
            "answer": {"nodes": 10, "tiers": {"individuals": "beegfs"}},
            "status": "feasible",
        }
        return store.add_recommendation(RecommendationRecord(**(values | fields)))  # type: ignore[arg-type]

    return new_recommendation
