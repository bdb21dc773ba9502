"""Tasks that fail and are tried again, and a database that is away."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qosflow_airflow.hooks.qosflow import QoSFlowHook
from tests.faults.conftest import RECORD, RunWithFault, publish, recommendations
from tests.support.small_model import KeptStore
from tests.support.small_run import TASK, run_file, states

pytestmark = pytest.mark.airflow

DIES_AT_FIRST = """\
import json, os, pathlib, signal
tries = pathlib.Path({folder!r}, os.environ['QOSFLOW_STAGE'] + os.environ['QOSFLOW_INDEX'])
tries.write_text(tries.read_text() + '.' if tries.exists() else '.')
if len(tries.read_text()) == 1:
    output = pathlib.Path(os.environ['QOSFLOW_OUTPUT'])
    output.mkdir(parents=True, exist_ok=True)
    piece = 'piece' + os.environ['QOSFLOW_INDEX'] + '.txt'
    (output / ('all.txt' if os.environ['QOSFLOW_STAGE'] == 'merge' else piece)).write_text('hal')
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_tasks_that_are_killed_halfway_are_tried_again_and_nothing_half_is_read(
    store: KeptStore, disk: Path, tmp_path: Path, run_with_fault: RunWithFault
) -> None:
    publish(store, disk, tmp_path / "fast")
    (tmp_path / "tries").mkdir()
    task = DIES_AT_FIRST.format(folder=str(tmp_path / "tries")) + TASK + RECORD
    run = run_with_fault(asked="fallback=True", task=task, retries=1)
    assert run.state == "success"
    assert {path.name: path.read_text() for path in (tmp_path / "tries").iterdir()} == dict.fromkeys(
        ["split0", "split1", "split2", "merge0"], ".."
    )
    (result,) = disk.rglob("final/merge/all.txt")
    assert result.read_text() == "one two three"
    # One recommendation, one outcome, no folder of the run on the tier that was cleaned.
    (record,) = recommendations(store)
    assert len(store.outcomes(record.recommendation_id)) == 1
    assert list((tmp_path / "fast").iterdir()) == []


def test_a_stage_that_fails_again_and_again_stops_the_run_and_keeps_what_was_written(
    store: KeptStore, disk: Path, tmp_path: Path, run_with_fault: RunWithFault
) -> None:
    publish(store, disk, tmp_path / "fast")
    task = f"import os\nif os.environ['QOSFLOW_STAGE'] == 'merge': raise SystemExit(3)\n{TASK}{RECORD}"
    run = run_with_fault(task=task, retries=1)
    assert run.state == "failed"
    found = states(run)
    assert found["split.run"] == ["success"] * 3
    assert found["merge.run"] == ["failed"]
    assert found["merge.stage_out"] == found["clean"] == ["upstream_failed"]
    assert found["compare"] == ["failed"]
    assert len(list((tmp_path / "fast").rglob("output/split/piece*.txt"))) == 3
    assert not list(disk.rglob("all.txt"))


def test_postgres_that_is_gone_fails_the_recommendation_after_its_retries(
    airflow_database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as held:
        # A port that nothing listens on, and that nobody takes meanwhile.
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", f"postgresql://qosflow@127.0.0.1:{port}/qosflow")
        run = run_file(GONE, tmp_path / "dags", "gone", monkeypatch)
    assert run.state == "failed"
    assert states(run) == {
        "recommend": ["failed"],
        "merge.stage_in": ["upstream_failed"],
        "merge.run": ["upstream_failed"],
    }
    (tried,) = [ti for ti in run.get_task_instances() if ti.task_id == "recommend"]
    assert tried.try_number == 2
    assert "Connection refused" in capsys.readouterr().out


GONE = """\
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from qosflow_airflow.operators.copy import LocalCopies
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

with DAG("gone", schedule=None, default_args={"retries": 1, "retry_delay": 0.1}) as dag:
    recommend = QoSRecommendOperator(task_id="recommend", workflow="two")
    stage_group("merge", BashOperator, LocalCopies(recommend), bash_command="true")
"""


def test_postgres_that_is_gone_when_a_run_must_be_planned_again_fails_the_stage(
    store: KeptStore,
    disk: Path,
    tmp_path: Path,
    run_with_fault: RunWithFault,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run's own plan needs no database: only what changes it does."""
    (tmp_path / "file").write_text("")
    publish(store, disk, tmp_path / "file" / "fast")
    real, opened = QoSFlowHook.get_store, []

    def once(hook: QoSFlowHook) -> object:
        opened.append(hook)
        if len(opened) > 1:
            from qosflow_airflow.store import open_store

            return open_store("postgresql://qosflow@127.0.0.1:1/qosflow")
        return real(hook)

    monkeypatch.setattr(QoSFlowHook, "get_store", once)
    run = run_with_fault()
    assert run.state == "failed"
    assert states(run)["split.stage_in"] == ["failed"]
    assert "Connection refused" in capsys.readouterr().out
    assert len(recommendations(store)) == 1
