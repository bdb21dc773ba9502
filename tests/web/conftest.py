"""QoSFlow's pages under Airflow's own login, over a store in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.small_model import KeptStore

# Read once, when Airflow's auth manager is first asked for its users.
os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = "admin:admin,viewer:viewer"

Client = Callable[[str | None], TestClient]


@pytest.fixture
def store() -> KeptStore:
    return KeptStore()


@pytest.fixture
def client(store: KeptStore, airflow_database: None) -> Client:
    """Return a client that has logged in as a user of the role, or as nobody."""
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from qosflow_airflow.web.app import create_app

    manager = init_auth_manager()
    app = create_app(lambda: store)

    def connect(role: str | None) -> TestClient:
        headers = {}
        if role is not None:
            token = manager.generate_jwt(SimpleAuthManagerUser(username=role, role=role))
            headers["Authorization"] = f"Bearer {token}"
        return TestClient(app, headers=headers, raise_server_exceptions=False)

    return connect


@pytest.fixture
def mounts(tmp_path: Path) -> dict[str, str]:
    return {"disk": str(tmp_path / "disk"), "ram": str(tmp_path / "ram")}
