"""What the finished runs of a workflow teach about a model, and recommendations that heed it.

Three things are learnt, and the model itself stays as it is. Corrections: by how much each stage takes longer
on a tier than estimated (:mod:`~qosflow_airflow.learn.calibration`). Overhead: the seconds of a run in which
no stage and no copy on its critical path is at work, which is Airflow starting and following tasks; it does
not depend on the configuration, and is added to every makespan. Drift: whether runs take what they took
(:mod:`~qosflow_airflow.learn.drift`); a model that no longer holds gets wider intervals until a newer one is
published, and from then on only the runs since the drift count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from qosflow_airflow.core.explain import explain
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.learn.calibration import OUTLIER_FACTOR, Calibration, Residual, calibrate
from qosflow_airflow.learn.drift import Drift, DriftState, detect_drift
from qosflow_airflow.learn.drift_causes import likely_cause

SAID = 0.05
"""Corrections of less than this are not worth a word."""
MAX_SAID = 3


class FinishedRun(NamedTuple):
    """What is known of one run.

    ``stage_s`` is the wall clock of each stage whose tasks all succeeded by themselves at the first try; NaN
    where it cannot be. ``copies_s`` are the seconds of the copies before and after a stage. ``measured_s`` is
    from the first start to the last end. ``at_s`` is when the run was recommended, seconds since the epoch.
    ``moved_bytes`` is what its tasks read and wrote.
    ``left_out`` says why something of it, or all of it, does not teach.
    """

    run: str
    at_s: float
    nodes: int
    tiers: Mapping[str, str]
    stage_s: Mapping[str, float]
    copies_s: Mapping[str, tuple[float, float]] = {}
    measured_s: float | None = None
    left_out: tuple[str, ...] = ()
    moved_bytes: float | None = None


@dataclass(frozen=True)
class Lesson:
    """What runs teach.

    ``left_out`` maps runs that do not teach, or not all they could, to the reason. ``cause`` is what a drift
    may come from, empty where nothing tells.
    """

    calibration: Calibration = field(default_factory=Calibration)
    overhead_s: float = 0.0
    drift: Drift = field(default_factory=lambda: Drift(DriftState.UNKNOWN))
    left_out: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""

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
        )


def recommend_with(model: Model, request: QoSRequest, lesson: Lesson) -> Recommendation | Infeasible:
    """Return the optimum of a request once what runs teach is heeded; the answer holds it as ``calibration``.

    Errors are those of :func:`~qosflow_airflow.core.recommend.recommend`.
    """
    found = recommend(lesson.applied(model), request, overhead_s=lesson.overhead_s)
    answer = {**found.answer, "calibration": lesson.to_json()}
    answer["explanation"] = explain(answer)
    return replace(found, answer=answer)


def learn(model: Model, runs: Sequence[FinishedRun], model_at_s: float = -math.inf) -> Lesson:
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
        told = ([seen[run.run] for run in whole], [run.moved_bytes for run in whole])
        cause = likely_cause(*told, drift.since, drift.shift)
    return Lesson(calibration, float(np.median(waits)) if waits else 0.0, drift, left_out, cause)


def waiting_s(workflow: Workflow, run: FinishedRun) -> float | None:
    """Return the seconds of a run beyond its critical path of measured stages and copies.

    ``None`` where not every stage is known, or the run as a whole is not.
    """
    taken_s = [run.stage_s.get(stage, math.nan) for stage in workflow.stage_names]
    if run.measured_s is None or not all(map(math.isfinite, taken_s)):
        return None
    finish: dict[str, float] = {}
    longest_s = 0.0
    for name in workflow.topological_order:
        before_s, after_s = run.copies_s.get(name, (0.0, 0.0))
        ready_s = max((finish[one] for one in workflow.stage(name).stage_predecessors), default=0.0)
        finish[name] = ready_s + before_s + run.stage_s[name]
        longest_s = max(longest_s, finish[name] + after_s)
    return max(0.0, run.measured_s - longest_s)


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
