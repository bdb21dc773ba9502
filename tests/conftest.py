"""What all tests share: an Airflow of their own, before anything imports it, and a Postgres of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parent.parent


def _isolate_airflow() -> Path:
    """Point Airflow at an empty home and forget what the developer's shell says of another installation."""
    for name in list(os.environ):
        if name.startswith("AIRFLOW_"):
            del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="qosflow-airflow-"))
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
    os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home / 'airflow.db'}"
    return home


# At import, not in a fixture: Airflow reads its settings once, when a test module first imports it.
AIRFLOW_HOME = _isolate_airflow()


def pytest_unconfigure() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated, empty Airflow metadata database (SQLite) behind this process's Airflow."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real Postgres server, on its database ``postgres``, where a test may create databases."""
    from embedded_postgres import prepare_postgres
    from state import free_port

    # Not pytest's own temporary folder: that one is private, and root's server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-postgres-"))
    server = prepare_postgres(folder / "postgres", os.environ)
    try:
        yield server.start(free_port(), "test", {"fsync": "off", "full_page_writes": "off"}) + "/postgres"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """The URL of a new, empty database of this test's own."""
    import psycopg2

    name = f"test_{uuid4().hex}"
    server = psycopg2.connect(postgres_url)
    server.autocommit = True
    try:
        with server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        yield postgres_url.removesuffix("postgres") + name
        with server.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        server.close()
