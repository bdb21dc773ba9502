"""What the finished runs of a workflow teach about a model, and recommendations that heed it.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Self

import numpy as np

from qosflow_airflow.core.explain import explain
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.search import ConfidentSearch, search_of
from qosflow_airflow.learn.calibration import OUTLIER_FACTOR, Calibration, Residual, calibrate
from qosflow_airflow.learn.drift import Drift, DriftState, detect_drift
from qosflow_airflow.learn.drift_causes import likely_cause
from qosflow_airflow.learn.finished_run import FinishedRun, modelled_run, waiting_s
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.run_errors import RunErrors, TimedRun, left_out_errors

SAID = 0.05
"""Corrections of less than this are not worth a word."""
MAX_SAID = 3


@dataclass(frozen=True)
class Lesson:
    """What runs teach.

    ``left_out`` maps runs that do not teach, or not all they could, to the reason. ``cause`` is what a drift
    may come from, empty where nothing tells. ``errors`` is how far whole runs were off.
    """

    calibration: Calibration = field(default_factory=Calibration)
    overhead_s: float = 0.0
    drift: Drift = field(default_factory=lambda: Drift(DriftState.UNKNOWN))
    left_out: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    errors: RunErrors = field(default_factory=RunErrors)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Return the lesson that an answer was made with; one of nothing where it was made without."""
        return cls.from_json(answer["calibration"]) if "calibration" in answer else cls()

    @property
    def added_log_sd(self) -> float:
        """By how much the spread of stage times grows because the model no longer holds."""
        return abs(self.drift.shift) if self.drift.state == DriftState.STALE else 0.0

    def applied(self, model: Model) -> Model:
        """Return the model with its stage times corrected; the same one where nothing is to be."""
        if not self.calibration.corrections and not self.added_log_sd:
            return model
        added = dict.fromkeys(("read", "compute", "write"), self.added_log_sd)
        scales = []
        for scale in model.scales:
            times = self.calibration.applied(scale.times)
            if self.added_log_sd:
                times = times.with_spread(dict.fromkeys(times.stages, added))
            scales.append(replace(scale, times=times))
        return replace(model, scales=tuple(scales))

    def search(self, model: Model, change: Callable[[Model], Model] | None = None) -> ConfidentSearch:
        """Return the search of the model with all of this heeded, worth keeping for several requests.

        ``change`` is what else changes the corrected model.
        """
        # A model that no longer holds is less sure than its runs were on the whole.
        may_narrow = self.drift.state != DriftState.STALE
        found = {nodes: self.errors.spread(nodes, may_narrow) for nodes in model.nodes}
        spreads = {nodes: spread for nodes, spread in found.items() if spread is not None}
        taught = self.applied(model)
        return search_of(taught if change is None else change(taught), spreads)

    @property
    def words(self) -> list[str]:
        """Say what is different because of it, a sentence each; nothing where no run has taught."""
        said = []
        if self.calibration.runs:
            said.append(_corrections_in_words(self.calibration))
        if self.overhead_s:
            said.append(
                f"On top come {self.overhead_s:.1f} s in which Airflow starts and follows tasks, as in these "
                "runs."
            )
        if self.drift.state in (DriftState.WATCH, DriftState.STALE):
            stale = self.drift.state == DriftState.STALE
            holds = "The model no longer holds" if stale else "The model may no longer hold"
            cure = "; intervals are wider until it is built again" if stale else ""
            cause = f"; {self.cause}" if self.cause else ""
            said.append(f"{holds}: {self.drift.words}{cause}{cure}.")
        if self.left_out:
            run, reason = min(self.left_out.items())  # databases keep no order of keys
            more = len(self.left_out) - 1
            others = f", and so for {more} more" if more else ""
            said.append(f"Not all runs teach: {run} ({reason}){others}.")
        return said

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            **self.calibration.to_json(),
            "overhead_s": self.overhead_s,
            "drift": {
                "state": str(self.drift.state),
                "shift": self.drift.shift,
                "since": self.drift.since,
                "words": self.drift.words,
                "cause": self.cause,
            },
            "left_out": dict(self.left_out),
            "errors": self.errors.to_json(),
            "words": self.words,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a lesson from what :meth:`to_json` returned."""
        drift = value["drift"]
        return cls(
            Calibration.from_json(value),
            value["overhead_s"],
            Drift(DriftState(drift["state"]), drift["shift"], drift["since"]),
            dict(value["left_out"]),
            drift.get("cause", ""),
            RunErrors.from_json(value["errors"]) if "errors" in value else RunErrors(),
        )


def recommend_with(
    model: Model, request: QoSRequest, lesson: Lesson, change: Callable[[Model], Model] | None = None
) -> Recommendation | Infeasible:
    """Return the optimum of a request once what runs teach is heeded; the answer holds it as ``calibration``.

    ``change`` is what else changes the corrected model. Errors are those of
    :func:`~qosflow_airflow.core.recommend.recommend`.
    """
    search = lesson.search(model, change)
    found = recommend(search.model, request, search, overhead_s=lesson.overhead_s)
    answer = {**found.answer, "calibration": lesson.to_json()}
    answer["explanation"] = explain(answer)
    return replace(found, answer=answer)


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


def _corrections_in_words(calibration: Calibration) -> str:
    runs = f"{calibration.runs} run{'' if calibration.runs == 1 else 's'}"
    tried = [(key, found) for key, found in calibration.corrections.items() if found.runs]
    tried.sort(key=lambda item: -abs(math.log(item[1].factor)))
    worth = [(key, found) for key, found in tried if abs(found.factor - 1) >= SAID]
    if not worth:
        return f"{runs} took what was estimated, within {SAID:.0%} a stage."
    said = [
        f"{stage} on {tier} takes {found.factor:.2g} times its estimate"
        for (stage, tier), found in worth[:MAX_SAID]
    ]
    more = len(worth) - MAX_SAID
    return f"Corrected by {runs}: {', '.join(said)}{f', and {more} more' if more > 0 else ''}."
