"""The mean rate of a tier as a saturating law with physical parameters.

A transfer of volume ``V`` by ``n`` tasks on ``N`` nodes, ``p`` of them per node, in pieces of ``s`` bytes
takes

    T = T0 n^a + V / B,    B = (V / 1 GiB)^c times the least of:

                                          n r s / (s + s0)          what the tasks can ask for
                                          N^b C / (1 + p / p0)^g    what the nodes can pass on
                                          D / (1 + n / n1)^h        what the storage can deliver

and the rate is ``V / T``. "Least of" is smooth (a p-norm), so that all three can be identified from points
near a corner. The parameters are fitted to the logarithm of rates with a loss that outliers do not rule,
and with weak priors: a cap that no measurement reaches stays near where it started.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qosflow_airflow.core.transfer import FloatArray

LOG_MIB = float(np.log(2.0**20))
LOG_GIB_IN_MIB = float(np.log(2.0**10))
PARAMETERS = (
    "log_start_s",
    "start_exponent",
    "log_task_mib_s",
    "log_half_rate_bytes",
    "node_exponent",
    "log_node_mib_s",
    "log_crowd_tasks_per_node",
    "crowd_exponent",
    "log_system_mib_s",
    "log_contended_tasks",
    "contention_exponent",
    "log_sharpness",
    "volume_exponent",
)
"""What the fitted vector holds, in this order; ``log_`` are natural logarithms."""

PRIOR_SD = np.array([3.0, 0.5, 3.0, 3.0, 0.5, 3.0, 2.0, 0.7, 3.0, 2.5, 0.7, 0.5, 0.5])
LOWER = np.array([-14.0, -0.5, -12.0, -2.0, -0.5, -8.0, -2.0, 0.0, -8.0, -2.0, 0.0, -1.0, -2.0])
UPPER = np.array([6.0, 1.5, 16.0, 20.0, 2.0, 20.0, 8.0, 2.5, 22.0, 12.0, 2.5, 2.5, 2.0])
OUTLIER_SCALE = 0.3
VOLUME_EXPONENT_WEIGHT = 0.5
"""Only where rates clearly follow the volume (an exponent near 1) may the law: it is extrapolated far."""


@dataclass(frozen=True)
class SaturatingMean:
    """The law with its fitted parameters, in the order of :data:`PARAMETERS`."""

    parameters: FloatArray

    def __call__(self, points: FloatArray) -> FloatArray:
        """Return log MiB/s at ``points``: rows of log nodes, tasks per node, access and volume bytes."""
        return saturating_log_rate(self.parameters, points)


def saturating_log_rate(parameters: FloatArray, points: FloatArray) -> FloatArray:
    """Evaluate the law; see the module's text for the formula and :data:`PARAMETERS` for the symbols."""
    (start, a, task, half, b, node, crowd, g, system, contended, h, sharpness, c) = parameters
    nodes, per_node, access = points[:, 0], points[:, 1], points[:, 2]
    volume = points[:, 3] - LOG_MIB
    tasks = nodes + per_node
    caps = np.stack(
        [
            tasks + task - np.logaddexp(0.0, half - access),
            b * nodes + node - g * np.logaddexp(0.0, per_node - crowd),
            system - h * np.logaddexp(0.0, tasks - contended),
        ]
    )
    order = np.exp(sharpness)
    scaled = -order * caps
    top = scaled.max(axis=0)
    bandwidth = c * (volume - LOG_GIB_IN_MIB) - (top + np.log(np.exp(scaled - top).sum(axis=0))) / order
    log_rate: FloatArray = volume - np.logaddexp(start + a * tasks, volume - bandwidth)
    return log_rate


def fit_mean(
    points: FloatArray, log_rates: FloatArray, start: SaturatingMean | None = None
) -> SaturatingMean:
    """Fit the law to log rates (MiB/s) at ``points``; ``start`` shortens the search.

    The best of a few starts counts; the same data give the same parameters.
    """
    from scipy.optimize import least_squares

    first = _first_guess(points, log_rates)
    starts = [first, first + _OTHER_CORNER] if start is None else [start.parameters]
    weight = np.sqrt(0.2 / len(points)) / PRIOR_SD
    weight[-1] = VOLUME_EXPONENT_WEIGHT

    def residuals(parameters: FloatArray) -> FloatArray:
        off = (saturating_log_rate(parameters, points) - log_rates) / np.sqrt(len(points))
        return np.concatenate([off, weight * (parameters - first)])

    scale = OUTLIER_SCALE / np.sqrt(len(points))
    found = [
        least_squares(
            residuals,
            np.clip(guess, LOWER + 1e-6, UPPER - 1e-6),
            bounds=(LOWER, UPPER),
            loss="soft_l1",
            f_scale=scale,
            max_nfev=60 if start is None else 15,
        )
        for guess in starts
    ]
    return SaturatingMean(min(found, key=lambda each: float(each.cost)).x)


_OTHER_CORNER = np.array([2.0, 0.0, 2.0, 3.0, 0.0, -0.5, 0.0, 0.5, 2.0, 0.0, -0.2, 0.0, 0.0])


def _first_guess(points: FloatArray, log_rates: FloatArray) -> FloatArray:
    """Return parameters of the right size: a task, a node and the storage at their best measured rates."""
    tasks = points[:, 0] + points[:, 1]
    start = np.quantile(points[:, 3] - LOG_MIB - log_rates, 0.02)
    task = np.quantile(log_rates - tasks, 0.9)
    node = np.quantile(log_rates - points[:, 0], 0.9)
    system = np.quantile(log_rates, 0.95)
    return np.array([start, 0.1, task, 8.0, 0.9, node, 3.0, 0.2, system + 0.5, 6.0, 0.2, 0.7, 0.0])
