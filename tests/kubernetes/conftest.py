"""The installation of the Dags' tests, with tiers that are bound to volumes of a cluster."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dags.conftest import ROOT, Installation, installation, run_dag
from tests.support import fake_cluster
from tests.support.fake_cluster import FakeCluster, serving

__all__ = ["installation", "run_dag"]

ALL = ("individuals", "individuals_merge", "sifting", "mutation_overlap", "frequency")
DISK = {"claim": "home"}
MEMORY = {"empty_dir": True, "size_limit_gib": 0.5, "requests": {"cpu": "100m"}}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What triggers say of the pods that they watch: one that fails is made up for by the task itself."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    said: list[str] = []
    trigger_reentry = KubernetesPodOperator.trigger_reentry

    def listening(operator: Any, context: Any, event: dict[str, Any]) -> Any:
        said.append(event["status"])
        return trigger_reentry(operator, context, event)

    monkeypatch.setattr(KubernetesPodOperator, "trigger_reentry", listening)
    return said


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs that the workload's image has on its path."""
    folder = tmp_path_factory.mktemp("programs")
    script = f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/examples/genome/genome.py" "$@"\n'
    (folder / "genome").write_text(script)
    (folder / "genome").chmod(0o755)
    return folder


@pytest.fixture
def cluster(
    installation: Installation, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeCluster]:
    """Two nodes of a tier and one of none, and the claim of the home tier; Airflow is connected to it."""
    reason = fake_cluster.why_not()
    if reason is not None:
        pytest.skip(reason)
    labels = {"qosflow/tier": "fast"}
    nodes: Mapping[str, Mapping[str, str]] = {"a": labels, "b": labels, "plain": {}}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    made = FakeCluster(tmp_path, path, nodes, {"home": installation.disk})
    with serving(made) as config:
        extra = f'{{"conn_type": "kubernetes", "extra": {{"kube_config_path": "{config}"}}}}'
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", extra)
        # The trigger of a deferred task takes one or the other.
        monkeypatch.delenv("KUBECONFIG", raising=False)
        yield made


def know_copies_between_nodes(profile: Path) -> None:
    """Let copies from node to node be as fast as those from the disk: one machine cannot measure them."""
    with profile.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not any(row["operation"] == "scp" for row in rows):
        copies = [row for row in rows if (row["operation"], row["storageType"]) == ("cp", "disk-tmpfs")]
        assert copies
        rows += [{**row, "operation": "scp", "storageType": "tmpfs-tmpfs"} for row in copies]
        with profile.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


BuildModel = Callable[..., None]


@pytest.fixture
def build_model(installation: Installation) -> BuildModel:
    """Publish a model of the genome workflow whose tiers are bound to the given volumes."""

    def build(*scales: int, **volumes: Mapping[str, Any]) -> None:
        from qosflow_airflow import pipeline
        from qosflow_airflow.core.build_options import BuildOptions

        path = installation.bundle / "tiers.yaml"
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, tier in text["tiers"].items():
            tier.pop("kubernetes", None)
            # The folder that was measured need not be in memory; the tier of these tests is.
            tier["memory"] = name == "tmpfs"
            if name in volumes:
                tier["kubernetes"] = dict(volumes[name])
        path.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
        know_copies_between_nodes(installation.bundle / "profile.csv")
        with installation.store() as store:
            pipeline.run(store, installation.bundle, BuildOptions(scales=scales), lambda _: None)

    return build
