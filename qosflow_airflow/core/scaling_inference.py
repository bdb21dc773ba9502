"""Scaling rules from a few runs of one workflow: the exponents that predict best what is left out.

Candidates are the exponents that data flow in practice: -1 (split), 0 (constant), 1/2, 1 (linear) and 2, on
each axis along which the runs differ, and free ones. A free exponent is taken only where it halves the
squared leave-one-out error of the best candidate, and leaves runs to judge it by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.scaling import QUANTITIES, TASKS, DataScale, ScalingRule, ScalingRules
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import MeasurementError

EXPONENTS = (0.0, 1.0, -1.0, 0.5, 2.0)
"""Candidates, the plainest first: it wins a tie."""
MIN_RUNS = 3
SAME = 1e-9


class Run(NamedTuple):
    """One traced run and its scale."""

    scale: DataScale
    observations: IOObservations


class _Fit(NamedTuple):
    exponents: tuple[float, float]
    left_out: FloatArray
    """Per run, ln predicted - ln observed when it is left out."""
    residuals: FloatArray

    @property
    def score(self) -> float:
        return float(np.mean(self.left_out**2))


def infer_rules(runs: Sequence[Run]) -> ScalingRules:
    """Return a rule for every quantity that all runs know and that is not 0 in any.

    Raises
    ------
    MeasurementError
        When there are fewer than three runs, or they all have one scale.
    """
    if len(runs) < MIN_RUNS:
        raise MeasurementError(
            f"{len(runs)} runs tell too little of how a workflow scales", cure=f"Give at least {MIN_RUNS}."
        )
    data = [run.scale.data for run in runs]
    tasks = [run.scale.tasks for run in runs]
    logs = np.log(np.array([data, tasks]).T)
    if not _varies(logs).any():
        raise MeasurementError(
            "all runs have the same scale", cure="Say how they differ, as in `run.csv@data=2,tasks=1`."
        )
    measured = [quantities(run.observations) for run in runs]
    rules = {}
    for key in measured[0]:
        series = np.array([found.get(key, 0.0) for found in measured])
        if (series > 0).all():
            rules[key] = _rule(logs, np.log(series))
    return ScalingRules(rules, (min(data), max(data)), (min(tasks), max(tasks)))


def quantities(observations: IOObservations) -> dict[tuple[str, str], float]:
    """Return what a run moved, by stage and quantity; a task's volume counts once."""
    found: dict[tuple[str, str], float] = {}
    frame = observations.frame
    for stage, rows in frame.groupby("stage", sort=False):
        found[str(stage), TASKS] = float(rows["tasks"].max())
        tasks = rows.drop_duplicates("task")
        if tasks["compute_s"].notna().all():
            found[str(stage), "compute_s"] = float(tasks["compute_s"].mean())
    once = frame.drop_duplicates(["stage", "task", "operation"])
    for (owner, operation), part in once.groupby(["stage", "operation"], sort=False):
        volume, accesses = float(part["volume_bytes"].sum()), float(part["accesses"].sum())
        found[str(owner), f"{operation}_bytes"] = volume
        found[str(owner), f"{operation}_accesses"] = accesses
        if accesses > 0:
            found[str(owner), f"{operation}_access_bytes"] = volume / accesses
    order = {name: at for at, name in enumerate(QUANTITIES)}
    return dict(sorted(found.items(), key=lambda item: order[item[0][1]]))


def sentence(stage: str, quantity: str, rule: ScalingRule) -> str:
    """Say a rule, as in ``split: read bytes are linear (k_d); from 4 runs, leave-one-out error 3 %``."""
    parts = [
        f"{axis}^{exponent:.3g}" if exponent != 1 else axis
        for axis, exponent in (("k_d", rule.data), ("k_t", rule.tasks))
        if exponent
    ]
    law = f"{rule.kind} ({' '.join(parts)})" if parts else rule.kind
    source = "written by a person"
    if rule.inferred:
        source = f"from {rule.runs} runs, leave-one-out error {rule.error:.1%}"
    return f"{stage}: {quantity.removesuffix('_bytes').replace('_', ' ')} {law}; {source}"


def _varies(logs: FloatArray) -> np.ndarray:
    return np.asarray(np.ptp(logs, axis=0) > SAME)


def _rule(logs: FloatArray, values: FloatArray) -> ScalingRule:
    fit = _best_fit(logs, values)
    error = float(np.median(np.abs(np.expm1(fit.left_out))))
    spread = float(fit.residuals.std(ddof=1))
    return ScalingRule(*fit.exponents, inferred=True, spread=spread, error=error, runs=len(values))


def _best_fit(logs: FloatArray, values: FloatArray) -> _Fit:
    choices = [EXPONENTS if varies else (0.0,) for varies in _varies(logs)]
    fixed = [_fit(logs, values, pair) for pair in product(*choices)]
    plain = min(fixed, key=lambda fit: (round(fit.score, 12), sum(map(abs, fit.exponents))))
    free = _free_fit(logs, values)
    return free if free is not None and free.score < plain.score / 2 and plain.score > SAME else plain


def _fit(logs: FloatArray, values: FloatArray, exponents: tuple[float, ...]) -> _Fit:
    rest = values - logs @ np.array(exponents)
    residuals = rest - rest.mean()
    # The mean of the others is off by n / (n - 1) of the residual.
    left_out = -residuals * len(values) / (len(values) - 1)
    return _Fit((float(exponents[0]), float(exponents[1])), left_out, residuals)


def _free_fit(logs: FloatArray, values: FloatArray) -> _Fit | None:
    """Return the least-squares exponents, ``None`` where a run left out would leave them undetermined."""
    axes = np.flatnonzero(_varies(logs))
    design = np.column_stack([np.ones(len(values)), logs[:, axes]])
    if len(values) < design.shape[1] + 2:
        return None
    left_out = np.empty(len(values))
    for row in range(len(values)):
        others = np.arange(len(values)) != row
        if np.linalg.matrix_rank(design[others]) < design.shape[1]:
            return None
        found = np.linalg.lstsq(design[others], values[others], rcond=None)[0]
        left_out[row] = design[row] @ found - values[row]
    found = np.linalg.lstsq(design, values, rcond=None)[0]
    exponents = [0.0, 0.0]
    for axis, exponent in zip(axes, found[1:], strict=True):
        exponents[axis] = float(exponent)
    return _Fit((exponents[0], exponents[1]), left_out, values - design @ found)


def held_out_errors(runs: Sequence[Run]) -> dict[tuple[str, str], list[float]]:
    """Return, per stage and quantity, the relative error of each run predicted by rules of the others.

    Unlike a rule's own error, the choice of the exponents does not see the run either. The other runs' mean,
    each brought to the run's scale, is the prediction.
    """
    errors: dict[tuple[str, str], list[float]] = {}
    for at, run in enumerate(runs):
        others = [other for position, other in enumerate(runs) if position != at]
        measured = [quantities(other.observations) for other in others]
        for key, observed in quantities(run.observations).items():
            series = np.array([found.get(key, 0.0) for found in measured])
            if observed <= 0 or not (series > 0).all():
                continue
            logs = np.log(np.array([(other.scale.data, other.scale.tasks) for other in others]))
            exponents = np.array(_best_fit(logs, np.log(series)).exponents)
            target = np.log(np.array([run.scale.data, run.scale.tasks]))
            predicted = math.exp(float(np.mean(np.log(series) + (target - logs) @ exponents)))
            errors.setdefault(key, []).append(abs(predicted / observed - 1))
    return errors
