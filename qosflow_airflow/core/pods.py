"""A placement as pods: plain-JSON rows with volumes, nodes, resources and what to copy before and after.

What lies on a node's own tier is seen by that node alone, and gone with the pod where the volume is one of
the pod's. So a stage on a local tier is one pod per node, which brings inputs in before its tasks and outputs
out after them; only copies between shared tiers have pods of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from qosflow_airflow.core.placement import MAX_ROWS, Placement, Row
from qosflow_airflow.core.pod_copies import RunCopies
from qosflow_airflow.core.pod_manifest import LABEL, NODE, RUN_LABEL, TIER, Manifests
from qosflow_airflow.core.pod_tiers import check_bound, check_initial_data, used_tiers, volume_of
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.exceptions import WorkflowError

__all__ = ["LABEL", "NODE", "RUN_LABEL", "TIER", "PodPlan", "plan_pods", "trying_pods"]


@dataclass(frozen=True)
class PodPlan:
    """The pods of one run, as rows; each list may be empty, and then there is no pod.

    Attributes
    ----------
    stages:
        Per stage, the pods that run its tasks.
    stage_in:
        Per stage, the pods that copy before it: at most one, or one per node where outputs lie that an
        earlier plan wanted elsewhere.
    stage_out:
        Per stage, at most one pod, for the copies between shared tiers after it.
    clean:
        The pods that remove what nobody needs afterwards: one per node where something lies there, and in a
        run that may fall back one per node and tier.
    records:
        The pod that prints what the tasks and copies of the run recorded.
    """

    stages: Mapping[str, list[Row]]
    stage_in: Mapping[str, list[Row]]
    stage_out: Mapping[str, list[Row]]
    clean: list[Row]
    records: Row


def plan_pods(
    placement: Placement,
    catalog: TierCatalog,
    nodes: Sequence[str],
    *,
    tasks_per_pod: int = 1,
    max_rows: int = MAX_ROWS,
    fallback: Collection[str] = (),
    unbrought: Mapping[str, Collection[str]] | None = None,
) -> PodPlan:
    """Return the pods of a run on ``nodes``, which are as many as its configuration has.

    Task ``i`` runs on node ``i`` modulo their number. On a shared tier a pod runs ``tasks_per_pod`` of a
    node's tasks, or more where the stage would have more than ``max_rows`` pods; on a local tier all of them.
    ``fallback`` are the tiers that the run may come to use when it is planned again. ``unbrought`` are, per
    stage, those before it that have run by another plan.

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
    copies = RunCopies(placement, catalog, tuple(nodes), bool(fallback), unbrought or {})
    planner = _Planner(copies, tasks_per_pod, max_rows, tuple(fallback))
    return PodPlan(
        stages={stage: list(planner.pods(stage)) for stage in placement.stages},
        stage_in={stage: list(planner.pods_before(stage)) for stage in placement.stages},
        stage_out={stage: list(planner.pods_after(stage)) for stage in placement.stages},
        clean=list(planner.cleaning_pods()),
        records=planner.records_pod(),
    )


def trying_pods(
    placement: Placement, catalog: TierCatalog, nodes: Sequence[str], stage: str, output_bytes: float
) -> list[Row]:
    """Return the pods that try the tier of ``stage``: one per node where it is local, else one.

    Each sees that tier and nothing else, so that what keeps it from starting is the tier. ``output_bytes``
    is what the stage is expected to write, on all nodes together.
    """
    copies = RunCopies(placement, catalog, tuple(nodes))
    tier, output = copies.tier_of(stage), placement.stages[stage][0]["output"]
    where = nodes[:1] if tier.shared else nodes
    wanted = (str(tier.mount), str(int(output_bytes / len(where))), output)
    manifests, home = Manifests(catalog, copies.run), catalog.tier(catalog.home)
    return [
        manifests.pod(
            f"{stage}-try-{at}",
            f"{stage}: try {tier.name}",
            node,
            [tier.name],
            {"QOSFLOW_TRY": "\n".join(wanted)},
            home,
            fills_memory=False,
        )
        for at, node in enumerate(where)
    ]


@dataclass(frozen=True)
class _Planner:
    copies: RunCopies
    tasks_per_pod: int
    max_rows: int
    fallback: tuple[str, ...]
    manifests: Manifests = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "manifests", Manifests(self.catalog, self.copies.run))

    @property
    def placement(self) -> Placement:
        return self.copies.placement

    @property
    def catalog(self) -> TierCatalog:
        return self.copies.catalog

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.copies.nodes

    @property
    def home(self) -> StorageTier:
        return self.catalog.tier(self.catalog.home)

    def pods(self, stage: str) -> Iterator[Row]:
        """Yield the pods that run the tasks of ``stage``."""
        row, tier = self.placement.stages[stage][0], self.copies.tier_of(stage)
        count = row["count"]
        common = {name: value for name, value in row["env"].items() if name != "QOSFLOW_INDEX"}
        for number, (node, indexes) in enumerate(self.shares(count, local=not tier.shared)):
            slots = self.catalog.node.tasks_at_once(len(indexes))
            env = common | {
                "QOSFLOW_INDEXES": " ".join(map(str, indexes)),
                "QOSFLOW_AT_ONCE": str(slots),
                "QOSFLOW_NODE": node,
                "QOSFLOW_COPY_IN": "",
                "QOSFLOW_COPY_OUT": "",
            }
            tiers = [self.home.name, tier.name]
            if not tier.shared:
                before, after = self.copies.bring_in(stage, number), self.copies.bring_out(stage, number)
                env |= {"QOSFLOW_COPY_IN": before.text, "QOSFLOW_COPY_OUT": after.text}
                tiers += [*before.tiers, *after.tiers]
            label = f"{stage} {_ranges(indexes)}/{count} on {tier.name}"
            name = f"{stage}-{number}"
            yield self.manifests.pod(name, label, node, tiers, env, tier, tasks_at_once=slots)

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

    def pods_before(self, stage: str) -> Iterator[Row]:
        """Yield the pods that only copy, before ``stage``."""
        for number, copies in self.copies.before(stage):
            at = "" if number == 0 else f"-{number}"
            tiers, env = [self.home.name, *copies.tiers], {"QOSFLOW_COPY_IN": copies.text}
            yield self.manifests.pod(
                f"{stage}-copy-in{at}",
                f"{stage}: copy in",
                self.nodes[number],
                tiers,
                env,
                self.copies.tier_of(stage),
            )

    def pods_after(self, stage: str) -> Iterator[Row]:
        """Yield the pod that only copies, after ``stage``, if there is anything to copy."""
        copies = self.copies.after(stage)
        if copies.lines:
            tiers, env = [self.home.name, *copies.tiers], {"QOSFLOW_COPY_IN": copies.text}
            label, tier = f"{stage}: copy out", self.copies.tier_of(stage)
            yield self.manifests.pod(f"{stage}-copy-out", label, self.nodes[0], tiers, env, tier)

    def cleaning_pods(self) -> Iterator[Row]:
        """Yield the pods that remove the run's folders, but for what is kept on the home tier."""
        left = list(self.leftovers())
        # Where a tier may have failed, the pod that removes what lies on it must stop no other.
        groups = [[one] for one in left] if self.fallback else []
        groups = groups or [[one for one in left if one[0] == node] for node in self.nodes]
        for number, group in enumerate(found for found in groups if found):
            node, tier, _ = group[0]
            env = {
                "QOSFLOW_REMOVE": "\n".join(folder for _, _, folders in group for folder in folders),
                "QOSFLOW_RECOMMENDATION_ID": self.copies.run,
            }
            label = f"clean {node}: {tier}" if self.fallback else f"clean {node}"
            pod = self.manifests.pod(
                f"clean-{number}", label, node, [name for _, name, _ in group], env, self.home
            )
            yield {**pod, "annotations": {**pod["annotations"], TIER: tier}}

    def leftovers(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield node, tier and folders of what nobody needs after the run."""
        used = self.fallback or used_tiers(self.placement, self.catalog)
        tiers = [self.catalog.tier(name) for name in used if name != self.home.name]
        for at, node in enumerate(self.nodes):
            for tier in tiers:
                if volume_of(tier).outlives_pods and (at == 0 or not tier.shared):
                    yield node, tier.name, [self.folder(tier)]
            if at == 0 and (self.fallback or self.copies.pass_home()):
                yield node, self.home.name, [self.folder(self.home, part) for part in ("staged", "relay")]

    def folder(self, tier: StorageTier, *parts: str) -> str:
        return str(PurePosixPath(str(tier.mount), self.copies.run, *parts))

    def records_pod(self) -> Row:
        """Return the pod that prints the records: Airflow's workers need not see the home tier."""
        env = {"QOSFLOW_PRINT": self.copies.records}
        return self.manifests.pod("records", "records", self.nodes[0], [self.home.name], env, self.home)


def _ranges(indexes: Sequence[int]) -> str:
    """Return positions counted from 1: as ``3``, as ``1-5``, and where they leave some out as ``1,3,5``."""
    first, last = indexes[0] + 1, indexes[-1] + 1
    if len(indexes) == 1:
        return str(first)
    if last - first + 1 == len(indexes):
        return f"{first}-{last}"
    shown = [str(index + 1) for index in indexes]
    return ",".join(shown) if len(shown) <= 6 else ",".join([*shown[:3], "...", shown[-1]])
