"""From finished runs of a workflow to what they teach about a model.

Four things are learnt, and the model itself stays as it is. Corrections: by how much each stage takes longer
on a tier than estimated (:mod:`~qosflow_airflow.learn.calibration`). Overhead: the seconds of a run in which
no stage and no copy on its critical path is at work, which is Airflow starting and following tasks; it does
not depend on the configuration, and is added to every makespan. Drift: whether runs take what they took
(:mod:`~qosflow_airflow.learn.drift`); a model that no longer holds gets wider intervals until a newer one is
published, and from then on only the runs since the drift count. Errors: how far whole runs were off what the
others foretell, which is how wide intervals are (:mod:`~qosflow_airflow.learn.run_errors`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from qosflow_airflow.core.model import Model
from qosflow_airflow.learn.calibration import OUTLIER_FACTOR, Calibration, Residual, calibrate
from qosflow_airflow.learn.drift import Drift, DriftState, detect_drift
from qosflow_airflow.learn.drift_causes import likely_cause
from qosflow_airflow.learn.finished_run import FinishedRun, modelled_run, waiting_s
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.lessons import Lesson
from qosflow_airflow.learn.run_errors import RunErrors, TimedRun, left_out_errors


def learn(
    model: Model,
    runs: Sequence[FinishedRun],
    model_at_s: float = -math.inf,
    layers: Layers = Layers(),  # noqa: B008  # immutable
) -> Lesson:
    """Return what runs, oldest first, teach about a model that was published at ``model_at_s``."""
    left_out = {run.run: "; ".join(run.left_out) for run in runs if run.left_out}
    seen = {run.run: _residuals(model, run, left_out) for run in runs}
    taught = [run for run in runs if seen[run.run]]
    calibration, drift = _corrected(model, taught, seen)
    began = drift.since
    if drift.state == DriftState.STALE and began is not None:
        kept = _series_runs(taught, calibration)
        if kept[began].at_s < model_at_s:
            # The model was built again after its runs had changed: what was before tells of another system.
            old = [run.run for run in taught if run.at_s < kept[began].at_s]
            left_out |= dict.fromkeys(old, "before runs changed and the model was built again")
            taught = [run for run in taught if run.run not in old]
            calibration, drift = _corrected(model, taught, seen)
    for run in calibration.rejected:
        _note(left_out, run, f"a time that is not there, or more than {OUTLIER_FACTOR:.0f} times off")
    whole = _series_runs(taught, calibration)
    waits = [wait for run in whole if (wait := waiting_s(model.workflow, run)) is not None]
    cause = ""
    if drift.since is not None:
        cause = likely_cause([seen[run.run] for run in whole], whole, drift.since, drift.shift)
    errors = RunErrors()
    if layers.intervals:
        errors = left_out_errors(_timed(model, whole), layers.calibration)
    if not layers.calibration:
        return Lesson(drift=drift, left_out=left_out, cause=cause, errors=errors)
    return Lesson(calibration, median(waits) if waits else 0.0, drift, left_out, cause, errors)


def whole_runs(model: Model, runs: Sequence[FinishedRun]) -> list[TimedRun]:
    """Return the runs that are known as a whole, each beside the model; others are left out."""
    left_out: dict[str, str] = {}
    seen = {run.run: _residuals(model, run, left_out) for run in runs}
    calibration, _ = _corrected(model, [run for run in runs if seen[run.run]], seen)
    return _timed(model, [run for run in _series_runs(runs, calibration) if seen[run.run]])


def _timed(model: Model, runs: Sequence[FinishedRun]) -> list[TimedRun]:
    found = []
    for run in runs:
        overhead_s = waiting_s(model.workflow, run)
        if overhead_s is not None:
            found.append(TimedRun(modelled_run(model, run.run, run.nodes, run.tiers, run), overhead_s))
    return found


def _residuals(model: Model, run: FinishedRun, left_out: dict[str, str]) -> list[Residual]:
    """Return what a run took beyond the model's own estimate, per stage; note what cannot be compared."""
    workflow, catalog = model.workflow, model.catalog
    unknown = sorted(set(run.stage_s) - set(workflow.stage_names))
    if unknown:
        _note(left_out, run.run, f"stages that the model does not know: {', '.join(unknown)}")
    if run.nodes not in model.nodes:
        _note(left_out, run.run, f"{run.nodes} nodes, which the model does not know")
        return []
    tiers = [run.tiers.get(stage) for stage in workflow.stage_names]
    if not all(tier in catalog.index for tier in tiers):
        _note(left_out, run.run, "a configuration that the model does not know")
        return []
    layout = np.array([[catalog.index[str(tier)] for tier in tiers]], dtype=np.int8)
    charges = model.makespans(run.nodes).charges(layout)
    estimated_s = (charges.read + np.nan_to_num(charges.compute) + charges.write)[0]
    found = []
    for stage, tier, estimate_s in zip(workflow.stage_names, tiers, estimated_s.tolist(), strict=True):
        if stage in run.foretold_s:
            continue  # in another number of tasks: it tells of that number, not of the estimate
        if stage in run.stage_s and estimate_s > 0:  # not NaN either: what was not estimated is not corrected
            taken_s = run.stage_s[stage]
            ratio = math.log(taken_s / estimate_s) if taken_s > 0 and math.isfinite(taken_s) else math.nan
            found.append(Residual(run.run, stage, str(tier), ratio))
    return found


def _corrected(
    model: Model, runs: Sequence[FinishedRun], seen: Mapping[str, Sequence[Residual]]
) -> tuple[Calibration, Drift]:
    """Return corrections from runs, and whether what they leave over drifts."""
    residuals = [found for run in runs for found in seen[run.run]]
    calibration = calibrate(residuals, model.workflow.stage_names, model.catalog.names)
    series = []
    for run in _series_runs(runs, calibration):
        taken, expected = 0.0, 0.0
        for found in seen[run.run]:
            taken += run.stage_s[found.stage]
            factor = calibration.corrections[found.stage, found.tier].factor
            expected += factor * run.stage_s[found.stage] / math.exp(found.log_ratio)
        series.append(math.log(taken / expected))
    return calibration, detect_drift(series)


def _series_runs(runs: Sequence[FinishedRun], calibration: Calibration) -> list[FinishedRun]:
    return [run for run in runs if run.run not in calibration.rejected]


def _note(left_out: dict[str, str], run: str, reason: str) -> None:
    left_out[run] = f"{left_out[run]}; {reason}" if run in left_out else reason
