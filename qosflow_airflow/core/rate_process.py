"""What the mean law leaves over, as a Gaussian process over the logarithms of the four axes.

The kernel is a smooth part (Matern 5/2), a rougher one (Matern 3/2), and a *batch* part that only points of
the same node count share: benchmarks of one node count are run together, and what was particular about that
day is common to them. At a node count that was never measured the batch part says nothing, and counts as
doubt.

The hyper-parameters maximise the marginal likelihood, with weak priors, on a spread-out subset of the points;
the process itself is conditioned on all of them. A fitted process is a few arrays and needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qosflow_airflow.core.transfer import FloatArray, IntArray

AXES = 4
SUBSET = 260
"""Points from which the hyper-parameters are learnt; more cost the cube and change little."""
INDUCING = 200
"""Points from which the doubt at a query is computed: the variance needs less than the mean does."""
JITTER = 1e-8
_CHUNK = 2048

# log of: sd of each part, noise sd, length per axis of the two stationary parts and of the batch part
_PARTS = ("smooth", "rough", "batch", "batch_shape")
_START = np.log(np.array([0.4, 0.3, 0.2, 0.2, 0.1, 2.0, 2.0, 3.0, 2.0, 1.0, 1.0, 2.0, 1.5, 2.0, 3.0, 2.0]))
_PRIOR_SD = np.array([1.0] * 4 + [1.0] + [0.8] * 11)
_SQRT3, _SQRT5 = float(np.sqrt(3.0)), float(np.sqrt(5.0))


@dataclass(frozen=True)
class ResidualProcess:
    """A process given ``points`` n x 4 (log), ``weights`` n, and ``doubt`` m x m for the first m points."""

    hyper: FloatArray
    points: FloatArray
    weights: FloatArray
    doubt: FloatArray

    def __call__(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean residual and its variance (noise of one run left out) per query."""
        mean, variance = np.empty(len(queries)), np.empty(len(queries))
        prior = float(np.exp(2 * self.hyper[:4]).sum())
        size = len(self.doubt)
        for at in range(0, len(queries), _CHUNK):
            part = slice(at, at + _CHUNK)
            kernel = _kernel(self.hyper, queries[part], self.points)
            mean[part] = kernel @ self.weights
            near = kernel[:, :size]
            variance[part] = prior - np.einsum("ij,ij->i", near @ self.doubt, near)
        return mean, np.maximum(variance, 1e-6)

    def to_arrays(self) -> dict[str, FloatArray]:
        """Return the arrays that make it up, the inverse of :meth:`from_arrays`."""
        return {"hyper": self.hyper, "points": self.points, "weights": self.weights, "doubt": self.doubt}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray]) -> ResidualProcess:
        """Build a process from what :meth:`to_arrays` returned."""
        return cls(arrays["hyper"], arrays["points"], arrays["weights"], arrays["doubt"])


def fit_process(
    points: FloatArray, residuals: FloatArray, repeats: FloatArray, hyper: FloatArray | None = None
) -> ResidualProcess:
    """Condition a process on ``residuals`` at ``points``, medians of ``repeats`` runs each.

    Without ``hyper`` the hyper-parameters are learnt first. The points are put in another order.
    """
    order = _spread(points)
    points, residuals, repeats = points[order], residuals[order], repeats[order]
    if hyper is None:
        hyper = _learn(points[:SUBSET], residuals[:SUBSET], repeats[:SUBSET])
    kernel = _kernel(hyper, points, points)
    noise = np.exp(2 * hyper[4]) / repeats
    inverse_root = np.linalg.inv(np.linalg.cholesky(kernel + np.diag(noise + JITTER)))
    weights = inverse_root.T @ (inverse_root @ residuals)
    return ResidualProcess(hyper, points, weights, _doubt(kernel, noise, min(INDUCING, len(points))))


def _doubt(kernel: FloatArray, noise: FloatArray, size: int) -> FloatArray:
    """Return the matrix whose quadratic form is the variance that the points explain, seen by the first."""
    corner = kernel[:size, :size] + JITTER * np.eye(size)
    across = kernel[:size]
    informed = corner + (across / noise) @ across.T
    doubt: FloatArray = np.linalg.inv(corner) - np.linalg.inv(informed + JITTER * np.eye(size))
    return (doubt + doubt.T) / 2


def _spread(points: FloatArray) -> IntArray:
    """Return an order of the points of which every beginning is spread over the grid (a fixed shuffle)."""
    return np.random.default_rng(7).permutation(len(points))


def _distances(a: FloatArray, b: FloatArray, lengths: FloatArray) -> FloatArray:
    left, right = a / lengths, b / lengths
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    distances: FloatArray = np.sqrt(np.maximum(squared, 0.0))
    return distances


def _matern52(distance: FloatArray) -> FloatArray:
    scaled = _SQRT5 * distance
    value: FloatArray = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return value


def _matern32(distance: FloatArray) -> FloatArray:
    scaled = _SQRT3 * distance
    value: FloatArray = (1 + scaled) * np.exp(-scaled)
    return value


def _kernel(hyper: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    scale = np.exp(2 * hyper[:4])
    lengths = np.exp(hyper[5:])
    kernel: FloatArray = scale[0] * _matern52(_distances(a, b, lengths[:4]))
    kernel += scale[1] * _matern32(_distances(a, b, lengths[4:8]))
    for nodes in np.unique(a[:, 0]):
        rows, columns = np.flatnonzero(a[:, 0] == nodes), np.flatnonzero(np.abs(b[:, 0] - nodes) < 1e-9)
        if len(columns):
            shape = _matern52(_distances(a[rows, 1:], b[columns, 1:], lengths[8:]))
            kernel[np.ix_(rows, columns)] += scale[2] + scale[3] * shape
    return kernel


def _learn(points: FloatArray, residuals: FloatArray, repeats: FloatArray) -> FloatArray:
    from scipy.optimize import minimize

    found = minimize(
        _loss(points, residuals, repeats),
        _START,
        jac=True,
        method="L-BFGS-B",
        bounds=[(centre - 4, centre + 4) for centre in _START],
        options={"maxiter": 50},
    )
    hyper: FloatArray = found.x
    return hyper


def _loss(
    points: FloatArray, residuals: FloatArray, repeats: FloatArray
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Return the negative log posterior of hyper-parameters, with its gradient."""
    count = len(points)
    squares = [(points[:, None, axis] - points[None, :, axis]) ** 2 for axis in range(AXES)]
    same = np.abs(points[:, None, 0] - points[None, :, 0]) < 1e-9

    def loss(hyper: FloatArray) -> tuple[float, FloatArray]:
        scale, lengths = np.exp(2 * hyper[:5]), np.exp(hyper[5:])
        over = [squares[axis] for axis in (0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3)]
        over = [square / length**2 for square, length in zip(over, lengths, strict=True)]
        d1, d2, d3 = (np.sqrt(sum(over[part])) for part in (slice(0, 4), slice(4, 8), slice(8, 11)))
        parts = [
            scale[0] * _matern52(d1),
            scale[1] * _matern32(d2),
            scale[2] * same,
            scale[3] * same * _matern52(d3),
        ]
        noise = np.diag(scale[4] / repeats)
        root = np.linalg.cholesky(sum(parts) + noise + 1e-7 * np.eye(count))
        inverse_root = np.linalg.inv(root)
        inverse = inverse_root.T @ inverse_root
        weights = inverse @ residuals
        value = 0.5 * residuals @ weights + np.log(np.diag(root)).sum()
        slope = 0.5 * (inverse - np.outer(weights, weights))
        gradient = [2 * (slope * part).sum() for part in (*parts, noise)]
        # d/d log length, over d_axis^2: Matern 5/2 gives 5/3 (1 + sqrt5 d) e^(-sqrt5 d),
        # Matern 3/2 gives 3 e^(-sqrt3 d).
        tails = [
            slope * scale[0] * (5 / 3) * (1 + _SQRT5 * d1) * np.exp(-_SQRT5 * d1),
            slope * scale[1] * 3 * np.exp(-_SQRT3 * d2),
            slope * scale[3] * same * (5 / 3) * (1 + _SQRT5 * d3) * np.exp(-_SQRT5 * d3),
        ]
        for tail, part in zip(tails, (slice(0, 4), slice(4, 8), slice(8, 11)), strict=True):
            gradient += [float((tail * square).sum()) for square in over[part]]
        away = (hyper - _START) / _PRIOR_SD
        return float(value + 0.5 * away @ away), np.array(gradient) + away / _PRIOR_SD

    return loss
