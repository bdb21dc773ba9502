"""Pods that the cluster kills in the middle of their work: evicted, or out of memory."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.test_small_pods import DAG_FILE, cluster
from tests.support.fake_cluster import FakeCluster
from tests.support.small_run import TASK, run_file, states

__all__ = ["cluster"]

pytestmark = pytest.mark.airflow

STOPS_AT_FIRST = """\
import os, pathlib, time
marker = pathlib.Path({marker!r})
task = os.environ['QOSFLOW_STAGE'], os.environ['QOSFLOW_INDEX']
if task == ({stage!r}, '0') and (not marker.exists() or {always}):
    output = pathlib.Path(os.environ['QOSFLOW_OUTPUT'])
    output.mkdir(parents=True, exist_ok=True)
    (output / {name!r}).write_text('hal')
    marker.write_text('')
    time.sleep(30)
"""


def run_and_kill(
    cluster: FakeCluster,
    tmp_path: Path,
    patch: pytest.MonkeyPatch,
    *,
    reason: str,
    label: str,
    always: bool = False,
    deferrable: bool = False,
) -> Any:
    """Run the small workflow; kill the pod of this label when it has written half a file."""
    marker, stage = tmp_path / "marker", label.partition(" ")[0]
    name = "all.txt" if stage == "merge" else "piece0.txt"
    task = STOPS_AT_FIRST.format(marker=str(marker), stage=stage, name=name, always=always) + TASK
    dag = f"fault_{reason}_{always}_{deferrable}".lower()
    settings = {"pin": "split=disk,merge=fast", "copy": None, "deferrable": deferrable}
    text = DAG_FILE.format(name=dag, python=sys.executable, task=task, **settings)
    text = text.replace("schedule=None", 'schedule=None, default_args={"retries": 1, "retry_delay": 0.1}')

    def kill() -> None:
        for _ in range(2 if always else 1):
            while not marker.exists():
                time.sleep(0.05)
            marker.unlink() if always else None
            cluster.kill(label, reason)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run = run_file(text, tmp_path / "dags", f"pods_{dag}", patch)
    killer.join(timeout=1)
    assert not killer.is_alive()
    return run


@pytest.mark.parametrize(
    ("reason", "label", "deferrable"),
    [
        ("Evicted", "split 1-2/3 on disk", False),
        ("OOMKilled", "merge 1/1 on fast", False),
        pytest.param("OOMKilled", "split 1-2/3 on disk", True, marks=pytest.mark.system),
    ],
)
def test_a_pod_that_was_killed_is_run_again_and_nothing_half_is_read(
    reason: str,
    label: str,
    deferrable: bool,
    cluster: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_and_kill(cluster, tmp_path, monkeypatch, reason=reason, label=label, deferrable=deferrable)
    assert run.state == "success"
    assert reason in capsys.readouterr().out
    made = [pod["metadata"]["annotations"]["qosflow/label"] for pod in cluster.made]
    assert made.count(label) == 2
    assert len(made) == 6 + 1
    (result,) = (tmp_path / "disk").rglob("final/merge/all.txt")
    assert result.read_text() == "one two three"
    assert list((tmp_path / "fast" / "a").iterdir()) == []


def test_a_pod_that_is_killed_again_and_again_stops_the_run_and_copies_nothing_home(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_and_kill(
        cluster, tmp_path, monkeypatch, reason="OOMKilled", label="merge 1/1 on fast", always=True
    )
    assert run.state == "failed"
    found = states(run)
    assert found["all.split.run"] == ["success"] * 2
    assert found["all.merge.run"] == ["failed"]
    assert found["all.merge.stage_out"] == ["upstream_failed"]
    assert not list((tmp_path / "disk").rglob("final"))
    assert len(list((tmp_path / "disk").rglob("output/split/piece*.txt"))) == 3
