"""A placement as pods. The main property: whatever the volumes are, every task finds its inputs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.placement import Placement, place
from qosflow_airflow.core.pod_copies import unbrought
from qosflow_airflow.core.pod_tiers import selector_of
from qosflow_airflow.core.pods import LABEL, PodPlan, plan_pods, trying_pods
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import TierError, WorkflowError

GIB = 2**30
VOLUMES = {
    "claim": ClusterVolume("claim", "shared"),
    "host_path": ClusterVolume("host_path", "/mnt/tier", node_selector={"tier": "nvme"}),
    "empty_dir": ClusterVolume("empty_dir", size_bytes=GIB),
    "local_volume": ClusterVolume("local_volume", "scratch-{node}"),
}
DIAMOND = Workflow(
    "diamond",
    (
        Stage("split", 1, 5, {INITIAL_DATA: ()}, ()),
        Stage("left", 2, 3, {"split": ()}, ()),
        Stage("right", 2, 1, {"split": (), INITIAL_DATA: ()}, ()),
        Stage("join", 3, 2, {"left": (), "right": (), INITIAL_DATA: ()}, ()),
    ),
)


def catalog(ram: str = "empty_dir", ssd: str = "host_path", slots: int | None = None) -> TierCatalog:
    return TierCatalog(
        (
            StorageTier("disk", True, "/disk", volume=VOLUMES["claim"]),
            StorageTier("nfs", True, "/nfs", volume=replace(VOLUMES["claim"], name="other")),
            StorageTier("ram", False, "/ram", memory=True, volume=replace(VOLUMES[ram], size_bytes=GIB)),
            StorageTier("ssd", False, "/ssd", volume=VOLUMES[ssd]),
        ),
        "disk",
        NodePool(slots=slots),
    )


def placed(platform: TierCatalog, nodes: int, tiers: dict[str, str]) -> Placement:
    configuration = Configuration(nodes, tiers)
    return place(DIAMOND, platform, configuration, recommendation_id="r1", initial_data=None)


def planned(platform: TierCatalog, nodes: int, tiers: dict[str, str], **options: Any) -> PodPlan:
    names = [f"node{at}" for at in range(nodes)]
    return plan_pods(placed(platform, nodes, tiers), platform, names, **options)


class Disks:
    """What lies where, while the pods of a plan run: one disk per shared tier, per node, or per pod."""

    def __init__(self, platform: TierCatalog) -> None:
        self.platform = platform
        self.files: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)

    def disk(self, path: str, pod: dict[str, Any]) -> set[str]:
        tier = next(one for one in self.platform.tiers if path.startswith(f"{one.mount}/"))
        assert tier.mount in {mount["mountPath"] for mount in pod["volume_mounts"]}, f"{path} is not mounted"
        assert tier.volume is not None
        node = pod["annotations"]["qosflow/node"]
        if tier.shared:
            return self.files[(tier.name,)]
        return self.files[(tier.name, node, *([] if tier.volume.outlives_pods else [pod["name"]]))]

    def names(self, folder: str, pod: dict[str, Any]) -> set[str]:
        found = self.disk(folder, pod)
        return {path.removeprefix(f"{folder}/") for path in found if path.startswith(f"{folder}/")}

    def copy(self, lines: str, pod: dict[str, Any]) -> None:
        for source, destination, _, amount, record, head in six_by_six(lines):
            assert record.startswith("/disk/r1/records/copies/")
            assert {"stage", "data_of", "source_tier", "tier"} <= json.loads(f"{{{head}}}").keys()
            names = self.names(source, pod)
            assert names or amount == "any", f"{pod['annotations'][LABEL]}: nothing in {source}"
            self.disk(destination, pod).update(f"{destination}/{name}" for name in names)

    def run(self, stage: Stage, pod: dict[str, Any]) -> set[int]:
        env = pod["env_vars"]
        self.copy(env["QOSFLOW_COPY_IN"], pod)
        for name, folder in json.loads(env["QOSFLOW_INPUTS"]).items():
            assert self.names(folder, pod) == written_by(name), f"{stage.name} misses outputs of {name}"
        indexes = {int(index) for index in env["QOSFLOW_INDEXES"].split()}
        output = env["QOSFLOW_OUTPUT"]
        self.disk(output, pod).update(f"{output}/{stage.name}.{index}" for index in indexes)
        self.copy(env["QOSFLOW_COPY_OUT"], pod)
        return indexes


def six_by_six(lines: str) -> Iterator[tuple[str, ...]]:
    words = lines.split("\n") if lines else []
    assert len(words) % 6 == 0
    for at in range(0, len(words), 6):
        yield tuple(words[at : at + 6])


def written_by(name: str) -> set[str]:
    if name == INITIAL_DATA:
        return {"input"}
    return {f"{name}.{index}" for index in range(DIAMOND.stage(name).tasks)}


@given(
    nodes=st.integers(1, 4),
    ram=st.sampled_from(["empty_dir", "host_path", "local_volume"]),
    ssd=st.sampled_from(["empty_dir", "host_path", "local_volume"]),
    tiers=st.fixed_dictionaries(
        {name: st.sampled_from(["disk", "nfs", "ram", "ssd"]) for name in DIAMOND.stage_names}
    ),
    tasks_per_pod=st.integers(1, 6),
)
def test_every_task_runs_once_and_finds_its_inputs_whatever_the_volumes_are(
    nodes: int, ram: str, ssd: str, tiers: dict[str, str], tasks_per_pod: int
) -> None:
    platform = catalog(ram, ssd)
    plan = planned(platform, nodes, tiers, tasks_per_pod=tasks_per_pod)
    disks = Disks(platform)
    disks.files[("disk",)].add("/disk/initial_data/input")
    for stage in DIAMOND.stages:
        for pod in plan.stage_in[stage.name]:
            disks.copy(pod["env_vars"]["QOSFLOW_COPY_IN"], pod)
        done = [disks.run(stage, pod) for pod in plan.stages[stage.name]]
        assert sorted(index for indexes in done for index in indexes) == list(range(stage.tasks))
        for pod in plan.stage_out[stage.name]:
            disks.copy(pod["env_vars"]["QOSFLOW_COPY_IN"], pod)
    kept = {path.rpartition("/")[2] for path in disks.files[("disk",)] if "/final/join/" in path}
    output = {path.rpartition("/")[2] for path in disks.files[("disk",)] if "/output/join/" in path}
    assert kept | output >= written_by("join")
    check_cleaning(plan, disks)


def check_cleaning(plan: PodPlan, disks: Disks) -> None:
    """After cleaning, the home tier holds what the run keeps, and nothing lies where a later pod finds it."""
    for pod in plan.clean:
        for folder in pod["env_vars"]["QOSFLOW_REMOVE"].split("\n"):
            assert "/r1" in folder
            found = disks.disk(folder, pod)
            found -= {path for path in found if path.startswith(f"{folder}/")}
    for place_of, paths in disks.files.items():
        if place_of == ("disk",):
            assert not [path for path in paths if "/staged/" in path or "/relay/" in path]
        elif len(place_of) < 3:
            assert paths == set()


@given(
    nodes=st.integers(1, 3),
    ram=st.sampled_from(["empty_dir", "host_path"]),
    plans=st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from(["disk", "nfs", "ram", "ssd"]) for name in DIAMOND.stage_names}
        ),
        min_size=4,
        max_size=4,
    ),
)
def test_a_run_that_is_planned_again_at_each_stage_finds_all_that_lies_elsewhere(
    nodes: int, ram: str, plans: list[dict[str, str]]
) -> None:
    platform, names = catalog(ram), [f"node{at}" for at in range(nodes)]
    disks = Disks(platform)
    disks.files[("disk",)].add("/disk/initial_data/input")
    begun: dict[str, dict[str, str]] = {}
    made: list[PodPlan] = []
    for number, stage in enumerate(DIAMOND.stages):
        tiers = plans[number] | {name: planned_by[name] for name, planned_by in begun.items()}
        placement = place(
            DIAMOND,
            platform,
            Configuration(nodes, tiers),
            recommendation_id=f"r{number + 1}",
            initial_data=None,
            folder="r1",
        )
        plan = plan_pods(
            placement, platform, names, fallback=platform.names, unbrought=unbrought(placement, begun)
        )
        begun[stage.name] = tiers
        for pod in plan.stage_in[stage.name]:
            disks.copy(pod["env_vars"]["QOSFLOW_COPY_IN"], pod)
        for pod in plan.stages[stage.name]:
            disks.run(stage, pod)
        for pod in plan.stage_out[stage.name]:
            disks.copy(pod["env_vars"]["QOSFLOW_COPY_IN"], pod)
        made.append(plan)
    # The pods that clean were made with the first plan: whatever tiers came after, nothing is left.
    check_cleaning(made[0], disks)


def test_what_was_brought_by_an_earlier_plan_to_where_it_is_read_is_not_fetched_again() -> None:
    before = {"split": "ssd", "left": "ram", "right": "nfs", "join": "ssd"}
    placement = placed(catalog(), 1, before | {"join": "disk"})
    begun = {"split": before, "left": before}
    found = unbrought(placement, begun)
    assert found == {"split": (), "left": (), "right": (), "join": ("left",)}
    plan = plan_pods(placement, catalog(), ["node0"], fallback=catalog().names, unbrought=found)
    assert plan.stage_in["left"] == []
    (fetching,) = plan.stage_in["join"]
    copies = [words[:2] for words in six_by_six(fetching["env_vars"]["QOSFLOW_COPY_IN"])]
    assert copies == [
        ("/nfs/r1/output/right", "/disk/r1/staged/join/right"),
        ("/disk/r1/relay/left", "/disk/r1/staged/join/left"),
    ]


def test_a_tier_is_tried_on_each_node_where_it_is_used_by_a_pod_that_sees_nothing_else() -> None:
    tiers = {"split": "ssd", "left": "nfs", "right": "disk", "join": "disk"}
    placement = placed(catalog(), 2, tiers)
    local = trying_pods(placement, catalog(), ["a", "b"], "split", 1e6)
    assert [pod["annotations"]["qosflow/node"] for pod in local] == ["a", "b"]
    assert [mount["mountPath"] for pod in local for mount in pod["volume_mounts"]] == ["/ssd"] * 2
    assert local[0]["env_vars"]["QOSFLOW_TRY"].split("\n") == ["/ssd", "500000", "/ssd/r1/output/split"]
    assert local[0]["node_selector"] == {"tier": "nvme"}
    (shared,) = trying_pods(placement, catalog(), ["a", "b"], "left", 1e6)
    assert shared["env_vars"]["QOSFLOW_TRY"].split("\n")[1] == "1000000"


@given(st.integers(1, 4), st.integers(1, 6))
def test_pods_use_as_many_nodes_as_were_recommended(nodes: int, tasks_per_pod: int) -> None:
    tiers = dict.fromkeys(DIAMOND.stage_names, "disk")
    for stage, pods in planned(catalog(), nodes, tiers, tasks_per_pod=tasks_per_pod).stages.items():
        used = [pod["annotations"]["qosflow/node"] for pod in pods]
        assert len(set(used)) == min(nodes, DIAMOND.stage(stage).tasks)


def test_nothing_is_copied_and_no_pod_is_made_for_nothing() -> None:
    plan = planned(catalog(), 2, dict.fromkeys(DIAMOND.stage_names, "disk"))
    assert plan.clean == []
    assert {*map(len, plan.stage_in.values()), *map(len, plan.stage_out.values())} == {0}
    assert {pod["env_vars"]["QOSFLOW_COPY_IN"] for pods in plan.stages.values() for pod in pods} == {""}
    # Local, on one node, on a volume that outlives pods: what is there is read where it is.
    plan = planned(catalog(), 1, dict.fromkeys(DIAMOND.stage_names, "ssd"))
    (left,) = plan.stages["left"]
    assert left["env_vars"]["QOSFLOW_COPY_IN"] == left["env_vars"]["QOSFLOW_COPY_OUT"] == ""


def test_labels_read_well() -> None:
    tiers = {"split": "disk", "left": "ram", "right": "nfs", "join": "ssd"}
    plan = planned(catalog(), 2, tiers)
    labels = {stage: [pod["annotations"][LABEL] for pod in pods] for stage, pods in plan.stages.items()}
    assert labels["split"] == [f"split {number}/5 on disk" for number in (1, 3, 5, 2, 4)]
    assert labels["left"] == ["left 1,3/3 on ram", "left 2/3 on ram"]
    assert planned(catalog(), 1, tiers, tasks_per_pod=2).stages["split"][0]["annotations"][LABEL] == (
        "split 1-2/5 on disk"
    )


@given(st.integers(1, 4), st.integers(4, 12), st.integers(1, 3))
def test_a_stage_never_has_more_pods_than_airflow_maps_over(nodes: int, limit: int, per_pod: int) -> None:
    many = Workflow("many", (Stage("all", 1, 60, {INITIAL_DATA: ()}, ()),))
    platform = catalog()
    placement = place(
        many, platform, Configuration(nodes, {"all": "disk"}), recommendation_id="r1", initial_data=None
    )
    names = [f"node{at}" for at in range(nodes)]
    pods = plan_pods(placement, platform, names, tasks_per_pod=per_pod, max_rows=limit).stages["all"]
    assert len(pods) <= limit
    indexes = [int(index) for pod in pods for index in pod["env_vars"]["QOSFLOW_INDEXES"].split()]
    assert sorted(indexes) == list(range(60))


def test_more_nodes_than_rows_are_refused() -> None:
    with pytest.raises(WorkflowError, match="max_map_length"):
        planned(catalog(), 3, dict.fromkeys(DIAMOND.stage_names, "ssd"), max_rows=2)


def test_a_pod_asks_for_its_tasks_and_for_what_lies_in_memory() -> None:
    volume = replace(
        VOLUMES["empty_dir"],
        size_bytes=GIB,
        requests={"cpu": "500m", "memory": "256Mi"},
        limits={"memory": "512Mi"},
        tolerations=({"key": "batch", "operator": "Exists"},),
    )
    platform = catalog(slots=2)
    tiers = tuple(replace(tier, volume=volume) if tier.name == "ram" else tier for tier in platform.tiers)
    platform = replace(platform, tiers=tiers)
    plan = planned(platform, 1, dict.fromkeys(DIAMOND.stage_names, "ram"))
    (pod,) = plan.stages["split"]
    # Two of the five tasks run at once.
    assert pod["env_vars"]["QOSFLOW_AT_ONCE"] == "2"
    assert pod["container_resources"] == {
        "requests": {"cpu": "1", "memory": str(2 * 256 * 2**20 + GIB)},
        "limits": {"memory": str(2 * 512 * 2**20 + GIB)},
    }
    assert {"name": "tier-2", "emptyDir": {"medium": "Memory", "sizeLimit": str(GIB)}} in pod["volumes"]
    assert pod["tolerations"] == [{"key": "batch", "operator": "Exists"}]


def test_volumes_are_what_tiers_yaml_binds() -> None:
    tiers = {"split": "disk", "left": "ssd", "right": "nfs", "join": "disk"}
    plan = planned(catalog(), 1, tiers)
    (left,) = plan.stages["left"]
    assert left["volumes"] == [
        {"name": "tier-0", "persistentVolumeClaim": {"claimName": "shared"}},
        {"name": "tier-3", "hostPath": {"path": "/mnt/tier", "type": "Directory"}},
    ]
    assert left["node_selector"] == {"tier": "nvme"}
    field = left["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert field["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["node0"]
    plan = planned(catalog(ssd="local_volume"), 2, tiers)
    claims = [pod["volumes"][1]["persistentVolumeClaim"]["claimName"] for pod in plan.stages["left"]]
    assert claims == ["scratch-node0", "scratch-node1"]


def test_a_tier_without_a_volume_is_refused_by_name() -> None:
    platform = catalog()
    platform = replace(platform, tiers=(*platform.tiers[:3], replace(platform.tiers[3], volume=None)))
    planned(platform, 1, dict.fromkeys(DIAMOND.stage_names, "disk"))
    with pytest.raises(TierError, match=r"no volume in the cluster for ssd.*kubernetes"):
        planned(platform, 1, dict.fromkeys(DIAMOND.stage_names, "ssd"))


@pytest.mark.parametrize("tier", ["disk", "ssd"])
def test_initial_data_that_no_pod_sees_are_refused(tier: str) -> None:
    configuration = Configuration(1, dict.fromkeys(DIAMOND.stage_names, tier))
    placement = place(DIAMOND, catalog(), configuration, recommendation_id="r1", initial_data="/mine")
    with pytest.raises(TierError, match=r"/mine, which no pod sees.*below the mount of the home tier"):
        plan_pods(placement, catalog(), ["node"])


def test_tiers_that_no_node_can_have_together_are_refused() -> None:
    platform = catalog()
    other = replace(VOLUMES["claim"], node_selector={"tier": "other"})
    platform = replace(platform, tiers=(replace(platform.tiers[0], volume=other), *platform.tiers[1:]))
    with pytest.raises(TierError, match="one node cannot have tier=other and tier=nvme"):
        selector_of(platform, ["disk", "ssd"])


def test_rows_are_plain_json() -> None:
    plan = planned(catalog(), 2, {"split": "disk", "left": "ssd", "right": "nfs", "join": "ram"})
    for rows in (*plan.stages.values(), *plan.stage_in.values(), *plan.stage_out.values(), plan.clean):
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows
