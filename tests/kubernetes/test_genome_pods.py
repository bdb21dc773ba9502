"""The Dag of the genome workflow in pods, run for real: its pods' commands, volumes and copies are real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import ROOT, Installation, RunDag
from tests.dags.test_runs import returned, states
from tests.kubernetes.conftest import ALL, DISK, MEMORY, BuildModel
from tests.support.fake_cluster import FakeCluster

pytestmark = [pytest.mark.airflow, pytest.mark.system]


def pinned(**tiers: str) -> str:
    return ",".join(f"{stage}={tier}" for stage, tier in tiers.items())


def labels(run: Any, task_id: str) -> list[str]:
    """Return what the grid shows for the instances of a mapped task."""
    found = {ti.map_index: ti.rendered_map_index for ti in run.get_task_instances() if ti.task_id == task_id}
    return [found[index] for index in sorted(found)]


def placed(cluster: FakeCluster, stage: str) -> list[str]:
    """Return the nodes on which pods of a stage ran."""
    pods = [
        pod for pod in cluster.made if pod["metadata"]["annotations"]["qosflow/label"].startswith(f"{stage} ")
    ]
    return sorted(pod["spec"]["nodeName"] for pod in pods)


def outputs(folder: Path) -> str:
    """Return the digest of all final outputs in a folder of a run, wherever below it they lie."""
    program = str(ROOT / "examples" / "genome" / "genome.py")
    digests = []
    for stage in ("mutation_overlap", "frequency"):
        kept = folder / "final" / stage
        kept = kept if kept.exists() else folder / "output" / stage
        done = subprocess.run(
            [sys.executable, program, "verify", str(kept)], capture_output=True, text=True, check=True
        )
        digests.append(done.stdout.split()[0])
    return " ".join(digests)


def test_on_two_nodes_and_volumes_of_pods_the_run_is_that_of_one_machine(
    cluster: FakeCluster,
    installation: Installation,
    build_model: BuildModel,
    run_dag: RunDag,
) -> None:
    build_model(2, disk=DISK, tmpfs={**MEMORY, "node_selector": {"qosflow/tier": "fast"}})
    tiers = dict.fromkeys(ALL, "tmpfs") | {"sifting": "disk", "frequency": "disk"}
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**tiers))
    assert run.state == "success"
    found = states(run)
    assert found["individuals.stage_in"] == found["sifting.stage_in"] == ["success"]
    assert found["mutation_overlap.stage_out"] == found["frequency.stage_out"] == ["skipped"]
    assert labels(run, "individuals.run") == [
        "individuals 1,3,5,7,9/10 on tmpfs",
        "individuals 2,4,6,8,10/10 on tmpfs",
    ]
    assert labels(run, "sifting.run") == ["sifting 1/2 on disk", "sifting 2/2 on disk"]
    for stage in ALL:
        assert placed(cluster, stage) == ["a", "b"]
    # Nothing was made for nothing: two pods per stage, one that reads records, one that cleans the home tier.
    assert len(cluster.made) == 2 * len(ALL) + 2
    summary, comparison = returned(run, "recommend"), returned(run, "compare")
    assert summary["configuration"]["nodes"] == 2
    assert summary["tasks"]["individuals"] == 10
    assert comparison["stages"]["individuals"]["tasks"] == 10
    home = installation.disk / summary["recommendation_id"]
    assert len(list((home / "records").glob("*.json"))) == 18
    assert {path.name for path in home.iterdir()} == {"records", "output", "final"}
    local = run_dag("genome_local", deadline_s=600, pin=None)
    assert outputs(home) == outputs(installation.disk / returned(local, "recommend")["recommendation_id"])


def test_deferred_on_one_node_what_lies_there_is_read_there(
    cluster: FakeCluster,
    installation: Installation,
    build_model: BuildModel,
    run_dag: RunDag,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QOSFLOW_GENOME_DEFERRABLE", "true")
    for node in cluster.nodes:
        (cluster.folder / "nodes" / node / "scratch").mkdir(parents=True)
    build_model(1, disk=DISK, tmpfs={"host_path": "/scratch", "size_limit_gib": 1})
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**dict.fromkeys(ALL, "tmpfs")))
    assert run.state == "success"
    assert len(cluster.made) == len(ALL) + 2
    (node,) = {pod["spec"]["nodeName"] for pod in cluster.made}
    # Inputs from the home tier were brought in once per stage; what a stage wrote was read where it lay.
    copies = installation.disk / returned(run, "recommend")["recommendation_id"] / "records" / "copies"
    assert sorted(path.stem for path in copies.iterdir()) == [
        "frequency-frequency-0",
        "frequency-initial_data-0",
        "individuals-initial_data-0",
        "mutation_overlap-initial_data-0",
        "mutation_overlap-mutation_overlap-0",
        "sifting-initial_data-0",
    ]
    assert list((cluster.folder / "nodes" / node / "scratch").iterdir()) == []


def test_a_failed_task_fails_its_pod_and_says_which(
    cluster: FakeCluster, build_model: BuildModel, run_dag: RunDag, capsys: pytest.CaptureFixture[str]
) -> None:
    build_model(1, disk=DISK, tmpfs=MEMORY)
    cluster.path = "/nowhere:" + cluster.path.partition(":")[2]
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**dict.fromkeys(ALL, "tmpfs")))
    assert run.state == "failed"
    found = states(run)
    assert found["individuals.run"] == found["sifting.run"] == ["failed"]
    assert found["frequency.run"] == ["upstream_failed"]
    assert (
        "these tasks of sifting failed: index 0 with code 127; index 1 with code 127;"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ({"disk": DISK}, "no volume in the cluster for tmpfs"),
        (
            {"disk": {"claim": "gone"}, "tmpfs": MEMORY},
            "tier 'disk' is bound to the claim gone, and there is none",
        ),
        ({}, "No tier of the model has a volume in a cluster"),
        (
            {"disk": DISK, "tmpfs": {**MEMORY, "node_selector": {"qosflow/tier": "tape"}}},
            "needs 1 nodes with qosflow/tier=tape, and the cluster has 0",
        ),
        ({"disk": DISK, "tmpfs": {**MEMORY, "size_limit_gib": 9}}, "has 8Gi of memory, and a pod asks for"),
    ],
)
def test_what_the_cluster_lacks_fails_before_any_pod(
    volumes: dict[str, Any],
    said: str,
    cluster: FakeCluster,
    build_model: BuildModel,
    run_dag: RunDag,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build_model(1, **volumes)
    run = run_dag("genome_pods", deadline_s=600, pin=pinned(**dict.fromkeys(ALL, "tmpfs")))
    assert run.state == "failed"
    assert states(run)["pods"] == ["failed"]
    assert cluster.made == []
    assert said in capsys.readouterr().out
