from __future__ import annotations

from typing import Any

import pytest

from qosflow_airflow.core.cluster_nodes import ClusterNode, choose_nodes
from qosflow_airflow.exceptions import ClusterError

FAST = {"qosflow/tier": "nvme"}
TAINT = {"key": "batch", "value": "yes", "effect": "NoSchedule"}


def choose(nodes: list[ClusterNode], count: int, **changed: Any) -> tuple[str, ...]:
    asked: dict[str, Any] = {"node_selector": FAST, "tolerations": [], "requests": [], "seed": "run"}
    return choose_nodes(nodes, count, **{**asked, **changed})


def test_the_nodes_of_the_tier_are_chosen_and_no_others() -> None:
    nodes = [ClusterNode("a", FAST), ClusterNode("b", {"qosflow/tier": "disk"}), ClusterNode("c", FAST)]
    assert set(choose(nodes, 2)) == {"a", "c"}


def test_a_run_gets_the_same_nodes_whenever_it_asks_and_runs_spread() -> None:
    nodes = [ClusterNode(f"n{at}", FAST) for at in range(8)]
    assert choose(nodes, 2) == choose(nodes[::-1], 2)
    assert len({choose(nodes, 2, seed=f"run {at}") for at in range(50)}) == 8


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "batch", "operator": "Exists"}, True),
        ({"key": "batch", "value": "yes"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "batch", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "batch", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "batch", "value": "no"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_must_be_tolerated(toleration: dict[str, str], tolerated: bool) -> None:
    nodes = [ClusterNode("a", FAST, (TAINT,))]
    if tolerated:
        assert choose(nodes, 1, tolerations=[toleration]) == ("a",)
    else:
        with pytest.raises(ClusterError, match="a has the taint batch:NoSchedule"):
            choose(nodes, 1, tolerations=[toleration])


def test_what_others_lack_is_said() -> None:
    nodes = [
        ClusterNode("full", FAST, allocatable={"memory": "1Gi", "cpu": "4"}),
        ClusterNode("gone", FAST, usable=False),
        ClusterNode("plain", {}),
        ClusterNode("good", FAST, allocatable={"memory": "8Gi", "cpu": "4"}),
    ]
    with pytest.raises(ClusterError) as caught:
        choose(nodes, 2, requests=[{"memory": "2Gi"}, {"cpu": "1"}])
    said = str(caught.value)
    assert "needs 2 nodes with qosflow/tier=nvme, and the cluster has 1" in said
    assert "full has 1Gi of memory, and a pod asks for 2Gi" in said
    assert "gone is not ready" in said
    assert "plain lacks the label qosflow/tier=nvme" in said
    assert "max_nodes" in said
