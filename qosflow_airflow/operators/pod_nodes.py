"""On which nodes of a cluster the pods of a run are, and which tiers they can use there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qosflow_airflow.core.cluster_nodes import ClusterNode, choose_nodes, refusal
from qosflow_airflow.core.placement import Placement
from qosflow_airflow.core.pod_manifest import resources
from qosflow_airflow.core.pod_tiers import check_bound, selector_of, tolerations_of, used_tiers
from qosflow_airflow.core.pods import plan_pods
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.exceptions import ClusterError, TierError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.cluster import check_claims, read_nodes


@dataclass(frozen=True)
class RunNodes:
    """The nodes of a run, and the tiers that it cannot use on them, each with the reason."""

    names: tuple[str, ...]
    closed: Mapping[str, str]


@dataclass(frozen=True)
class ClusterView:
    """A cluster, as one namespace of it is seen; ``client`` is a ``CoreV1Api``."""

    client: Any
    namespace: str

    def choose(
        self, placement: Placement, catalog: TierCatalog, tasks_per_pod: int, *, fallback: bool
    ) -> RunNodes:
        """Return nodes that can run every pod of a run, after a check of its volumes.

        Other tiers than those of the run are looked at only for a run that may ``fallback`` to them.

        Raises
        ------
        ClusterError
            When there are too few such nodes, a claim is wrong, or the cluster cannot be asked.
        TierError
            When a tier of the run has no volume.
        """
        tiers = used_tiers(placement, catalog)
        check_bound(catalog, tiers)
        first = next(iter(placement.stages.values()))[0]
        nodes = read_nodes(self.client)
        names = choose_nodes(
            nodes,
            first["nodes"],
            node_selector=selector_of(catalog, tiers),
            tolerations=tolerations_of(catalog, tiers),
            requests=_requests(placement, catalog, first["nodes"], tasks_per_pod),
            seed=first["env"]["QOSFLOW_RECOMMENDATION_ID"],
        )
        check_claims(self.client, self.namespace, catalog, tiers, names)
        if not fallback:
            return RunNodes(names, {})
        chosen = [node for node in nodes if node.name in names]
        others = [tier for tier in catalog.tiers if tier.name not in tiers]
        reasons = {tier.name: self._why_closed(tier, catalog, chosen) for tier in others}
        return RunNodes(names, {tier: reason for tier, reason in reasons.items() if reason is not None})

    def _why_closed(
        self, tier: StorageTier, catalog: TierCatalog, nodes: Sequence[ClusterNode]
    ) -> str | None:
        """Return why a tier cannot be used on ``nodes``, ``None`` where it can be."""
        if tier.volume is None or not tier.mount:
            return "it has no volume or no mount"
        both, size_bytes = [catalog.home, tier.name], (tier.volume.size_bytes or 0) if tier.memory else 0
        wanted = [resources(tier, 1, size_bytes).get("requests", {})]
        try:
            selector, tolerations = selector_of(catalog, both), tolerations_of(catalog, both)
            for node in nodes:
                if reason := refusal(node, selector, tolerations, wanted):
                    return f"node {node.name} of the run {reason}"
            check_claims(self.client, self.namespace, catalog, [tier.name], [node.name for node in nodes])
        except (ClusterError, TierError) as error:
            return str(error)
        return None


def _requests(
    placement: Placement, catalog: TierCatalog, nodes: int, tasks_per_pod: int
) -> list[Mapping[str, str]]:
    """Return what the pods of a run ask for: on whichever nodes they run, only the number of them counts."""
    names = [str(at) for at in range(nodes)]
    draft = plan_pods(
        placement, catalog, names, tasks_per_pod=tasks_per_pod, max_rows=settings.max_map_length()
    )
    pods = [pod for pods in draft.stages.values() for pod in pods]
    return [pod["container_resources"].get("requests", {}) for pod in pods]
