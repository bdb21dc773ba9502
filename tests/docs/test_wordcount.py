"""The Dag that the pages show runs: pages are counted on the tier that the model of the test prefers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from tests.docs.pages import ROOT
from tests.support.small_model import KeptStore, publish_model

pytestmark = pytest.mark.airflow

WORKFLOW = Workflow(
    "wordcount",
    (
        Stage("words", 1, 2, {INITIAL_DATA: (r"page_\d+\.txt",)}, (r"page_\d+\.count",)),
        Stage("total", 2, 1, {"words": (r"page_\d+\.count",)}, (r"total\.txt",)),
    ),
)
PAGES = ("call me ishmael", "some years ago", "never mind how long precisely")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeptStore:
    kept = KeptStore()
    monkeypatch.setattr(QoSFlowHook, "get_store", lambda _: kept)
    tiers = TierCatalog(
        (
            StorageTier("disk", shared=True, mount=str(tmp_path / "disk")),
            StorageTier("ram", shared=False, mount=str(tmp_path / "ram")),
        )
    )
    publish_model(kept, WORKFLOW, tiers)
    initial = tmp_path / "disk" / "initial_data"
    initial.mkdir(parents=True)
    for number, text in enumerate(PAGES):
        (initial / f"page_{number}.txt").write_text(text, encoding="utf-8")
    return kept


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of the pages' Dags, which Airflow knows as a bundle of Dag files."""
    folder = str(ROOT / "docs" / "examples")
    bundle = {
        "name": "docs-examples",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": folder},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    return folder


@pytest.mark.parametrize(("deadline_s", "status"), [(60, "feasible"), (0.01, "nearest")])
def test_the_dag_of_the_pages_counts_words(
    deadline_s: float,
    status: str,
    store: KeptStore,
    examples: str,
    tmp_path: Path,
    airflow_database: None,
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(examples)
    assert bag.import_errors == {}
    finished = bag.dags["wordcount"].test(run_conf={"deadline_s": deadline_s})
    assert finished.state == "success"
    (record,) = store.recommendations()
    assert record.status == ("feasible" if status == "feasible" else "infeasible")
    (total,) = (tmp_path / "disk").rglob("total.txt")
    assert int(total.read_text(encoding="utf-8")) == sum(len(page.split()) for page in PAGES)
