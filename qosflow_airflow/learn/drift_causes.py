"""What may be behind a drift, as far as runs tell: other data, another platform, or another code.

Bytes tell of the data: stages that move as many as before do the same work on them. Tiers tell of the
platform: where only some of those in use have become slower or faster, these have changed. What is left is
the code, or a platform that has changed as a whole; runs alone do not tell these two apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qosflow_airflow.learn.calibration import Residual

OTHER_DATA = math.log(1.2)
"""A run that moves 20 % more or less than before has other data."""


def likely_cause(
    residuals: Sequence[Sequence[Residual]], moved_bytes: Sequence[float | None], since: int, shift: float
) -> str:
    """Say what a drift that began with run ``since`` may come from; empty where nothing tells.

    ``residuals`` and ``moved_bytes`` are those of the runs, oldest first; ``shift`` is the drift's.
    """
    before, after = ([one for one in part if one] for part in (moved_bytes[:since], moved_bytes[since:]))
    if before and after:
        ratio = float(np.median(after) / np.median(before))
        if abs(math.log(ratio)) > OTHER_DATA:
            return f"the data have changed: runs move {ratio:.2g} times as many bytes"
    tiers = _shifts(residuals, since)
    moved = sorted(tier for tier, found in tiers.items() if abs(found - shift) < abs(shift) / 2)
    still = [tier for tier, found in tiers.items() if abs(found) < abs(shift) / 4]
    if moved and still and len(moved) + len(still) == len(tiers):
        return f"the platform has changed: stages on {', '.join(moved)} have, those on other tiers have not"
    if before and after:
        return "runs move as many bytes as before: the code has changed, or the platform as a whole"
    return ""


def _shifts(residuals: Sequence[Sequence[Residual]], since: int) -> Mapping[str, float]:
    """Return by how much stages on each tier take longer than before (log), where both are known."""
    parts: list[dict[tuple[str, str], list[float]]] = []
    for part in (residuals[:since], residuals[since:]):
        found: dict[tuple[str, str], list[float]] = {}
        for one in (one for run in part for one in run):
            found.setdefault((one.stage, one.tier), []).append(one.log_ratio)
        parts.append(found)
    before, after = parts
    by_tier: dict[str, list[float]] = {}
    for key in before.keys() & after.keys():
        by_tier.setdefault(key[1], []).append(float(np.median(after[key]) - np.median(before[key])))
    return {tier: float(np.median(found)) for tier, found in by_tier.items()}
