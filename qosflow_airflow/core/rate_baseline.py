"""The four-axis interpolation that rates were estimated with before, to measure others against.

Nodes, tasks per node, access size and volume are narrowed down one after the other to the two measured
levels around the query (the outermost two beyond the ends). What is left gives a mean rate per level of
each axis, each axis is interpolated linearly between its two means, and the median of the four is the
answer. Measured points are not returned as they are, and cells far from the query weigh as much as near
ones: that is the point of comparison, not a recommendation.
"""

from __future__ import annotations

import numpy as np

from qosflow_airflow.core.transfer import FloatArray


def interpolate_four_axes(points: FloatArray, rates_mib_s: FloatArray, queries: FloatArray) -> FloatArray:
    """Return a rate per query; ``points`` and ``queries`` are n x 4 in raw units, a row per measured run."""
    distinct, back = np.unique(queries, axis=0, return_inverse=True)
    answers = np.array([_answer(points, rates_mib_s, query) for query in distinct])
    found: FloatArray = answers[back.ravel()]
    return found


def _answer(points: FloatArray, rates: FloatArray, query: FloatArray) -> float:
    for axis in range(points.shape[1]):
        low, high = _around(np.unique(points[:, axis]), query[axis])
        kept = (points[:, axis] == low) | (points[:, axis] == high)
        points, rates = points[kept], rates[kept]
    return float(np.median([_along(points[:, axis], rates, query[axis]) for axis in range(points.shape[1])]))


def _around(levels: FloatArray, value: float) -> tuple[float, float]:
    """Return the level below and the one at or above; beyond the ends, the two outermost."""
    if len(levels) == 1:
        return levels[0], levels[0]
    above = int(np.clip(np.searchsorted(levels, value, side="left"), 1, len(levels) - 1))
    return levels[above - 1], levels[above]


def _along(values: FloatArray, rates: FloatArray, value: float) -> float:
    low, high = _around(np.unique(values), value)
    low_rate, high_rate = rates[values == low].mean(), rates[values == high].mean()
    if low == high:
        return float(low_rate)
    rate = low_rate + (value - low) / (high - low) * (high_rate - low_rate)
    # A line drawn beyond the ends may fall below nothing.
    return float(rate if rate > 0 else min(low_rate, high_rate))
