"""Medians and quantiles of arrays, the same numbers as numpy's.

``numpy.median``, ``numpy.quantile`` and ``numpy.unique`` load ``numpy.ma`` when they are called first. A task
that recommends would wait longer for it than for all that it calculates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qosflow_airflow.core.transfer import FloatArray


def median_of_rows(values: FloatArray) -> FloatArray:
    """Return the median of each row; NaN where the row has one."""
    ordered = np.sort(values, axis=1)  # NaN comes last
    count = values.shape[1]
    middle = ordered[:, count // 2]
    if count % 2 == 0:
        middle = (ordered[:, count // 2 - 1] + middle) / 2
    return np.where(np.isnan(ordered[:, -1]), np.nan, middle)


def quantiles(values: FloatArray, probabilities: Sequence[float]) -> FloatArray:
    """Return quantiles, interpolated between the two nearest of ``values``; NaN where one of them is."""
    ordered = np.sort(values)
    place = np.asarray(probabilities, dtype=np.float64) * (len(ordered) - 1)
    at = np.floor(place).astype(np.int64)
    share = place - at
    below, above = ordered[at], ordered[np.minimum(at + 1, len(ordered) - 1)]
    step = above - below
    found = np.where(share < 0.5, below + step * share, above - step * (1 - share))
    return np.where(np.isnan(ordered[-1]), np.nan, found)
