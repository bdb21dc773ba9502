"""One pod as what ``KubernetesPodOperator`` takes, all plain JSON: volumes, node, resources, variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qosflow_airflow.core.placement import Row
from qosflow_airflow.core.pod_tiers import selector_of, tolerations_of, volume_of
from qosflow_airflow.core.quantities import multiply
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.exceptions import TierError, WorkflowError

LABEL = "qosflow/label"
"""The annotation that says which tasks a pod runs, in the words of the grid."""
NODE = "qosflow/node"
"""The annotation that says on which node a pod runs."""
TIER = "qosflow/tier"
"""The annotation that says which tier a pod's tasks use."""
RUN_LABEL = "qosflow/recommendation"
"""The label of all pods of a run."""

_SEVERAL_LINES = ("QOSFLOW_COPY_IN", "QOSFLOW_COPY_OUT", "QOSFLOW_REMOVE", "QOSFLOW_TRY")


@dataclass(frozen=True)
class Manifests:
    """Makes the pods of one run; ``run`` is the name of its own folder on every tier."""

    catalog: TierCatalog
    run: str

    def pod(
        self,
        name: str,
        label: str,
        node: str,
        tiers: Sequence[str],
        env: Mapping[str, str],
        tier: StorageTier,
        *,
        tasks_at_once: int = 1,
        fills_memory: bool = True,
    ) -> Row:
        """Return one pod on ``node`` that sees ``tiers`` and asks for what tasks on ``tier`` need.

        Where it ``fills_memory``, the sizes of tiers in memory are counted into what it asks for.

        Raises
        ------
        TierError
            When a tier has no mount.
        WorkflowError
            When a name cannot be told to a shell.
        """
        mounted = [found for found in self.catalog.tiers if found.name in tiers]
        names = [one.name for one in mounted]
        in_memory = [volume_of(one).size_bytes or 0 for one in mounted if one.memory and fills_memory]
        return {
            "name": _dns_name(name),
            "labels": {RUN_LABEL: self.run},
            "annotations": {LABEL: label, TIER: tier.name, NODE: node},
            "env_vars": _checked({**env, "QOSFLOW_LABEL": label}),
            "volumes": [
                {"name": self._volume_name(one), **volume_of(one).source(node, memory=one.memory)}
                for one in mounted
            ],
            "volume_mounts": [self._mount(one) for one in mounted],
            "node_selector": selector_of(self.catalog, names),
            "tolerations": tolerations_of(self.catalog, names),
            "affinity": _on_node(node),
            "container_resources": resources(tier, tasks_at_once, sum(in_memory)),
        }

    def _volume_name(self, tier: StorageTier) -> str:
        # Names of tiers may hold what names of volumes may not.
        return f"tier-{self.catalog.index[tier.name]}"

    def _mount(self, tier: StorageTier) -> Row:
        if not tier.mount:
            raise TierError(f"tier {tier.name!r} has no mount", cure="Set its `mount` in tiers.yaml.")
        sub_path = volume_of(tier).sub_path
        mount = {"name": self._volume_name(tier), "mountPath": tier.mount}
        return {**mount, "subPath": sub_path} if sub_path else mount


def resources(tier: StorageTier, tasks_at_once: int, memory_bytes: int) -> Row:
    """Return what a pod of so many tasks asks for and may take, ``memory_bytes`` of its volumes among it."""
    volume = volume_of(tier)
    requests = {"memory": "0", **volume.requests} if memory_bytes else dict(volume.requests)
    found = {
        "requests": multiply(requests, tasks_at_once, extra_memory_bytes=memory_bytes),
        "limits": multiply(volume.limits, tasks_at_once, extra_memory_bytes=memory_bytes),
    }
    return {kind: quantities for kind, quantities in found.items() if quantities}


def _on_node(node: str) -> Row:
    """Return the affinity of a pod that runs on ``node`` and nowhere else."""
    # By its name and not by a label: the label of the host name may differ from it.
    field_is = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [field_is]}}
    return {"nodeAffinity": required}


def _dns_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "stage"


def _checked(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        lines = value.splitlines() if name in _SEVERAL_LINES else [value]
        if any(not line.isprintable() for line in lines):
            raise WorkflowError(
                f"a name or folder in {name} holds a control character, which a shell cannot be told",
                cure="Rename it.",
            )
    return dict(env)
