"""Amdahl's law of a stage from its finished runs: all three numbers at once, whatever a few runs did.

Least squares on the logarithm of time, bounded, with Cauchy's loss, so that a run that took a thousand times
as long moves nothing. Weak priors keep numbers where nothing tells them: the exponent near 1 while all data
have one size, the share near 0.8 while all runs had as many chunks. They fade as runs come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.learn.amdahl import AmdahlLaw, StageTiming

USUAL_NOISE = 0.1
"""Runs of a stage are expected to differ by 10 %, until they tell better."""
NOISE_RUNS = 4.0
"""As many runs speak for :data:`USUAL_NOISE`."""
PRIOR = np.array([0.0, 0.8, 1.0])
PRIOR_SD = np.array([np.inf, 0.4, 0.5])
"""For ln T1 (nothing is known), p and k."""
LOWER = np.array([-np.inf, 0.0, 0.25])
UPPER = np.array([np.inf, 1.0, 3.0])
STARTS = (0.5, 0.95)
"""Shares from which the search begins."""
CAUCHY = 2.385
"""Noise standard deviations beyond which a run counts less: 95 % as good as least squares on normal noise."""
ROBUST: Any = {"loss": "cauchy", "f_scale": CAUCHY}
ROUNDS = 3
"""The noise tells how much a run counts, and the fit tells the noise."""


class FittedLaw(NamedTuple):
    """A law, the covariance of (ln T1, p, k), the runs' noise, and ln(observed / fitted) per run."""

    law: AmdahlLaw
    covariance: FloatArray
    noise_log_sd: float
    residuals: FloatArray


def fit_law(runs: Sequence[StageTiming]) -> FittedLaw:
    """Fit the law of a stage to runs that are all possible, at least one.

    ``c`` is not fitted: each run counts with what it waited, predictions with the median of it.
    """
    chunks, seconds, scale, startup_s = (
        np.array(values, dtype=np.float64) for values in list(zip(*runs, strict=True))[:4]
    )
    measured_s = float(np.median(startup_s))
    noise = USUAL_NOISE
    observed = np.log(seconds)

    def off(found: FloatArray) -> FloatArray:
        law = AmdahlLaw(float(np.exp(found[0])), float(found[1]), float(found[2]))
        return observed - np.log(startup_s + law.work_s(chunks, scale) + 1e-12)

    def residuals(found: FloatArray) -> FloatArray:
        return np.concatenate([off(found) / noise, (found - PRIOR) / PRIOR_SD])

    def jacobian(found: FloatArray) -> FloatArray:
        law = AmdahlLaw(float(np.exp(found[0])), float(found[1]), float(found[2]))
        return np.vstack([-law.log_gradient(chunks, scale, startup_s) / noise, np.diag(1 / PRIOR_SD)])

    found = np.array([np.log(np.median((seconds - startup_s) / scale)), 0.8, 1.0])
    shares: tuple[float, ...] = STARTS
    for _ in range(ROUNDS):
        tries = [
            least_squares(residuals, [found[0], share, found[2]], jacobian, bounds=(LOWER, UPPER), **ROBUST)
            for share in shares
        ]
        found = min(tries, key=lambda tried: float(tried.cost)).x
        shares = (float(np.clip(found[1], 0.01, 0.99)),)
        noise = _noise(off(found))
    law = AmdahlLaw(float(np.exp(found[0])), float(found[1]), float(found[2]), measured_s)
    left = off(found)
    return FittedLaw(law, _covariance(law, chunks, scale, startup_s, left, noise), noise, left)


def _noise(residuals: FloatArray) -> float:
    """Return the standard deviation of the noise, by the median, held by what is usual."""
    runs = max(0.0, len(residuals) - 2.0)
    own = (1.4826 * float(np.median(np.abs(residuals)))) ** 2
    return float(np.sqrt((NOISE_RUNS * USUAL_NOISE**2 + runs * own) / (NOISE_RUNS + runs)))


def _covariance(
    law: AmdahlLaw,
    chunks: FloatArray,
    scale: FloatArray,
    startup_s: FloatArray,
    left: FloatArray,
    noise: float,
) -> FloatArray:
    gradient = law.log_gradient(chunks, scale, startup_s)
    weights = 1 / (1 + (left / (CAUCHY * noise)) ** 2)
    information = (gradient.T * weights) @ gradient / noise**2 + np.diag(1 / PRIOR_SD**2)
    return np.asarray(np.linalg.inv(information + 1e-9 * np.eye(3)))
