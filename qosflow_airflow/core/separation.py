"""How clearly neighbouring regions differ: Hedges' g against a threshold that grows with their spread.

Source: QoSFlow (IPDPS 2026): neighbours by median, coefficient of variation from the median absolute
deviation, pairs weighted by the harmonic mean of their sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from qosflow_airflow.core.transfer import FloatArray

SMALLEST_DIFFERENCE = 0.1
"""The share of the median by which neighbours should differ."""
HIGHEST_THRESHOLD = 1.0
"""Groups one pooled standard deviation apart are separate, however narrow they are."""
NORMAL_SPREAD_PER_MAD = 1.4826


def separation(groups: Sequence[FloatArray]) -> float | None:
    """Return the weighted share (0-1) of neighbouring ``groups`` that differ, ``None`` with fewer than two.

    ``groups`` are makespans per region, ordered by median. Neighbours differ when |g| reaches
    ``SMALLEST_DIFFERENCE`` / (pooled coefficient of variation), at most ``HIGHEST_THRESHOLD``.
    """
    pairs = list(pairwise(groups))
    if not pairs:
        return None
    weights = np.array([2 / (1 / len(a) + 1 / len(b)) for a, b in pairs])
    differ = np.array([_differ(a, b) for a, b in pairs])
    return float((weights * differ).sum() / weights.sum())


def hedges_g(first: FloatArray, second: FloatArray) -> float:
    """Return (mean of ``second`` - mean of ``first``) / pooled standard deviation, corrected for few values.

    >>> round(hedges_g(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])), 3)
    2.4

    Infinite where neither group varies but their means differ.
    """
    n = len(first) + len(second)
    difference = second.mean() - first.mean()
    squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    if n <= 2 or squares == 0:
        return float(np.copysign(np.inf, difference)) if difference else 0.0
    return float(difference / np.sqrt(squares / (n - 2)) * (1 - 3 / (4 * n - 9)))


def _differ(first: FloatArray, second: FloatArray) -> bool:
    spread = np.array([_variation(first), _variation(second)])
    pooled = np.sqrt((spread**2 * [len(first), len(second)]).sum() / (len(first) + len(second)))
    threshold = min(SMALLEST_DIFFERENCE / pooled, HIGHEST_THRESHOLD) if pooled > 0 else HIGHEST_THRESHOLD
    return abs(hedges_g(first, second)) >= threshold


def _variation(values: FloatArray) -> float:
    median = float(np.median(values))
    return NORMAL_SPREAD_PER_MAD * float(np.median(np.abs(values - median))) / median if median > 0 else 0.0
