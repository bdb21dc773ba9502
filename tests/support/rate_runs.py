"""Benchmarks of a made-up storage that saturates, with noise that is known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tests.support.traces import MIB, rate

NODES, TASKS, ACCESS, VOLUME_MIB = (
    (1, 2, 4, 8, 16),
    (1.0, 4.0, 16.0),
    (1024.0, 65536.0, 4194304.0),
    (64.0, 1024.0, 8192.0),
)
NOISE = 0.05


def true_rate(nodes: float, tasks_per_node: float, access_bytes: float, volume_mib: float) -> float:
    """MiB/s: 800 a task at large accesses, 3,000 a node, 20,000 in all, 2 ms to start."""
    tasks = nodes * tasks_per_node
    caps = (tasks * 800 * access_bytes / (access_bytes + 20000), nodes * 3000, 20000)
    bandwidth = sum(cap**-2 for cap in caps) ** -0.5
    return volume_mib / (0.002 + volume_mib / bandwidth)


def benchmark_rows(
    operation: str = "read", tiers: str = "ssd", repeats: int = 2, seed: int = 0
) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        rate(operation, tiers, true_rate(nodes, tasks, access, volume) * float(random.lognormal(0, NOISE)),
             nodes=nodes, tasks_per_node=tasks, tasks=int(nodes * tasks), access_bytes=access,
             volume_bytes=volume * MIB)
        for nodes, tasks, access, volume in product(NODES, TASKS, ACCESS, VOLUME_MIB)
        for _ in range(repeats)
    ]  # fmt: skip
