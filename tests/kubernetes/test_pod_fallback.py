"""A tier that breaks between two stages of a run in pods: planned again, and read where outputs lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from tests.faults.conftest import recommendations, store
from tests.faults.test_tiers import BREAK, REASONS, ROOT
from tests.support import fake_cluster
from tests.support import faulty_tier as faulty
from tests.support.fake_cluster import FakeCluster, serving
from tests.support.faulty_tier import faulty_tier
from tests.support.pod_run import run_pods
from tests.support.small_model import KeptStore, publish_model, small_workflow, stage_times
from tests.support.small_run import labels, states, write_initial_data

__all__ = ["store"]

pytestmark = pytest.mark.airflow


class Run:
    """The small workflow in pods, on a home tier and on tiers of the nodes."""

    def __init__(self, cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
        self.cluster, self.folder, self.patch = cluster, cluster.folder, patch

    def publish(self, store: KeptStore, **others: ClusterVolume) -> None:
        """Publish a model: ``disk`` is the home tier, ``fast`` a folder of each node and the fastest tier."""
        volumes = {"fast": ClusterVolume("host_path", "/mnt/fast"), **others}
        tiers = [
            StorageTier(name, volume.kind == "claim", str(self.folder / f"seen-{name}"), volume=volume)
            for name, volume in volumes.items()
        ]
        home = StorageTier("disk", True, str(self.folder / "disk"), volume=ClusterVolume("claim", "home"))
        found = sorted((home, *tiers), key=lambda tier: not tier.shared)
        catalog, workflow = TierCatalog(tuple(found), "disk"), small_workflow()
        times = {nodes: stage_times(workflow, catalog, nodes) for nodes in (1, 2)}
        for one in times.values():
            one.write.seconds[:, [tier.name == "third" for tier in found]] *= 2
        publish_model(store, workflow, catalog, times)

    def of(self, node: str) -> Path:
        return self.folder / "nodes" / node / "mnt" / "fast"

    def __call__(self, fault: str = "", **settings: Any) -> Any:
        return run_pods(self.folder, self.patch, fault, **settings)

    @property
    def made(self) -> list[str]:
        return [pod["metadata"]["annotations"]["qosflow/label"] for pod in self.cluster.made]

    def result(self) -> str:
        """Return the only final output on the home tier."""
        found = [path for path in (self.folder / "disk").rglob("all.txt") if "staged" not in path.parts]
        assert len(found) == 1
        return found[0].read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, airflow_database: None) -> Iterator[Run]:
    """A cluster of two nodes, of which each has a folder of its own for the tier ``fast``."""
    if reason := fake_cluster.why_not():
        pytest.skip(reason)
    write_initial_data(tmp_path / "disk")
    claims = {"home": tmp_path / "disk", "third": tmp_path / "third"}
    (tmp_path / "third").mkdir()
    made = FakeCluster(tmp_path, os.environ["PATH"], {"a": {}, "b": {}}, claims)
    found = Run(made, monkeypatch)
    for node in made.nodes:
        found.of(node).mkdir(parents=True)
    with serving(made) as config:
        extra = f'{{"conn_type": "kubernetes", "extra": {{"kube_config_path": "{config}"}}}}'
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", extra)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        yield found


def on_every_node(run: Run, program: str) -> str:
    """Return a program that does something to the folder of each node's tier; ``{}`` stands for it."""
    return "import os, shutil\n" + "\n".join(program.format(repr(str(run.of(node)))) for node in "ab")


def check_both_plans(store: KeptStore, reason: str) -> None:
    first, second = recommendations(store)
    assert first.answer["configuration"]["tiers"] == {"split": "fast", "merge": "fast"}
    assert second.answer["replans"]["recommendation_id"] == first.recommendation_id
    assert second.answer["replans"]["begun"] == {"split": "fast"}
    (said,) = second.answer["replans"]["failed"].values()
    assert said == reason
    assert (second.request, second.task_id) == (first.request, "merge.stage_in")
    # The run is held against the plan that it followed in the end.
    assert store.outcomes(first.recommendation_id) == ()
    (outcome,) = store.outcomes(second.recommendation_id)
    assert outcome.outcome["stages"]["merge"]["tier"] == second.answer["configuration"]["tiers"]["merge"]


@pytest.mark.parametrize("fault", ["fill", "make_read_only", "freeze"])
def test_a_tier_of_the_node_that_breaks_is_left_and_what_lies_there_is_read(
    fault: str, run: Run, store: KeptStore, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := faulty.why_not():
        pytest.skip(reason)
    run.publish(store)
    run.of("a").rmdir()
    run.of("b").rmdir()
    run.of("b").symlink_to(run.of("a"))  # whichever node is chosen
    with faulty_tier(run.of("a")) as tier:
        ended = run(BREAK.format(root=str(ROOT), mount=str(tier.mount), fault=fault))
        assert ended.state == "success"
        assert states(ended)["records"] == states(ended)["compare"] == ["success"]
        assert labels(ended, "split.run") == ["split 1-3/3 on fast"]
        assert labels(ended, "merge.run") == ["merge 1/1 on disk"]
        # The home tier has not failed: what the run has left on both is cleaned, but for what is lost.
        left = fault != "fill"
        tier.thaw()
        assert (list(tier.mount.glob("*/output/split/piece*.txt")) != []) == left
    assert run.result() == "one two three"
    said = capsys.readouterr().out
    assert ("NOT REMOVED" in said) == left
    check_both_plans(store, REASONS[fault].replace("1 s", "2 s"))
    assert sum(label == "merge: copy in" for label in run.made) == 1
    assert run.made.count("split: try fast") == run.made.count("merge: try fast") == 1
    assert run.made.count("merge: try disk") == 1


def test_a_volume_that_cannot_be_mounted_from_the_beginning_is_left_out(run: Run, store: KeptStore) -> None:
    run.publish(store)
    for node in "ab":
        run.of(node).rmdir()
    ended = run()
    assert ended.state == "success"
    assert labels(ended, "merge.run") == ["merge 1/1 on disk"]
    first, second = recommendations(store)
    assert second.answer["replans"]["begun"] == {}
    assert "is down (MountVolume.SetUp failed" in second.answer["explanation"]
    assert first.answer["configuration"]["tiers"] == {"split": "fast", "merge": "fast"}
    # The second stage follows the new plan: what is not used is not tried.
    assert run.made.count("merge: try fast") == 0
    assert run.result() == "one two three"


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_lies_on_several_nodes_is_fetched_from_each_for_another_shared_tier(
    deferrable: bool, run: Run, store: KeptStore
) -> None:
    run.publish(store, third=ClusterVolume("claim", "third"))
    fault = on_every_node(run, "os.system('mount --bind -r ' + {0} + ' ' + {0})")
    try:
        ended = run(fault, nodes=2, pin="split=fast", deferrable=deferrable)
    finally:
        for node in "ab":
            os.system(f"umount {run.of(node)}")
    assert ended.state == "success"
    assert labels(ended, "split.run") == ["split 1,3/3 on fast", "split 2/3 on fast"]
    assert labels(ended, "merge.run") == ["merge 1/1 on third"]
    assert states(ended)["merge.stage_out"] == states(ended)["records"] == ["success"]
    assert run.result() == "one two three"
    assert run.made.count("merge: copy in") == 2
    assert run.made.count("merge: copy out") == 1
    _, second = recommendations(store)
    assert second.answer["replans"]["failed"]["fast"].startswith(
        "it is read-only (Read-only file system) on node"
    )
    assert list((run.folder / "third").iterdir()) == []


def test_a_tier_that_the_nodes_of_the_run_do_not_have_is_no_way_out(run: Run, store: KeptStore) -> None:
    labelled = ClusterVolume("host_path", "/mnt/third", node_selector={"tier": "third"})
    run.publish(store, third=labelled)
    ended = run(on_every_node(run, "shutil.rmtree({0})"), pin="split=fast", startup_s=15)
    # What the first stage wrote is gone with its tier; nothing is taken for it.
    assert ended.state == "failed"
    _, second = recommendations(store)
    assert second.answer["configuration"]["tiers"]["merge"] == "disk"
    assert "of the run lacks the label tier=third" in second.answer["replans"]["failed"]["third"]
    assert not list((run.folder / "disk").rglob("all.txt"))
