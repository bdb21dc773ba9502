"""A stage's parallelism from its finished runs: the law, then what it leaves over. It needs scipy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.learn.amdahl import StageTiming
from qosflow_airflow.learn.amdahl_fit import FittedLaw, fit_law
from qosflow_airflow.learn.matern import MaternProcess, fit_process
from qosflow_airflow.learn.parallelism import StageParallelism

WINDOW_RUNS = 50
"""So many of the newest runs count."""
OUTLIER_FACTOR = 10.0
"""A run further off than this many times the law tells of something else than parallelism."""
POINTS_FOR_PROCESS = 8
"""From so many distinct points on the law's residual is fitted."""
NEWEST = 10
"""Runs whose numbers of chunks are remembered one by one."""
MOST_ODD = 4.0
"""A residual counts as at most so many standard deviations of the noise."""


def fit_parallelism(runs: Sequence[StageTiming]) -> StageParallelism | None:
    """Return what a stage's runs tell, oldest first; ``None`` where none of them has numbers that can be."""
    possible = [run for run in runs if run.possible][-WINDOW_RUNS:]
    impossible = sum(not run.possible for run in runs[-WINDOW_RUNS:])
    if not possible:
        return None
    fitted = fit_law(possible)
    kept = [
        run for run, off in zip(possible, fitted.residuals, strict=True) if abs(off) <= np.log(OUTLIER_FACTOR)
    ]
    if kept and len(kept) < len(possible):
        fitted = fit_law(kept)
    kept = kept or possible
    process, usual_load = _residual_process(kept, fitted)
    return StageParallelism(
        law=fitted.law,
        covariance=fitted.covariance,
        noise_log_sd=fitted.noise_log_sd,
        runs=len(kept),
        rejected=len(possible) - len(kept) + impossible,
        process=process,
        usual_load=usual_load,
        seen=Counter(run.chunks for run in kept),
        newest=tuple(run.chunks for run in kept[-NEWEST:]),
    )


def _residual_process(
    runs: Sequence[StageTiming], fitted: FittedLaw
) -> tuple[MaternProcess | None, float | None]:
    """Return the process of what is left over, and the usual load where it depends on the load."""
    if len({(run.chunks, run.data_scale, run.load) for run in runs}) < POINTS_FOR_PROCESS:
        return None, None
    limit = MOST_ODD * fitted.noise_log_sd
    values = np.clip(fitted.residuals, -limit, limit)
    points = np.array([(np.log(run.chunks), np.log(run.data_scale)) for run in runs])
    plain = fit_process(points, values, fitted.noise_log_sd)
    loads = [run.load for run in runs if run.load is not None]
    if len(loads) < len(runs) or len(set(loads)) < 2:
        return plain, None
    loaded = fit_process(np.column_stack([points, loads]), values, fitted.noise_log_sd)
    if loaded is not None and _wins(loaded.left_out(), values if plain is None else plain.left_out()):
        return loaded, float(np.median(loads))
    return plain, None


def _wins(with_load: FloatArray, without: FloatArray) -> bool:
    """Return whether predicting each run from the others is clearly better with the load than without."""
    gain = without**2 - with_load**2
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
