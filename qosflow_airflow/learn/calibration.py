"""Corrections of a model's stage times by what finished runs took.

A residual is the logarithm of a stage's observed time over the model's own estimate for the configuration
that ran. Residuals of a stage on a tier are estimated in three steps, each shrunk towards the one before by
``n / (n + 1)``: what all stages have in common, what a stage adds, what a tier adds to its stage. So a tier
that was never tried is corrected like the others of its stage, and does not look good only because it is
unknown. Medians are used: one odd run among several does not move them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple, Self

import numpy as np

from qosflow_airflow.core.quantiles import median_of_rows
from qosflow_airflow.core.transfer import FloatArray, StageTimes

WINDOW_RUNS = 50
"""So many of the newest runs count."""
SHRINKAGE = 1.0
"""As many observations of nothing as a correction starts with. Held out, more of them made errors larger."""
OUTLIER_FACTOR = 100.0
"""A time further off than this many times its estimate tells of something else than speed."""
MIN_FOR_SPREAD = 5
"""From so many residuals on their own spread replaces that of the estimate."""


class Residual(NamedTuple):
    """A stage of one finished run: ``log_ratio`` is ``ln(observed seconds / estimated seconds)``."""

    run: str
    stage: str
    tier: str
    log_ratio: float


class Correction(NamedTuple):
    """The factor of a stage's times on a tier, its spread (NaN: not known), and how many runs tell it."""

    factor: float
    log_sd: float
    runs: int


class Calibration(NamedTuple):
    """Corrections per stage and tier, from ``runs`` runs; ``rejected`` runs had a time that cannot be."""

    corrections: Mapping[tuple[str, str], Correction] = {}
    runs: int = 0
    rejected: tuple[str, ...] = ()

    def without(self, stages: frozenset[str]) -> Self:
        """Return the same without corrections of ``stages``."""
        if not stages:
            return self
        kept = {key: found for key, found in self.corrections.items() if key[0] not in stages}
        return self._replace(corrections=kept)

    def applied(self, times: StageTimes) -> StageTimes:
        """Return stage times with reading, computing and writing corrected; copies stay as they are.

        Compute time does not depend on the tier in a model; where a stage's corrections differ between tiers
        the difference goes into its reads, which may not become negative.
        """
        if not self.corrections:
            return times
        tiers = times.tiers
        factors = np.ones((len(times.stages), len(tiers)))
        spread = np.full(factors.shape, np.nan)
        for (stage, tier), correction in self.corrections.items():
            if stage in times.stages and tier in tiers:
                at = times.stages.index(stage), tiers.index(tier)
                factors[at], spread[at] = correction.factor, correction.log_sd
        common = np.exp(median_of_rows(np.log(factors)))
        compute_s = np.nan_to_num(times.compute.seconds)
        left_over = (factors - common[:, None]) * compute_s[:, None]
        read_s = np.maximum(0.0, times.read.seconds * factors + left_over)
        known = ~np.isnan(spread)
        return replace(
            times,
            read=replace(times.read, seconds=read_s, log_sd=np.where(known, spread, times.read.log_sd)),
            write=replace(
                times.write,
                seconds=times.write.seconds * factors,
                log_sd=np.where(known, spread, times.write.log_sd),
            ),
            compute=replace(
                times.compute,
                seconds=times.compute.seconds * common,
                log_sd=np.where(known.any(axis=1), _largest(spread), times.compute.log_sd),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "runs": self.runs,
            "rejected": list(self.rejected),
            "corrections": [
                {
                    "stage": stage,
                    "tier": tier,
                    "factor": found.factor,
                    "log_sd": None if np.isnan(found.log_sd) else found.log_sd,
                    "runs": found.runs,
                }
                for (stage, tier), found in self.corrections.items()
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a calibration from what :meth:`to_json` returned."""
        corrections = {
            (found["stage"], found["tier"]): Correction(
                found["factor"], np.nan if found["log_sd"] is None else found["log_sd"], found["runs"]
            )
            for found in value["corrections"]
        }
        return cls(corrections, value["runs"], tuple(value["rejected"]))


def calibrate(residuals: Sequence[Residual], stages: Iterable[str], tiers: Sequence[str]) -> Calibration:
    """Return a correction for every stage on every tier; ``residuals`` come oldest first.

    A run with a time more than :data:`OUTLIER_FACTOR` times off, or without one, is left out whole.
    """
    odd = {found.run for found in residuals if not _plausible(found.log_ratio)}
    newest = list(dict.fromkeys(found.run for found in reversed(residuals) if found.run not in odd))
    window = set(newest[:WINDOW_RUNS])
    kept = [found for found in residuals if found.run in window]
    rejected = tuple(dict.fromkeys(found.run for found in residuals if found.run in odd))
    if not kept:
        return Calibration(rejected=rejected)
    by_stage: dict[str, dict[str, list[float]]] = {}
    for found in kept:
        by_stage.setdefault(found.stage, {}).setdefault(found.tier, []).append(found.log_ratio)
    in_common = _shrunk([found.log_ratio for found in kept], runs=len(window))
    corrections = {}
    for stage in stages:
        by_tier = by_stage.get(stage, {})
        own = [ratio - in_common for ratios in by_tier.values() for ratio in ratios]
        level = in_common + _shrunk(own, runs=len(own))
        for tier in tiers:
            here = by_tier.get(tier, [])
            shift = level + _shrunk([ratio - level for ratio in here], runs=len(here))
            corrections[stage, tier] = Correction(
                math.exp(shift), _spread([ratio - shift for ratio in here]), len(here)
            )
    return Calibration(corrections, len(window), rejected)


def _plausible(log_ratio: float) -> bool:
    return math.isfinite(log_ratio) and abs(log_ratio) <= math.log(OUTLIER_FACTOR)


def _shrunk(values: Sequence[float], runs: int) -> float:
    return median(values) * runs / (runs + SHRINKAGE) if values else 0.0


def _spread(residuals: Sequence[float]) -> float:
    """Return the root mean square of what is left after the correction, NaN from too few runs."""
    if len(residuals) < MIN_FOR_SPREAD:
        return math.nan
    return math.sqrt(math.fsum(off * off for off in residuals) / len(residuals))


def _largest(spread: FloatArray) -> FloatArray:
    return np.asarray(np.nan_to_num(spread, nan=0.0).max(axis=1))
