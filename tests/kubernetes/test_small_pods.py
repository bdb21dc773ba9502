"""Small runs in pods: copies between shared tiers, sync and deferred, in task groups, several tasks a pod."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from tests.support import fake_cluster
from tests.support.fake_cluster import FakeCluster, serving
from tests.support.small_model import KeptStore, publish_model, small_workflow
from tests.support.small_run import TASK, labels, run_file, states, write_initial_data

pytestmark = pytest.mark.airflow

DAG_FILE = """\
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from qosflow_airflow.operators.pods import PodCopies, QoSPodsOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

with DAG("pods_{name}", schedule=None) as dag:
    before = EmptyOperator(task_id="before")
    after = EmptyOperator(task_id="after", trigger_rule="none_failed")
    with TaskGroup("all"):
        recommend = QoSRecommendOperator(
            task_id="recommend", workflow="two", pin={pin!r}, max_nodes=1, rows="stage"
        )
        pods = QoSPodsOperator(
            task_id="pods", recommend_task_id=recommend.task_id, tasks_per_pod=2, copy_command={copy!r}
        )
        recommend >> pods
        copies = PodCopies(
            pods,
            image="any",
            deferrable={deferrable},
            startup_check_interval_seconds=1,
            base_container_status_polling_interval=0.2,
            poll_interval=0.2,
        )
        command = {{"arguments": [{python!r}, "-c", {task!r}]}}
        split = stage_group("split", KubernetesPodOperator, copies, after=[before], **command)
        merge = stage_group("merge", KubernetesPodOperator, copies, after=[split], final=True, **command)
        clean = copies.clean()
    merge.ends >> clean >> after
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, airflow_database: None) -> Iterator[FakeCluster]:
    """One node and two shared tiers, of which the home tier is seen by this machine too."""
    reason = fake_cluster.why_not()
    if reason is not None:
        pytest.skip(reason)
    kept = KeptStore()
    monkeypatch.setattr(QoSFlowHook, "get_store", lambda _: kept)
    claim = ClusterVolume("claim", "home")
    tiers = TierCatalog(
        (
            StorageTier("disk", True, str(tmp_path / "disk"), volume=claim),
            StorageTier(
                "fast", True, str(tmp_path / "seen"), volume=replace(claim, name="fast", sub_path="a")
            ),
        )
    )
    publish_model(kept, small_workflow(), tiers)
    write_initial_data(tmp_path / "disk")
    claims = {"home": tmp_path / "disk", "fast": tmp_path / "fast"}
    made = FakeCluster(tmp_path, os.environ["PATH"], {"node": {}}, claims)
    with serving(made) as config:
        extra = f'{{"conn_type": "kubernetes", "extra": {{"kube_config_path": "{config}"}}}}'
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", extra)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        yield made


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_pod_copies_between_shared_tiers_and_only_where_there_is_something_to_copy(
    deferrable: bool,
    cluster: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watched: list[str],
) -> None:
    name = f"copies_{deferrable}".lower()
    settings = {"pin": "split=disk,merge=fast", "copy": None, "deferrable": deferrable}
    text = DAG_FILE.format(name=name, python=sys.executable, task=TASK, **settings)
    run = run_file(text, tmp_path / "dags", f"pods_{name}", monkeypatch)
    assert run.state == "success"
    assert set(watched) == ({"success"} if deferrable else set())
    found = states(run)
    assert (
        found["all.split.stage_in"]
        == found["all.merge.stage_in"]
        == found["all.merge.stage_out"]
        == ["success"]
    )
    assert labels(run, "all.split.run") == ["split 1-2/3 on disk", "split 3/3 on disk"]
    made = [pod["metadata"]["annotations"]["qosflow/label"] for pod in cluster.made]
    # Which of a stage's pods comes first is Airflow's choice.
    assert [*sorted(made[:2]), *made[2:]] == [
        *("split 1-2/3 on disk", "split 3/3 on disk", "merge: copy in"),
        *("merge 1/1 on fast", "merge: copy out", "clean node"),
    ]
    (result,) = (tmp_path / "disk").rglob("all.txt")
    assert "/final/merge/" in str(result)
    assert result.read_text() == "one two three"
    assert list((tmp_path / "fast" / "a").iterdir()) == []


def test_a_command_of_the_user_may_copy(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = 'cp "$1"/*.txt "$2"/ && touch "$2/mine"'
    settings = {"pin": "split=disk,merge=fast", "copy": command, "deferrable": False}
    text = DAG_FILE.format(name="command", python=sys.executable, task=TASK, **settings)
    run = run_file(text, tmp_path / "dags", "pods_command", monkeypatch)
    assert run.state == "success"
    (result,) = (tmp_path / "disk").rglob("all.txt")
    assert result.read_text() == "one two three"
    assert result.with_name("mine").exists()
