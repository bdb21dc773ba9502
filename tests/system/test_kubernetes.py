"""Pods on a real cluster, the one that KUBECONFIG names: its server takes them, its scheduler places them.

The home tier is a folder of this machine that the cluster's nodes see under the same path: clusters on this
machine do. The image of the workload (``QOSFLOW_GENOME_IMAGE``) must be loaded. Nodes that are only objects
("hollow") show where a scheduler puts pods when there are several nodes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.placement import place
from qosflow_airflow.core.pods import PodPlan, plan_pods
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from tests.dags.conftest import Installation, RunDag, installation, run_dag
from tests.dags.test_runs import returned, states
from tests.faults.conftest import recommendations, store
from tests.faults.test_tiers import BREAK, REASONS, ROOT
from tests.kubernetes.conftest import ALL, BuildModel, build_model, watched
from tests.kubernetes.test_genome_pods import labels, outputs, pinned
from tests.support import faulty_tier as faulty
from tests.support.faulty_tier import faulty_tier
from tests.support.pod_run import run_pods
from tests.support.small_model import KeptStore, publish_model, small_workflow
from tests.support.small_run import write_initial_data

__all__ = ["build_model", "installation", "run_dag", "store", "watched"]

pytestmark = [
    pytest.mark.system,
    pytest.mark.airflow,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="needs a cluster: set KUBECONFIG"),
]

IMAGE = os.environ.get("QOSFLOW_GENOME_IMAGE", "qosflow-genome:latest")


@dataclass(frozen=True)
class Cluster:
    client: Any
    namespace: str


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A namespace of its own in the cluster, and Airflow connected to it."""
    from kubernetes import client, config

    api = client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))
    name = f"qosflow-{uuid4().hex[:8]}"
    api.create_namespace({"metadata": {"name": name}})
    extra = f'{{"conn_type": "kubernetes", "extra": {{"kube_config_path": "{os.environ["KUBECONFIG"]}"}}}}'
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", extra)
    # The trigger of a deferred task takes one or the other.
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("QOSFLOW_GENOME_NAMESPACE", name)
    monkeypatch.setenv("QOSFLOW_GENOME_IMAGE", IMAGE)
    yield Cluster(api, name)
    api.delete_collection_namespaced_pod(name, grace_period_seconds=0)
    api.delete_namespace(name)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in the memory of this machine, which is that of the cluster's node."""
    folder = Path(tempfile.mkdtemp(prefix="qosflow-tier-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def same_as_local(home: Path, installation: Installation, run_dag: RunDag) -> None:
    """Final outputs are, byte for byte, those of local processes."""
    local = run_dag("genome_local", deadline_s=600)
    assert outputs(home) == outputs(installation.disk / returned(local, "recommend")["recommendation_id"])


def test_a_run_in_pods_with_volumes_in_memory_gives_what_local_processes_give(
    cluster: Cluster, installation: Installation, build_model: BuildModel, run_dag: RunDag
) -> None:
    volume = {"empty_dir": True, "size_limit_gib": 0.25, "requests": {"cpu": "50m", "memory": "32Mi"}}
    build_model(1, disk={"host_path": str(installation.disk)}, tmpfs=volume)
    tiers = dict.fromkeys(ALL, "tmpfs") | {"sifting": "disk", "frequency": "disk"}
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**tiers))
    assert run.state == "success"
    assert labels(run, "individuals.run") == ["individuals 1-10/10 on tmpfs"]
    assert labels(run, "frequency.run") == ["frequency 1/2 on disk", "frequency 2/2 on disk"]
    assert states(run)["mutation_overlap.stage_out"] == ["skipped"]
    summary, comparison = returned(run, "recommend"), returned(run, "compare")
    assert set(comparison["stages"]) == set(ALL)
    home = installation.disk / summary["recommendation_id"]
    assert {path.name for path in home.iterdir()} == {"records", "output", "final"}
    assert cluster.client.list_namespaced_pod(cluster.namespace).items == []
    same_as_local(home, installation, run_dag)


def test_a_deferred_run_on_a_tier_of_the_node_reads_what_lies_there(
    cluster: Cluster,
    installation: Installation,
    build_model: BuildModel,
    run_dag: RunDag,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    watched: list[str],
) -> None:
    monkeypatch.setenv("QOSFLOW_GENOME_DEFERRABLE", "true")
    tmpfs = {"host_path": str(memory), "size_limit_gib": 0.25}
    build_model(1, disk={"host_path": str(installation.disk)}, tmpfs=tmpfs)
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**dict.fromkeys(ALL, "tmpfs")))
    assert run.state == "success"
    assert set(watched) == {"success"}
    home = installation.disk / returned(run, "recommend")["recommendation_id"]
    copied = {path.stem for path in (home / "records" / "copies").iterdir()}
    assert "individuals_merge-individuals-0" not in copied
    assert "frequency-frequency-0" in copied
    assert list(memory.iterdir()) == []


def test_a_claim_that_is_not_there_fails_before_any_pod(
    cluster: Cluster, build_model: BuildModel, run_dag: RunDag, capsys: pytest.CaptureFixture[str]
) -> None:
    build_model(1, disk={"claim": "nobody-made-it"}, tmpfs={"empty_dir": True, "size_limit_gib": 0.1})
    run = run_dag("genome_pods", deadline_s=600)
    assert states(run)["pods"] == ["failed"]
    assert f"nobody-made-it, and there is none of this name in {cluster.namespace}" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["make_read_only", "fill"])
def test_a_tier_of_the_node_that_breaks_is_left_and_what_lies_there_is_read(
    fault: str,
    cluster: Cluster,
    store: KeptStore,
    airflow_database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reason := faulty.why_not():
        pytest.skip(reason)
    write_initial_data(tmp_path / "disk")
    with faulty_tier(tmp_path / "fast") as tier:
        tiers = [
            StorageTier(
                name, name == "disk", f"/qosflow/{name}", volume=ClusterVolume("host_path", str(folder))
            )
            for name, folder in (("disk", tmp_path / "disk"), ("fast", tier.mount))
        ]
        publish_model(store, small_workflow(), TierCatalog(tuple(tiers), "disk"))
        run = run_pods(
            tmp_path,
            monkeypatch,
            BREAK.format(root=str(ROOT), mount=str(tier.mount), fault=fault),
            image=IMAGE,
            python="python3",
            namespace=cluster.namespace,
        )
        left = list(tier.mount.glob("*/output/split/piece*.txt"))
    assert run.state == "success"
    assert states(run)["records"] == states(run)["compare"] == ["success"]
    assert labels(run, "split.run") == ["split 1-3/3 on fast"]
    assert labels(run, "merge.run") == ["merge 1/1 on disk"]
    (result,) = [path for path in (tmp_path / "disk").rglob("all.txt") if "staged" not in path.parts]
    assert result.read_text() == "one two three"
    _, second = recommendations(store)
    assert second.answer["replans"]["begun"] == {"split": "fast"}
    assert second.answer["replans"]["failed"] == {"fast": REASONS[fault]}
    assert (left != []) == (fault == "make_read_only")


def test_a_volume_that_a_kubelet_cannot_mount_is_left_out(
    cluster: Cluster,
    store: KeptStore,
    airflow_database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_initial_data(tmp_path / "disk")
    tiers = [
        StorageTier(
            name, name == "disk", f"/qosflow/{name}", volume=ClusterVolume("host_path", str(tmp_path / name))
        )
        for name in ("disk", "fast")
    ]
    publish_model(store, small_workflow(), TierCatalog(tuple(tiers), "disk"))
    settings = {"image": IMAGE, "python": "python3", "namespace": cluster.namespace}
    run = run_pods(tmp_path, monkeypatch, **settings)
    assert run.state == "success"
    _, second = recommendations(store)
    assert "hostPath type check failed" in second.answer["replans"]["failed"]["fast"]
    assert labels(run, "split.run") == ["split 1-2/3 on disk", "split 3/3 on disk"]


@pytest.fixture
def hollow(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Six nodes without machines: four of a tier, of which one is tainted, and two of none. Name to label."""
    prefix = f"hollow-{uuid4().hex[:6]}"
    names = {f"{prefix}-{at}": "nvme" if at < 4 else "disk" for at in range(6)}
    for at, (name, tier) in enumerate(names.items()):
        taints = [{"key": "qosflow/broken", "value": "yes", "effect": "NoSchedule"}] if at == 3 else []
        node = {"metadata": {"name": name, "labels": {"qosflow/test-tier": tier}}, "spec": {"taints": taints}}
        cluster.client.create_node(node)
        room = {"cpu": "4", "memory": "8Gi", "pods": "20"}
        ready = {"type": "Ready", "status": "True", "reason": "Hollow", "message": ""}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        cluster.client.patch_node_status(name, {"status": status})
    yield names
    for name in names:
        cluster.client.delete_node(name)


def planned(nodes: tuple[str, ...], tiers: Mapping[str, str]) -> PodPlan:
    label = {"qosflow/test-tier": "nvme"}
    shared = ClusterVolume("host_path", "/tmp", requests={"cpu": "100m"})
    local = ClusterVolume("empty_dir", size_bytes=2**30, node_selector=label, requests={"cpu": "1"})
    catalog = TierCatalog(
        (
            StorageTier("disk", True, "/disk", volume=shared),
            StorageTier("ram", False, "/ram", memory=True, volume=local),
        )
    )
    configuration = Configuration(len(nodes), tiers)
    placement = place(small_workflow(), catalog, configuration, recommendation_id="r1", initial_data=None)
    return plan_pods(placement, catalog, nodes)


def created(cluster: Cluster, row: Mapping[str, Any]) -> str:
    """Create a pod as the operator would, and return its name."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    from qosflow_airflow.operators.pod_rows import pod_kwargs

    kwargs = {**pod_kwargs(row), "cmds": ["sh"], "env_vars": dict(row["env_vars"])}
    operator = KubernetesPodOperator(
        task_id="pod", image=IMAGE, namespace=cluster.namespace, arguments=["-c", "true"], **kwargs
    )
    pod = operator.build_pod_request_obj(dry_run=True)
    return str(cluster.client.create_namespaced_pod(cluster.namespace, pod).metadata.name)


def scheduled_on(cluster: Cluster, pod: str, limit_s: float = 30) -> str | None:
    """Return the node that the scheduler chose."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = cluster.client.read_namespaced_pod(pod, cluster.namespace).spec.node_name
        if found is not None:
            return str(found)
        time.sleep(0.2)
    return None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_scheduler_puts_pods_where_they_were_planned(
    cluster: Cluster, hollow: Mapping[str, str], count: int
) -> None:
    from qosflow_airflow.core.cluster_nodes import choose_nodes
    from qosflow_airflow.operators.cluster import read_nodes

    end = time.monotonic() + 20
    usable: list[Any] = []
    # A new node is tainted until the cluster's controllers have seen that it is ready.
    while len(usable) < 5 and time.monotonic() < end:
        found = [node for node in read_nodes(cluster.client) if node.name in hollow]
        usable = [node for node in found if node.usable and not node.taints]
        time.sleep(0.2)
    nodes = choose_nodes(
        found,
        count,
        node_selector={"qosflow/test-tier": "nvme"},
        tolerations=[],
        requests=[{"cpu": "2", "memory": "1Gi"}],
        seed="r1",
    )
    assert len(set(nodes)) == count
    assert {hollow[name] for name in nodes} == {"nvme"}
    assert list(hollow)[3] not in nodes  # tainted
    rows = planned(nodes, {"split": "ram", "merge": "disk"}).stages
    assert len(rows["split"]) == min(count, 3)
    for row in (*rows["split"], *rows["merge"]):
        where = scheduled_on(cluster, created(cluster, row))
        assert where == row["annotations"]["qosflow/node"]
