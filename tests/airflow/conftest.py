"""A store in memory that every hook of a test leads to, with a small model in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import (
    FakeTaskInstance,
    KeptStore,
    publish_model,
    small_catalog,
    small_workflow,
)


@pytest.fixture
def ti() -> FakeTaskInstance:
    return FakeTaskInstance()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> KeptStore:
    kept = KeptStore()
    monkeypatch.setattr(QoSFlowHook, "get_store", lambda _: kept)
    return kept


@pytest.fixture
def mounts(tmp_path: Path) -> dict[str, str]:
    return {"disk": str(tmp_path / "disk"), "ram": str(tmp_path / "ram")}


@pytest.fixture
def workflow() -> Workflow:
    return small_workflow()


@pytest.fixture
def catalog(mounts: dict[str, str]) -> TierCatalog:
    return small_catalog(mounts)


@pytest.fixture
def published(store: KeptStore, workflow: Workflow, catalog: TierCatalog) -> ModelVersion:
    return publish_model(store, workflow, catalog)
