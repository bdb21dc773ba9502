"""What tiers.yaml says of a tier in a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.exceptions import TierError
from qosflow_airflow.readers.tiers_yaml import read_tiers_yaml

GIB = 2**30


def test_golden_file() -> None:
    catalog = read_tiers_yaml(Path(__file__).parent / "data" / "cluster" / "tiers.yaml")
    assert [tier.volume for tier in catalog.tiers] == [
        ClusterVolume("claim", "qosflow-home"),
        ClusterVolume("empty_dir", requests={"cpu": "500m", "memory": "256Mi"}, size_bytes=2 * GIB),
        ClusterVolume(
            "host_path",
            "/mnt/nvme",
            node_selector={"qosflow/tier": "nvme"},
            tolerations=({"key": "batch", "operator": "Exists", "effect": "NoSchedule"},),
        ),
    ]
    assert TierCatalog.from_json(catalog.to_json()) == catalog


def read(tmp_path: Path, tier: str, volume: str) -> ClusterVolume:
    path = tmp_path / "tiers.yaml"
    path.write_text(f"tiers:\n  home: {{shared: true}}\n  t: {{{tier}, kubernetes: {{{volume}}}}}\n")
    found = read_tiers_yaml(path).tiers[1].volume
    assert found is not None
    return found


def test_the_size_of_a_tier_in_memory_is_its_capacity_unless_it_says_less(tmp_path: Path) -> None:
    tier = "shared: false, memory: true, capacity_gib: 8"
    assert read(tmp_path, tier, "empty_dir: true").size_bytes == 8 * GIB
    assert read(tmp_path, tier, "empty_dir: true, size_limit_gib: 0.5").size_bytes == GIB // 2


def test_labels_that_look_like_other_things_are_text(tmp_path: Path) -> None:
    found = read(
        tmp_path, "shared: false", "host_path: /x, node_selector: {a/fast: true, zone: 3, on: 'yes'}"
    )
    assert found.node_selector == {"a/fast": "true", "zone": "3", "on": "yes"}


LOCAL, SHARED = "shared: false", "shared: true"
WRONG = {
    "unknown key": (LOCAL, "empty_dir: true, size: 3", "`size` is not a known key"),
    "no volume": (LOCAL, "requests: {cpu: 1}", "has 0 volumes"),
    "two volumes": (SHARED, "claim: a, host_path: /b", "has 2 volumes"),
    "shared empty_dir": (SHARED, "empty_dir: true", "which one node sees"),
    "local claim": (LOCAL, "claim: a", "the same storage on every node"),
    "one claim for all nodes": (LOCAL, "local_volume: a", r"without \{node\}"),
    "memory of no size": (f"{LOCAL}, memory: true", "empty_dir: true", "in memory without a size"),
    "name of a claim": (SHARED, "claim: A_b", "not the name of a claim"),
    "relative path": (LOCAL, "host_path: mnt", "absolute path"),
    "path that leads out": (SHARED, "claim: a, sub_path: ../b", "within the volume"),
    "sub_path of a host path": (LOCAL, "host_path: /a, sub_path: b", "does not go with host_path"),
    "label": (LOCAL, "host_path: /a, node_selector: {'a b': c}", "is no label of a node"),
    "quantity": (LOCAL, "host_path: /a, requests: {memory: 1 GB}", "no quantity of a resource"),
    "above its limit": (LOCAL, "host_path: /a, requests: {cpu: 2}, limits: {cpu: 1500m}", "above its limit"),
    "toleration of nothing": (
        LOCAL,
        "host_path: /a, tolerations: [{effect: NoSchedule}]",
        "tolerates no key",
    ),
    "unknown effect": (LOCAL, "host_path: /a, tolerations: [{key: a, effect: Never}]", "NoExecute"),
    "key of a toleration": (LOCAL, "host_path: /a, tolerations: [{name: a}]", "`name` is not a known key"),
}


@pytest.mark.parametrize(("tier", "volume", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_its_line(tier: str, volume: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TierError, match=said) as caught:
        read(tmp_path, tier, volume)
    assert caught.value.line == 3
    assert caught.value.cure
