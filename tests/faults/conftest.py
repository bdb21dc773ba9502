"""The small workflow on a disk that is sound and on a tier that breaks, in Dags that really run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.base import RecommendationRecord
from tests.support import faulty_tier as faulty
from tests.support.faulty_tier import FaultyTier, faulty_tier
from tests.support.small_model import KeptStore, publish_model, small_workflow
from tests.support.small_run import TASK, run_file, write_initial_data

DAG_FILE = """\
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from qosflow_airflow.operators.clean import QoSCleanOperator
from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.copy import LocalCopies
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

with DAG("faults", schedule=None, default_args={{"retries": {retries}, "retry_delay": 0.1}}) as dag:
    recommend = QoSRecommendOperator(
        task_id="recommend", workflow="two", max_nodes=1, probe_timeout_s=1, {asked}
    )
    split = stage_group("split", BashOperator, LocalCopies(recommend), bash_command={command!r})
    # What breaks between two stages.
    between = BashOperator(task_id="between", bash_command={fault!r})
    split.run >> between
    merge = stage_group(
        "merge", BashOperator, LocalCopies(recommend), after=[split, between], final=True,
        bash_command={command!r},
    )
    compare = QoSCompareOperator(task_id="compare", recommendation=recommend.output, trigger_rule="all_done")
    merge.ends >> compare >> QoSCleanOperator(task_id="clean", recommendation=recommend.output)
"""

RECORD = """
import time
records = pathlib.Path(os.environ['QOSFLOW_RECORDS'])
records.mkdir(parents=True, exist_ok=True)
(records / (os.environ['QOSFLOW_STAGE'] + index + '.json')).write_text(json.dumps({
    'stage': os.environ['QOSFLOW_STAGE'], 'index': int(index), 'read_s': 0.1, 'write_s': 0.1,
    'start_s': time.time() - 1, 'end_s': time.time()}))
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> KeptStore:
    kept = KeptStore()
    monkeypatch.setattr(QoSFlowHook, "get_store", lambda _: kept)
    return kept


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    write_initial_data(tmp_path / "disk")
    return tmp_path / "disk"


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[FaultyTier]:
    """The faster tier: a file system that can be broken for real."""
    reason = faulty.why_not()
    if reason is not None:
        pytest.skip(reason)
    with faulty_tier(tmp_path / "fast") as tier:
        yield tier


def publish(store: KeptStore, disk: Path, fast: Path, third: Path | None = None) -> None:
    """Publish a model of the small workflow in which every tier but the disk is fast."""
    local = {"fast": fast, "third": third}
    tiers = [StorageTier(name, False, str(mount)) for name, mount in local.items() if mount is not None]
    catalog = TierCatalog((StorageTier("disk", True, str(disk)), *tiers), "disk")
    publish_model(store, small_workflow(), catalog)


def recommendations(store: KeptStore) -> list[RecommendationRecord]:
    """Return the recommendations of the run, the first one first."""
    return list(reversed(store.recommendations()))


RunWithFault = Callable[..., Any]


@pytest.fixture
def run_with_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, airflow_database: None) -> RunWithFault:
    """Run the workflow; the Python program ``fault`` runs between its two stages."""

    def run(
        fault: str = "", asked: str = "fallback=True", task: str = TASK + RECORD, retries: int = 0
    ) -> Any:
        (tmp_path / "fault.py").write_text(fault)
        (tmp_path / "task.py").write_text(task)
        command = f"{sys.executable} {tmp_path / 'task.py'}"
        text = DAG_FILE.format(
            asked=asked, retries=retries, command=command, fault=f"{sys.executable} {tmp_path / 'fault.py'}"
        )
        return run_file(text, tmp_path / "dags", "faults", monkeypatch)

    return run
