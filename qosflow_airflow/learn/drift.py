"""Whether a model still holds: a cumulative sum (CUSUM) of what its runs took beyond the estimate.

Page's two-sided test on log residuals, oldest first, started by the data themselves: each run is compared
with the mean of all runs before it, since a model may be off by the same amount all along. A shift of several
standard deviations of the noise is found after two or three runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.transfer import FloatArray

BASELINE_RUNS = 5
"""The first runs only tell the level."""
ALLOWANCE = 0.5
"""Half the shift, in standard deviations, that is looked for."""
WATCH, STALE = 4.0, 6.0
"""Sums beyond which a model is watched, and is taken as no longer holding."""
LEAST_NOISE = 0.03
"""Runs of one configuration differ by some 3 % at least; less noise than that is luck."""
MAX_STEP = 3.0
"""One run adds at most so many standard deviations: a single odd run is not a drift."""


class DriftState(StrEnum):
    """How a model fares."""

    OK = "ok"
    WATCH = "watch"
    STALE = "stale"
    UNKNOWN = "unknown"
    """Too few runs."""


class Drift(NamedTuple):
    """The state, the shift of the runs since it began (log seconds), and the first of these runs.

    ``since`` is a position in the series, ``None`` where nothing drifts.
    """

    state: DriftState
    shift: float = 0.0
    since: int | None = None

    @property
    def words(self) -> str:
        """Say it, as in ``runs take 1.8 times what they took, since run 12``."""
        if self.since is None:
            return "too few runs to tell a drift" if self.state == DriftState.UNKNOWN else "no drift"
        return f"runs take {np.exp(self.shift):.2g} times what they took, since run {self.since + 1}"


def detect_drift(log_ratios: Sequence[float]) -> Drift:
    """Return whether the newest residuals, ``ln(observed / estimated)`` oldest first, left their level."""
    series = np.asarray(log_ratios, dtype=np.float64)
    series = series[np.isfinite(series)]
    if len(series) <= BASELINE_RUNS:
        return Drift(DriftState.UNKNOWN)
    # From one run to the next: a drift is in few of these differences.
    noise = max(LEAST_NOISE, 1.4826 * median(np.abs(np.diff(series)).tolist()) / np.sqrt(2.0))
    tame = _tamed(series, noise)
    before = np.arange(BASELINE_RUNS, len(tame))
    level = np.cumsum(tame)[before - 1] / before
    steps = (tame[before] - level) / (noise * np.sqrt(1 + 1 / before))
    largest = max(_cumulative(steps), _cumulative(-steps))
    if largest <= WATCH:
        return Drift(DriftState.OK)
    state = DriftState.STALE if largest > STALE else DriftState.WATCH
    since = _change(series)
    return Drift(state, median(series[since:].tolist()) - median(series[:since].tolist()), since)


def _tamed(series: FloatArray, noise: float) -> FloatArray:
    """Return the series with each run at most :data:`MAX_STEP` away from the mean of those before it."""
    tame = series.copy()
    first, middle = series[:BASELINE_RUNS], median(series[:BASELINE_RUNS].tolist())
    tame[:BASELINE_RUNS] = middle + np.clip(first - middle, -MAX_STEP * noise, MAX_STEP * noise)
    for at in range(BASELINE_RUNS, len(series)):
        level = tame[:at].mean()
        tame[at] = np.clip(series[at], level - MAX_STEP * noise, level + MAX_STEP * noise)
    return tame


def _cumulative(steps: FloatArray) -> float:
    """Return the sum at the end of the series, never below 0 on the way."""
    total = 0.0
    for step in steps.tolist():
        total = max(0.0, total + step - ALLOWANCE)
    return total


def _change(series: FloatArray) -> int:
    """Return from where on a second level leaves the least of the series unexplained."""
    splits = np.arange(1, len(series))
    sums = np.cumsum(series)
    left, right = sums[:-1] / splits, (sums[-1] - sums[:-1]) / (len(series) - splits)
    explained = splits * left**2 + (len(series) - splits) * right**2
    return int(splits[explained.argmax()])
