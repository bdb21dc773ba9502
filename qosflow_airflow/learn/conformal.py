"""Intervals from how far earlier predictions were off: as wide as it takes to have held the stated share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

COVERAGE = 0.9


def half_width(log_ratios: Sequence[float], coverage: float = COVERAGE) -> float:
    """Return by how much ``ln seconds`` may be off, NaN where too few residuals tell it.

    The split conformal quantile: the ``ceil((n + 1) coverage)``-th smallest size. A further residual from the
    same source is within it with at least that probability, whatever the source.
    """
    sizes = np.sort(np.abs(np.asarray(log_ratios, dtype=np.float64)))
    rank = math.ceil((len(sizes) + 1) * coverage)
    return float(sizes[rank - 1]) if 0 < rank <= len(sizes) else math.nan
