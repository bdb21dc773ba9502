"""What a storage tier is in a Kubernetes cluster: its volume, its nodes, and what a task on it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

VolumeKind = Literal["claim", "host_path", "empty_dir", "local_volume"]
"""A volume claim; a folder of the node; a folder that lives as long as its pod; a claim per node."""

NODE_PLACEHOLDER = "{node}"
"""Stands for the node's name in the name of a claim that there is one of per node."""


@dataclass(frozen=True)
class ClusterVolume:
    """The volume behind a tier, as ``kubernetes`` in tiers.yaml gives it.

    Attributes
    ----------
    kind, name:
        What the volume is, and its claim's name or its path; empty for ``empty_dir``.
    sub_path:
        The folder of the volume that the tier is mounted from; the whole volume where empty.
    node_selector, tolerations:
        On which nodes tasks of the tier may run, as Kubernetes takes them.
    requests, limits:
        What *one task* asks for and may take at most: resource to quantity.
    size_bytes:
        How much a run may put there per node; counted into the memory of pods where the tier is memory.
    """

    kind: VolumeKind
    name: str = ""
    sub_path: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int | None = None

    @property
    def outlives_pods(self) -> bool:
        """Whether another pod on the same node finds there what one has written."""
        return self.kind != "empty_dir"

    def source(self, node: str, *, memory: bool) -> dict[str, Any]:
        """Return the source of the volume on ``node``, as a manifest holds it."""
        if self.kind == "host_path":
            # Not DirectoryOrCreate: a tier that is not mounted would quietly become the node's own disk.
            return {"hostPath": {"path": self.name, "type": "Directory"}}
        if self.kind == "empty_dir":
            medium = {"medium": "Memory"} if memory else {}
            size = {} if self.size_bytes is None else {"sizeLimit": str(self.size_bytes)}
            return {"emptyDir": {**medium, **size}}
        return {"persistentVolumeClaim": {"claimName": self.claim(node)}}

    def claim(self, node: str) -> str | None:
        """Return the name of the claim on ``node``, ``None`` where the volume is none."""
        if self.kind == "local_volume":
            return self.name.replace(NODE_PLACEHOLDER, node)
        return self.name if self.kind == "claim" else None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClusterVolume:
        """Build a volume from its fields as plain JSON."""
        return cls(**{**value, "tolerations": tuple(value["tolerations"])})


def binding_problem(volume: ClusterVolume, *, shared: bool, memory: bool) -> tuple[str, str] | None:
    """Return what keeps ``volume`` from being such a tier, and the cure; ``None`` where nothing does."""
    if shared and volume.kind in ("empty_dir", "local_volume"):
        return (f"binds a shared tier to {volume.kind}, which one node sees", "Use claim or host_path.")
    if not shared and volume.kind == "claim":
        return (
            "binds a local tier to one claim, which is the same storage on every node",
            f"Use host_path, empty_dir, or local_volume with {NODE_PLACEHOLDER} in the claim's name.",
        )
    if volume.kind == "local_volume" and NODE_PLACEHOLDER not in volume.name:
        return (
            f"names one claim for all nodes, without {NODE_PLACEHOLDER}",
            "Write it as in scratch-{node}.",
        )
    if memory and volume.size_bytes is None:
        return (
            "binds a tier in memory without a size",
            "Give size_limit_gib or the tier's capacity_gib: it is counted into the memory of pods.",
        )
    return None
