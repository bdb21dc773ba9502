"""The rate of one operation on one tier or pair of tiers: a saturating mean and what it leaves over.

Both residuals, the Gaussian process and the trees, are added to the same mean, and the mean of the two log
rates counts: they err in different places. Where they disagree, or the process is in doubt, the estimate
says so by its ``doubt``; what a doubt is worth in per cent is for the calibration to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.rate_mean import SaturatingMean, fit_mean
from qosflow_airflow.core.rate_process import ResidualProcess, fit_process
from qosflow_airflow.core.rate_trees import ResidualTrees, fit_trees
from qosflow_airflow.core.transfer import FloatArray

DOUBT_FLOOR = 0.03
"""Two runs of the same point differ by about 3 %: no estimate is surer than that (natural log)."""


class RatePoints(NamedTuple):
    """Design points and the runs that measured them, all as natural logarithms.

    ``points`` is n x 4 (nodes, tasks per node, access and volume bytes), ``log_rates`` the median MiB/s of
    each point's runs and ``repeats`` their number; ``runs`` is m x 2, the point and the MiB/s of each run.
    """

    points: FloatArray
    log_rates: FloatArray
    repeats: FloatArray
    runs: FloatArray

    @classmethod
    def of_runs(cls, points: FloatArray, log_rates: FloatArray) -> RatePoints:
        """Gather runs (points n x 4, log) that repeat each other."""
        distinct, back = np.unique(np.round(points, 9), axis=0, return_inverse=True)
        back = back.ravel()
        medians = [np.median(log_rates[back == at]) for at in range(len(distinct))]
        repeats = np.bincount(back, minlength=len(distinct)).astype(np.float64)
        return cls(distinct, np.array(medians), repeats, np.column_stack([back, log_rates]))

    def take(self, kept: NDArray[np.bool_]) -> RatePoints:
        """Return some of the points, with their runs."""
        place = np.cumsum(kept) - 1
        point = self.runs[:, 0].astype(np.intp)
        runs = np.column_stack([place[point], self.runs[:, 1]])[kept[point]]
        return RatePoints(self.points[kept], self.log_rates[kept], self.repeats[kept], runs)


@dataclass(frozen=True)
class RateLaw:
    """A fitted rate."""

    mean: SaturatingMean
    process: ResidualProcess
    trees: ResidualTrees

    def __call__(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log MiB/s and its doubt (also log) at ``queries``, n x 4 as in :class:`RatePoints`."""
        base = self.mean(queries)
        smooth, variance = self.process(queries)
        stepped = self.trees(_features(queries, base))
        doubt: FloatArray = np.sqrt(variance + ((smooth - stepped) / 2) ** 2 + DOUBT_FLOOR**2)
        log_rate: FloatArray = base + (smooth + stepped) / 2
        return log_rate, doubt

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that make it up, the inverse of :meth:`from_arrays`."""
        return {
            "mean": self.mean.parameters,
            **{f"process_{name}": array for name, array in self.process.to_arrays().items()},
            **{f"trees_{name}": array for name, array in self.trees.to_arrays().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RateLaw:
        """Build a law from what :meth:`to_arrays` returned."""
        process = {
            name.removeprefix("process_"): arrays[name] for name in arrays if name.startswith("process_")
        }
        trees = {name.removeprefix("trees_"): arrays[name] for name in arrays if name.startswith("trees_")}
        return cls(
            SaturatingMean(arrays["mean"]),
            ResidualProcess.from_arrays(process),
            ResidualTrees.from_arrays(trees),
        )


def fit_law(found: RatePoints, like: RateLaw | None = None) -> RateLaw:
    """Fit a law; ``like`` is a law of nearly the same points, whose hyper-parameters are taken over."""
    points, log_rates, repeats, _ = found
    mean = fit_mean(points, log_rates, None if like is None else like.mean)
    base = mean(points)
    residuals = log_rates - base
    process = fit_process(points, residuals, repeats, None if like is None else like.process.hyper)
    return RateLaw(mean, process, fit_trees(_features(points, base), residuals, repeats))


def _features(points: FloatArray, base: FloatArray) -> FloatArray:
    """Return what the trees see: the axes, tasks, volume per task, accesses per task, and the mean."""
    tasks = points[:, 0] + points[:, 1]
    return np.column_stack([points, tasks, points[:, 3] - tasks, points[:, 3] - tasks - points[:, 2], base])
