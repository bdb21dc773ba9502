"""A placement as pods: plain-JSON rows with volumes, nodes, resources and what to copy before and after.

What lies on a node's own tier is seen by that node alone, and gone with the pod where the volume is one of
the pod's. So a stage on a local tier is one pod per node, which brings inputs in before its tasks and outputs
out after them; only copies between shared tiers have pods of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from qosflow_airflow.core.placement import MAX_ROWS, Placement, Row
from qosflow_airflow.core.pod_tiers import (
    check_bound,
    check_initial_data,
    selector_of,
    tolerations_of,
    used_tiers,
    volume_of,
)
from qosflow_airflow.core.posix_patterns import posix_pattern
from qosflow_airflow.core.quantities import multiply
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA
from qosflow_airflow.exceptions import TierError, WorkflowError

LABEL = "qosflow/label"
"""The annotation that says which tasks a pod runs, in the words of the grid."""

RUN_LABEL = "qosflow/recommendation"
"""The label of all pods of a run."""


@dataclass(frozen=True)
class PodPlan:
    """The pods of one run, as rows; each list may be empty, and then there is no pod.

    Attributes
    ----------
    stages:
        Per stage, the pods that run its tasks.
    stage_in, stage_out:
        Per stage, at most one pod, for the copies between shared tiers before or after it.
    clean:
        The pods that remove what nobody needs afterwards: one per node where something lies there.
    records:
        The pod that prints what the tasks and copies of the run recorded.
    """

    stages: Mapping[str, list[Row]]
    stage_in: Mapping[str, list[Row]]
    stage_out: Mapping[str, list[Row]]
    clean: list[Row]
    records: Row


@dataclass
class _Copies:
    """What a pod copies, in order, as lines of text; and the tiers that it needs for that."""

    lines: list[str] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)

    def add(self, row: Row, record: str, *, may_be_empty: bool = False) -> None:
        pattern = posix_pattern(row["patterns"])
        head = {name: row[name] for name in ("stage", "data_of", "source_tier", "tier")}
        head |= {name: row[name] for name in ("source", "destination")}
        words = (row["source"], row["destination"], pattern or "", "any" if may_be_empty else "some", record)
        self.lines += [*words, json.dumps(head)[1:-1]]
        self.tiers += [row["source_tier"], row["tier"]]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def plan_pods(
    placement: Placement,
    catalog: TierCatalog,
    nodes: Sequence[str],
    *,
    tasks_per_pod: int = 1,
    max_rows: int = MAX_ROWS,
) -> PodPlan:
    """Return the pods of a run on ``nodes``, which are as many as its configuration has.

    Task ``i`` runs on node ``i`` modulo their number. On a shared tier a pod runs ``tasks_per_pod`` of a
    node's tasks, or more where the stage would have more than ``max_rows`` pods; on a local tier all of them.

    Raises
    ------
    TierError
        When a tier has no volume, or the initial data lie on no tier.
    WorkflowError
        When a run has more nodes than ``max_rows``, or a name cannot be told to a shell.
    """
    check_bound(catalog, used_tiers(placement, catalog))
    if len(nodes) > max_rows:
        raise WorkflowError(
            f"a stage would have {len(nodes)} pods, and Airflow maps a task over at most {max_rows} rows",
            cure="Ask with a smaller max_nodes, or raise `[core] max_map_length`.",
        )
    check_initial_data(placement, catalog.tier(catalog.home))
    planner = _Planner(placement, catalog, tuple(nodes), tasks_per_pod, max_rows)
    return PodPlan(
        stages={stage: list(planner.pods(stage)) for stage in placement.stages},
        stage_in={stage: planner.copying_pod(stage, "in") for stage in placement.stages},
        stage_out={stage: planner.copying_pod(stage, "out") for stage in placement.stages},
        clean=list(planner.cleaning_pods()),
        records=planner.records_pod(),
    )


@dataclass(frozen=True)
class _Planner:
    placement: Placement
    catalog: TierCatalog
    nodes: tuple[str, ...]
    tasks_per_pod: int
    max_rows: int

    @cached_property
    def first(self) -> Row:
        return next(iter(self.placement.stages.values()))[0]

    @cached_property
    def run(self) -> str:
        """The id of the recommendation, which names the run's folder on every tier."""
        found: str = self.first["env"]["QOSFLOW_RECOMMENDATION_ID"]
        return found

    @cached_property
    def records(self) -> str:
        found: str = self.first["env"]["QOSFLOW_RECORDS"]
        return found

    def tier_of(self, name: str) -> StorageTier:
        """Return the tier on which a stage, or the initial data, lies."""
        if name == INITIAL_DATA:
            return self.catalog.tier(self.catalog.home)
        return self.catalog.tier(self.placement.stages[name][0]["tier"])

    def reaches(self, name: str) -> bool:
        """Return whether pods of a later stage find what ``name`` wrote where it was written."""
        tier = self.tier_of(name)
        assert tier.volume is not None
        return tier.shared or (len(self.nodes) == 1 and tier.volume.outlives_pods)

    def relay(self, name: str) -> str:
        """Return the folder on the home tier that outputs on local tiers pass through."""
        mount = self.catalog.tier(self.catalog.home).mount
        return str(PurePosixPath(str(mount), self.run, "relay", name))

    def pods(self, stage: str) -> Iterator[Row]:
        """Yield the pods that run the tasks of ``stage``."""
        row = self.placement.stages[stage][0]
        tier = self.catalog.tier(row["tier"])
        count = row["count"]
        for number, (node, indexes) in enumerate(self.shares(count, local=not tier.shared)):
            slots = self.catalog.node.tasks_at_once(len(indexes))
            before, after = _Copies(), _Copies()
            if not tier.shared:
                self.bring_in(stage, number, before)
                self.bring_out(stage, number, after)
            label = f"{stage} {_ranges(indexes)}/{count} on {tier.name}"
            env = {name: value for name, value in row["env"].items() if name != "QOSFLOW_INDEX"}
            env |= {
                "QOSFLOW_INDEXES": " ".join(map(str, indexes)),
                "QOSFLOW_AT_ONCE": str(slots),
                "QOSFLOW_NODE": node,
                "QOSFLOW_LABEL": label,
                "QOSFLOW_COPY_IN": before.text,
                "QOSFLOW_COPY_OUT": after.text,
            }
            tiers = [self.catalog.home, tier.name, *before.tiers, *after.tiers]
            yield self.pod(f"{stage}-{number}", label, node, tiers, env, tier, slots)

    def shares(self, count: int, *, local: bool) -> list[tuple[str, list[int]]]:
        """Return per pod its node and the indexes of its tasks."""
        per_node = [(node, list(range(count))[at :: len(self.nodes)]) for at, node in enumerate(self.nodes)]
        size = count if local else self.tasks_per_pod
        while True:
            pods = [
                (node, indexes[start : start + size])
                for node, indexes in per_node
                for start in range(0, len(indexes), size)
            ]
            if len(pods) <= self.max_rows:
                return pods
            size += 1

    def bring_in(self, stage: str, number: int, copies: _Copies) -> None:
        """Add the copies that bring the inputs of ``stage`` to the node's own tier."""
        row = self.placement.stages[stage][0]
        rows = {copy["data_of"]: copy for copy in self.placement.stage_in[stage]}
        for name, folder in row["inputs"].items():
            if name not in rows and self.reaches(name):
                continue
            copy = rows.get(name) or self.same_place(stage, name, folder)
            if not self.reaches(name):
                copy = {**copy, "source": self.relay(name), "source_tier": self.catalog.home}
            copies.add(copy, self.record(copy, number))

    def same_place(self, stage: str, name: str, folder: str) -> Row:
        """Return the copy that a volume makes necessary which another pod on the node does not see."""
        tier = self.tier_of(name).name
        return {
            "stage": stage,
            "data_of": name,
            "source_tier": tier,
            "tier": tier,
            "source": self.placement.stages[name][0]["output"],
            "destination": folder,
            "patterns": [],
        }

    def bring_out(self, stage: str, number: int, copies: _Copies) -> None:
        """Add the copies that bring what ``stage`` wrote from the node's own tier to where it is needed."""
        several = len(self.nodes) > 1
        relayed: list[str] | None = []
        for consumer, rows in self.placement.stage_in.items():
            if stage not in self.placement.stages[consumer][0]["inputs"]:
                continue
            copy = next((row for row in rows if row["data_of"] == stage), None)
            if self.tier_of(consumer).shared:
                assert copy is not None  # a shared tier is never the local tier that the stage wrote to
                copies.add(copy, self.record(copy, number), may_be_empty=several)
            elif not self.reaches(stage):
                patterns = copy["patterns"] if copy is not None else []
                relayed = [*relayed, *patterns] if patterns and relayed is not None else None
        if relayed is None or relayed:
            copy = self.same_place(stage, stage, self.relay(stage))
            copy = {**copy, "tier": self.catalog.home, "patterns": sorted(set(relayed or []))}
            copies.add(copy, self.record(copy, number, "relay"), may_be_empty=several)
        for copy in self.placement.stage_out[stage]:
            copies.add(copy, self.record(copy, number), may_be_empty=several)

    def copying_pod(self, stage: str, way: str) -> list[Row]:
        """Return the pod for the copies between shared tiers before or after ``stage``, if there are any."""
        rows = (self.placement.stage_in if way == "in" else self.placement.stage_out)[stage]
        copies = _Copies()
        for copy in rows:
            if self.catalog.tier(copy["source_tier"]).shared and self.catalog.tier(copy["tier"]).shared:
                copies.add(copy, self.record(copy))
        if not copies.lines:
            return []
        tier = self.tier_of(stage)
        label = f"{stage}: copy {way}"
        env = {"QOSFLOW_COPY_IN": copies.text, "QOSFLOW_LABEL": label}
        tiers = [self.catalog.home, *copies.tiers]
        return [self.pod(f"{stage}-copy-{way}", label, self.nodes[0], tiers, env, tier, 1)]

    def cleaning_pods(self) -> Iterator[Row]:
        """Yield the pods that remove the run's folders, but for what is kept on the home tier."""
        home = self.catalog.tier(self.catalog.home)
        used = [self.catalog.tier(name) for name in used_tiers(self.placement, self.catalog)]
        others = [tier for tier in used if tier.name != home.name and volume_of(tier).outlives_pods]
        for at, node in enumerate(self.nodes):
            folders = [
                (tier.name, str(PurePosixPath(str(tier.mount), self.run)))
                for tier in others
                if at == 0 or not tier.shared
            ]
            if at == 0 and self.passes_home():
                folders += [
                    (home.name, str(PurePosixPath(str(home.mount), self.run, part)))
                    for part in ("staged", "relay")
                ]
            if folders:
                label = f"clean {node}"
                env = {
                    "QOSFLOW_REMOVE": "\n".join(folder for _, folder in folders),
                    "QOSFLOW_RECOMMENDATION_ID": self.run,
                    "QOSFLOW_LABEL": label,
                }
                yield self.pod(f"clean-{at}", label, node, [name for name, _ in folders], env, home, 1)

    def records_pod(self) -> Row:
        """Return the pod that prints the records: Airflow's workers need not see the home tier."""
        home = self.catalog.tier(self.catalog.home)
        env = {"QOSFLOW_PRINT": self.records, "QOSFLOW_LABEL": "records"}
        return self.pod("records", "records", self.nodes[0], [home.name], env, home, 1)

    def passes_home(self) -> bool:
        """Return whether copies of the run lie on the home tier that nobody needs afterwards."""
        home = self.catalog.home
        staged = any(row["tier"] == home for rows in self.placement.stage_in.values() for row in rows)
        return staged or any(
            not self.reaches(name) and not self.tier_of(stage).shared
            for stage, rows in self.placement.stages.items()
            for name in rows[0]["inputs"]
        )

    def record(self, copy: Row, number: int | None = None, kind: str = "") -> str:
        parts = [copy["stage"], copy["data_of"], kind, "" if number is None else str(number)]
        name = "-".join(part for part in parts if part)
        return str(PurePosixPath(self.records, "copies", f"{name}.json"))

    def pod(
        self,
        name: str,
        label: str,
        node: str,
        tiers: Sequence[str],
        env: Mapping[str, str],
        tier: StorageTier,
        tasks_at_once: int,
    ) -> Row:
        """Return one pod as what ``KubernetesPodOperator`` takes, all plain JSON."""
        mounted = [found for found in self.catalog.tiers if found.name in tiers]
        volume = volume_of(tier)
        memory = sum(volume_of(one).size_bytes or 0 for one in mounted if one.memory)
        requests = {"memory": "0", **volume.requests} if memory else dict(volume.requests)
        resources = {
            "requests": multiply(requests, tasks_at_once, extra_memory_bytes=memory),
            "limits": multiply(volume.limits, tasks_at_once, extra_memory_bytes=memory),
        }
        names = [one.name for one in mounted]
        return {
            "name": _dns_name(name),
            "labels": {RUN_LABEL: self.run},
            "annotations": {LABEL: label, "qosflow/tier": tier.name, "qosflow/node": node},
            "env_vars": _checked(env),
            "volumes": [
                {"name": self.volume_name(one), **volume_of(one).source(node, memory=one.memory)}
                for one in mounted
            ],
            "volume_mounts": [self.mount(one) for one in mounted],
            "node_selector": selector_of(self.catalog, names),
            "tolerations": tolerations_of(self.catalog, names),
            "affinity": _on_node(node),
            "container_resources": {kind: found for kind, found in resources.items() if found},
        }

    def volume_name(self, tier: StorageTier) -> str:
        # Names of tiers may hold what names of volumes may not.
        return f"tier-{self.catalog.index[tier.name]}"

    def mount(self, tier: StorageTier) -> Row:
        if not tier.mount:
            raise TierError(f"tier {tier.name!r} has no mount", cure="Set its `mount` in tiers.yaml.")
        sub_path = volume_of(tier).sub_path
        mount = {"name": self.volume_name(tier), "mountPath": tier.mount}
        return {**mount, "subPath": sub_path} if sub_path else mount


def _on_node(node: str) -> Row:
    """Return the affinity of a pod that runs on ``node`` and nowhere else."""
    # By its name and not by a label: the label of the host name may differ from it.
    field_is = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [field_is]}}
    return {"nodeAffinity": required}


def _dns_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "stage"


def _ranges(indexes: Sequence[int]) -> str:
    """Return positions counted from 1: as ``3``, as ``1-5``, and where they leave some out as ``1,3,5``."""
    first, last = indexes[0] + 1, indexes[-1] + 1
    if len(indexes) == 1:
        return str(first)
    if last - first + 1 == len(indexes):
        return f"{first}-{last}"
    shown = [str(index + 1) for index in indexes]
    return ",".join(shown) if len(shown) <= 6 else ",".join([*shown[:3], "...", shown[-1]])


def _checked(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        lines = (
            value.splitlines()
            if name in ("QOSFLOW_COPY_IN", "QOSFLOW_COPY_OUT", "QOSFLOW_REMOVE")
            else [value]
        )
        if any(not line.isprintable() for line in lines):
            raise WorkflowError(
                f"a name or folder in {name} holds a control character, which a shell cannot be told",
                cure="Rename it.",
            )
    return dict(env)
