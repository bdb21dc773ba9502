"""Which nodes of a cluster a run uses: those that its tiers' volumes, taints and free room allow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qosflow_airflow.core.quantities import parse_quantity
from qosflow_airflow.exceptions import ClusterError


@dataclass(frozen=True)
class ClusterNode:
    """A node as the cluster describes it: labels, taints (key, value, effect), allocatable quantities."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...] = ()
    allocatable: Mapping[str, str] | None = None
    usable: bool = True
    """Whether the node is ready and takes new pods."""


def choose_nodes(
    nodes: Iterable[ClusterNode],
    count: int,
    *,
    node_selector: Mapping[str, str],
    tolerations: Sequence[Mapping[str, Any]],
    requests: Iterable[Mapping[str, str]],
    seed: str,
) -> tuple[str, ...]:
    """Return the names of ``count`` nodes that can run every pod of a run, the same for the same ``seed``.

    ``requests`` are those of the run's pods, of which one at a time must fit on an empty node. Runs of
    different seeds begin at different nodes, so that they spread over a cluster.

    Raises
    ------
    ClusterError
        When there are fewer such nodes; it says what the others lack.
    """
    asked = list(requests)
    reasons = {
        node.name: reason for node in nodes for reason in [refusal(node, node_selector, tolerations, asked)]
    }
    able = sorted(name for name, reason in reasons.items() if reason is None)
    if len(able) < count:
        raise ClusterError(_too_few(count, able, reasons, node_selector), cure=_CURE)
    first = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % len(able)
    return tuple((able[first:] + able[:first])[:count])


_CURE = (
    "Label, untaint or add nodes, correct `kubernetes` in tiers.yaml and build the model again, or ask "
    "with a smaller max_nodes."
)


def refusal(
    node: ClusterNode,
    node_selector: Mapping[str, str],
    tolerations: Sequence[Mapping[str, Any]],
    requests: Sequence[Mapping[str, str]],
) -> str | None:
    """Return what keeps the pods of a run off ``node``, ``None`` where nothing does."""
    missing = [f"{key}={value}" for key, value in node_selector.items() if node.labels.get(key) != value]
    if missing:
        return f"lacks the label {', '.join(missing)}"
    if not node.usable:
        return "is not ready, or takes no pods"
    for taint in node.taints:
        if taint["effect"] != "PreferNoSchedule" and not any(_tolerates(one, taint) for one in tolerations):
            return f"has the taint {taint['key']}:{taint['effect']}"
    for request in requests:
        for resource, quantity in request.items():
            room = (node.allocatable or {}).get(resource, "0")
            if node.allocatable is not None and parse_quantity(quantity) > parse_quantity(room):
                return f"has {room} of {resource}, and a pod asks for {quantity}"
    return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _too_few(
    count: int, able: Sequence[str], reasons: Mapping[str, str | None], node_selector: Mapping[str, str]
) -> str:
    wanted = ", ".join(f"{key}={value}" for key, value in node_selector.items())
    said = [f"{name} {reason}" for name, reason in sorted(reasons.items()) if reason is not None]
    shown = "; ".join(said[:5]) + (f"; and {len(said) - 5} more" if len(said) > 5 else "")
    of = f" with {wanted}" if wanted else ""
    return f"the run needs {count} nodes{of}, and the cluster has {len(able)}" + (
        f": {shown}" if shown else ""
    )
