"""What a part of a space waits for: moving data, the shared tiers, the local tiers, or computing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.core.transfer import FloatArray


class Bottleneck(NamedTuple):
    """The median seconds of each part of a makespan (:data:`~qosflow_airflow.core.schedule.SPLIT`).

    Each part has its own median over the configurations: they need not add up to that of the makespan.
    """

    split_s: Mapping[str, float]

    @classmethod
    def of(cls, split_s: FloatArray) -> Bottleneck:
        """Return the bottleneck of configurations, from their split (configurations x parts)."""
        return cls(dict(zip(SPLIT, np.median(split_s, axis=0).tolist(), strict=True)))

    @property
    def part(self) -> str:
        """The largest part; the first of them where several are as large."""
        return max(SPLIT, key=lambda part: self.split_s[part])

    @property
    def share(self) -> float:
        """The largest part's share of all parts, 0 where there is nothing to wait for."""
        total = sum(self.split_s.values())
        return self.split_s[self.part] / total if total > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {"part": self.part, "share": self.share, "split_s": dict(self.split_s)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bottleneck:
        """Build a bottleneck from its JSON."""
        return cls(dict(value["split_s"]))


def shift(bottlenecks: Iterable[tuple[int, Bottleneck]]) -> dict[str, Any]:
    """Return how a bottleneck changes over node counts, as plain JSON.

    ``scales`` holds part and share per node count, ``changes`` the node counts between which it changes.
    """
    by_nodes = sorted(bottlenecks, key=lambda pair: pair[0])
    scales = [{"nodes": nodes, "part": found.part, "share": found.share} for nodes, found in by_nodes]
    return {"scales": scales, "changes": _changes(scales)}


def _changes(scales: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"from_nodes": a["nodes"], "to_nodes": b["nodes"], "from": a["part"], "to": b["part"]}
        for a, b in pairwise(scales)
        if a["part"] != b["part"]
    ]
