"""What a run must know of a Kubernetes cluster before its pods are made: its nodes and its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qosflow_airflow.exceptions import ClusterError

if TYPE_CHECKING:
    from qosflow_airflow.core.cluster_nodes import ClusterNode
    from qosflow_airflow.core.tiers import TierCatalog

_PAGE = 500
_TIMEOUT_S = 30


def read_nodes(client: Any) -> list[ClusterNode]:
    """Return the cluster's nodes; ``client`` is a ``CoreV1Api``.

    Raises
    ------
    ClusterError
        When the cluster cannot be asked, or does not answer this.
    """
    from qosflow_airflow.core.cluster_nodes import ClusterNode

    found: list[Any] = []
    page: Any = None
    with asked("list nodes"):
        while page is None or page.metadata._continue:
            token = page and page.metadata._continue
            page = client.list_node(limit=_PAGE, _continue=token, _request_timeout=_TIMEOUT_S)
            found += page.items
    return [
        ClusterNode(
            name=node.metadata.name,
            labels=node.metadata.labels or {},
            taints=tuple(_taint(taint) for taint in node.spec.taints or ()),
            allocatable=node.status.allocatable,
            usable=not node.spec.unschedulable and _is_ready(node),
        )
        for node in found
    ]


def check_claims(
    client: Any, namespace: str, catalog: TierCatalog, tiers: Sequence[str], nodes: Sequence[str]
) -> None:
    """Refuse claims that are not there, are lost, or that one node sees while several are to.

    Raises
    ------
    ClusterError
        When a claim cannot serve its tier, or the cluster cannot be asked.
    """
    for name in tiers:
        tier = catalog.tier(name)
        assert tier.volume is not None
        for claim in sorted({found for node in nodes if (found := tier.volume.claim(node)) is not None}):
            _check_claim(client, namespace, name, claim, len(nodes) if tier.shared else 1)


def _check_claim(client: Any, namespace: str, tier: str, claim: str, nodes: int) -> None:
    from kubernetes.client import ApiException

    try:
        with asked(f"read the claim {claim} in {namespace}"):
            found = client.read_namespaced_persistent_volume_claim(
                claim, namespace, _request_timeout=_TIMEOUT_S
            )
    except ApiException:
        raise ClusterError(
            f"tier {tier!r} is bound to the claim {claim}, and there is none of this name in {namespace}",
            cure="Create it, or correct `kubernetes` of the tier in tiers.yaml and build the model again.",
        ) from None
    if found.status.phase == "Lost":
        message = f"the claim {claim} of tier {tier!r} has lost its volume"
        raise ClusterError(message, cure="Restore the volume.")
    if nodes > 1 and not set(found.spec.access_modes or ()) & {"ReadWriteMany"}:
        modes = ", ".join(found.spec.access_modes or ())
        raise ClusterError(
            f"tier {tier!r} is shared by {nodes} nodes, and its claim {claim} is {modes}",
            cure="Use a volume of mode ReadWriteMany, or ask with max_nodes=1.",
        )


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn what goes wrong when the cluster is asked into an error that says so; 404 passes.

    Raises
    ------
    ClusterError
        When the cluster cannot be reached, or refuses.
    """
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404:
            raise
        cure = (
            "Give Airflow's account in the cluster the right to do so."
            if error.status in (401, 403)
            else "See the cluster's own log."
        )
        message = f"the cluster refuses to {what}: {error.status} {error.reason}"
        raise ClusterError(message, cure=cure) from None
    except (ConfigException, HTTPError, OSError) as error:
        raise ClusterError(
            f"the cluster cannot be asked to {what}: {error}", cure="Check the Kubernetes connection."
        ) from None


def _taint(taint: Any) -> Mapping[str, str]:
    return {"key": taint.key, "value": taint.value or "", "effect": taint.effect}


def _is_ready(node: Any) -> bool:
    conditions = {condition.type: condition.status for condition in node.status.conditions or ()}
    return conditions.get("Ready") == "True"
