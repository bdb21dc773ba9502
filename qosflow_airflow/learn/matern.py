"""A small Gaussian process with a Matern-5/2 kernel: what a law leaves over, smooth in what it depends on.

Numpy alone, and plain JSON when kept: a task that plans a run evaluates it without importing scikit-learn,
which would take longer than all the rest of its work. At most some fifty points, so that hyper-parameters are
found by looking at a grid of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qosflow_airflow.core.transfer import FloatArray

SCALES = (0.5, 1.0, 2.0, 4.0)
"""Lengths over which the residual changes, in spreads of the points on an axis."""
SIGNALS = (0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the residual, in those of the noise."""
NOISES = (0.5, 0.7, 0.85, 1.0)
"""Noise, in that which the law alone sees."""
LEAST_GAIN = 3.0
"""A process must make the data likelier than noise alone by so much (natural log): it has three numbers."""
LEAST_SPREAD = 1e-3
"""Axes on which points hardly differ have no length of their own."""
_SQRT5 = float(np.sqrt(5.0))


@dataclass(frozen=True)
class MaternProcess:
    """A process given ``values`` at ``points`` (n, and n x axes), with mean 0 where nothing is known.

    ``lengths`` is per axis; ``signal`` and ``noise`` are standard deviations.
    """

    points: FloatArray
    values: FloatArray
    lengths: FloatArray
    signal: float
    noise: float

    def __call__(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean and the variance, without the noise of one run, per query (m x axes)."""
        across = _kernel(queries, self.points, self.lengths, self.signal)
        known = np.einsum("ij,jk,ik->i", across, self.inverse, across)
        return across @ (self.inverse @ self.values), np.maximum(self.signal**2 - known, 0.0)

    @cached_property
    def inverse(self) -> FloatArray:
        """The inverse of the kernel of the points with their noise, n x n."""
        kernel = _kernel(self.points, self.points, self.lengths, self.signal)
        return np.asarray(np.linalg.inv(kernel + self.noise**2 * np.eye(len(self.points))))

    def left_out(self) -> FloatArray:
        """Return the error of each value when it is predicted from the others alone.

        The closed form in Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2.
        """
        return np.asarray((self.inverse @ self.values) / np.diag(self.inverse))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "points": self.points.tolist(),
            "values": self.values.tolist(),
            "lengths": self.lengths.tolist(),
            "signal": self.signal,
            "noise": self.noise,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MaternProcess:
        """Build a process from what :meth:`to_json` returned."""
        arrays = {name: np.array(value[name]) for name in ("points", "values", "lengths")}
        return cls(**arrays, signal=value["signal"], noise=value["noise"])


def fit_process(points: FloatArray, values: FloatArray, noise: float) -> MaternProcess | None:
    """Return the likeliest process, or ``None`` where noise alone explains the values about as well."""
    spread = np.maximum(points.std(axis=0), LEAST_SPREAD)
    best, most = None, _likelihood_of_noise(values, noise) + LEAST_GAIN
    for scale, signal in itertools.product(SCALES, SIGNALS):
        kernel = _kernel(points, points, scale * spread, signal * noise)
        for share in NOISES:
            root = np.linalg.cholesky(kernel + (share * noise) ** 2 * np.eye(len(points)))
            half = np.linalg.solve(root, values)
            likelihood = -0.5 * float(half @ half) - float(np.log(np.diag(root)).sum())
            if likelihood > most:
                most = likelihood
                best = MaternProcess(points, values, scale * spread, signal * noise, share * noise)
    return best


def _likelihood_of_noise(values: FloatArray, noise: float) -> float:
    return max(
        -0.5 * float(values @ values) / (share * noise) ** 2 - len(values) * float(np.log(share * noise))
        for share in NOISES
    )


def _kernel(a: FloatArray, b: FloatArray, lengths: FloatArray, signal: float) -> FloatArray:
    apart = (a[:, None, :] - b[None, :, :]) / lengths
    scaled = _SQRT5 * np.sqrt((apart**2).sum(axis=2))
    return np.asarray(signal**2 * (1 + scaled + scaled**2 / 3) * np.exp(-scaled))
