"""``kubernetes`` below a tier of tiers.yaml: the volume behind it, and where and how tasks on it run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, get_args

from qosflow_airflow.core.cluster_volumes import (
    NODE_PLACEHOLDER,
    ClusterVolume,
    VolumeKind,
    binding_problem,
)
from qosflow_airflow.core.quantities import parse_quantity
from qosflow_airflow.core.tiers import StorageTier
from qosflow_airflow.exceptions import TierError
from qosflow_airflow.readers.document import Node

KINDS: tuple[VolumeKind, ...] = get_args(VolumeKind)
OPTIONAL = ("sub_path", "node_selector", "tolerations", "requests", "limits", "size_limit_gib")
TOLERATION = ("key", "operator", "value", "effect")

_CHOICES = {
    "operator": ("Exists", "Equal"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?")
MAX_GIB = 1e12
BYTES_PER_GIB = 2**30


def read_cluster_volume(node: Node, tier: StorageTier) -> ClusterVolume:
    """Read what ``tier`` is in a cluster.

    ::

        kubernetes:
          claim: qosflow-home        # or host_path: /mnt/nvme, empty_dir: true, local_volume: scratch-{node}
          sub_path: runs             # of a claim or a local volume
          node_selector: {qosflow/tier: nvme}
          tolerations: [{key: batch, operator: Exists, effect: NoSchedule}]
          requests: {cpu: 500m, memory: 256Mi}   # of one task
          limits: {memory: 1Gi}                  # of one task
          size_limit_gib: 4          # per node; default the tier's capacity where it is memory

    Raises
    ------
    TierError
        When a key is unknown, a value is of the wrong kind, there is not exactly one volume, or it cannot be
        such a tier.
    """
    fields = node.fields((), (*KINDS, *OPTIONAL))
    kinds = [kind for kind in KINDS if kind in fields]
    if len(kinds) != 1:
        raise node.fail(f"has {len(kinds)} volumes", f"Give exactly one of {', '.join(KINDS)}.")
    kind = kinds[0]
    limit = (
        fields["size_limit_gib"].number(1 / BYTES_PER_GIB, MAX_GIB) if "size_limit_gib" in fields else None
    )
    volume = ClusterVolume(
        kind=kind,
        name=_volume_name(kind, fields[kind]),
        sub_path=_sub_path(kind, fields["sub_path"]) if "sub_path" in fields else "",
        node_selector=_labels(fields["node_selector"]) if "node_selector" in fields else {},
        tolerations=_tolerations(fields["tolerations"]) if "tolerations" in fields else (),
        requests=_resources(fields["requests"]) if "requests" in fields else {},
        limits=_resources(fields["limits"]) if "limits" in fields else {},
        size_bytes=_default_size(tier) if limit is None else round(limit * BYTES_PER_GIB),
    )
    problem = binding_problem(volume, shared=tier.shared, memory=tier.memory)
    if problem is not None:
        raise node.fail(*problem)
    _check_limits(fields, volume)
    return volume


def _default_size(tier: StorageTier) -> int | None:
    return tier.capacity_bytes if tier.memory else None


def _volume_name(kind: VolumeKind, node: Node) -> str:
    if kind == "empty_dir":
        if not node.flag():
            raise node.fail("is false", "Write true, or leave it out.")
        return ""
    text = node.text()
    if kind == "host_path":
        if not PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
            raise node.fail(f"is {text!r}", "Give the absolute path of a folder on the node.")
    elif not _NAME.fullmatch(text.replace(NODE_PLACEHOLDER, "node")):
        raise node.fail(
            f"is {text!r}, not the name of a claim", "Use small letters, digits, dashes and dots."
        )
    return text


def _sub_path(kind: VolumeKind, node: Node) -> str:
    if kind not in ("claim", "local_volume"):
        raise node.fail(f"does not go with {kind}", "Use it with a claim or a local volume.")
    text = node.text()
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise node.fail(f"is {text!r}", "Give the path of a folder within the volume.")
    return text


def _labels(node: Node) -> dict[str, str]:
    labels = {}
    for key, value in node.mapping().items():
        # A label may be `true` or `on`; its value is text all the same.
        text = value.written or (str(value.content).lower() if isinstance(value.content, bool) else "")
        text = text or (str(value.content) if isinstance(value.content, int) else value.text())
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(text):
            raise value.fail(f"is no label of a node: {key}={text}", "Write it as in qosflow/tier: nvme.")
        labels[key] = text
    return labels


def _tolerations(node: Node) -> tuple[dict[str, Any], ...]:
    found = []
    for one in node.sequence():
        fields = one.fields((), TOLERATION)
        toleration = {name: value.text() for name, value in fields.items()}
        for name, choices in _CHOICES.items():
            if name in toleration and toleration[name] not in choices:
                raise fields[name].fail(f"is {toleration[name]!r}", f"Use one of {', '.join(choices)}.")
        if "key" not in toleration and toleration.get("operator") != "Exists":
            raise one.fail("tolerates no key", "Give a key, or `operator: Exists` to tolerate every taint.")
        found.append(toleration)
    return tuple(found)


def _resources(node: Node) -> dict[str, str]:
    resources = {}
    for name, value in node.mapping().items():
        text = str(value.content) if isinstance(value.content, int | float) else value.text()
        try:
            parse_quantity(text)
        except TierError as error:
            raise value.fail(f"is {text!r}, no quantity of a resource", error.cure or "") from None
        resources[name] = text
    return resources


def _check_limits(fields: Mapping[str, Node], volume: ClusterVolume) -> None:
    for name, limit in volume.limits.items():
        request = volume.requests.get(name)
        if request is not None and parse_quantity(request) > parse_quantity(limit):
            raise fields["requests"].fail(
                f"asks for {request} of {name}, above its limit of {limit}",
                "Raise the limit, or ask for less.",
            )
