"""What each layer of a prediction is worth: errors and intervals of runs foretold from the runs before them.

Every run is foretold by the I/O model alone, times corrections of its stages (calibration), and times what
similar runs say (cases); each time only from runs that finished before it, with an interval that would have
held the stated share of them. No run tells anything of itself. Cases stand in for calibration where it knows
little yet: their factor fades as it learns (:func:`~qosflow_airflow.learn.case_correction.share_of_cases`).

Two more intervals stand beside them, both of the calibrated prediction: the one that the spread of its own
stage times makes, and the one that an answer gives (:mod:`~qosflow_airflow.learn.run_errors`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.run_spread import RunSpread
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from qosflow_airflow.learn.calibration import (
    OUTLIER_FACTOR,
    WINDOW_RUNS,
    Calibration,
    Residual,
    calibrate,
)
from qosflow_airflow.learn.case_correction import Judgement, judge, log_correction, share_of_cases
from qosflow_airflow.learn.case_features import run_features
from qosflow_airflow.learn.cases import Case, CaseBase, CaseSettings, run_case
from qosflow_airflow.learn.conformal import COVERAGE, half_width
from qosflow_airflow.learn.modelled_run import ModelledRun
from qosflow_airflow.learn.run_errors import TimedRun, early_errors, left_out_errors

LAYERS = ("I/O model", "x calibration", "x cases", "x cases, whether they help or not")
"""Each layer on top of those before it; the last two are alternatives."""
CALIBRATED = 1
INTERVALS = ("x calibration, interval by its own spread", "x calibration, interval as answered")
ROWS = tuple((name, layer) for layer, name in enumerate(LAYERS)) + tuple(
    (name, CALIBRATED) for name in INTERVALS
)
"""Names of the rows of the table, each with the layer that its errors are of."""
NEW_RUNS = 5
"""So many first runs of a workflow on a platform count as new."""
STEPS = (0, 1, 2, 5, 10, 20)
"""Numbers of earlier runs at which errors are told apart."""
REFIT_RUNS = 20
"""After so many runs the case base, and whether it helps, is made again."""
RESIDUALS = 200
"""So many of the newest residuals make an interval."""
FACTORS = FactorDraws(1000)
"""Enough for the ends of an interval."""


class Foretold(NamedTuple):
    """A run by all layers: ``ln(observed / predicted)``, and the ends of its interval (:data:`ROWS` x 2).

    Ends are ``ln(end / predicted)``, NaN where unknown. ``earlier`` is how many runs of its workflow on its
    platform had finished.
    """

    run: str
    workflow: str
    earlier: int
    log_ratio: FloatArray
    interval: FloatArray

    @property
    def is_new(self) -> bool:
        """Whether it is one of the first runs of its workflow on its platform."""
        return self.earlier < NEW_RUNS


@dataclass
class _Past:
    """What is known when a run is foretold."""

    settings: CaseSettings
    answered: bool
    residuals: dict[tuple[str, str], list[Residual]] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[ModelledRun]] = field(default_factory=dict)
    early: dict[tuple[tuple[str, str], int], list[float]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    off: dict[bool, list[FloatArray]] = field(default_factory=lambda: {True: [], False: []})
    base: CaseBase | None = None
    judgement: Judgement | None = None

    def predictions(self, run: ModelledRun) -> FloatArray:
        """Return the logarithm of the seconds that each layer foretells."""
        model_s = run.predicted_s
        calibrated_s = run.calibrated_s(self._calibration(run))
        suggested, used = 0.0, False
        if self.base is not None and self.judgement is not None:
            near = self.base.nearest(run_features(run), run.platform)
            suggested = log_correction(near) * share_of_cases(self.runs_of(run))
            used = self.judgement.helps
        calibrated = math.log(calibrated_s)
        corrected = calibrated + suggested
        return np.array([math.log(model_s), calibrated, corrected if used else calibrated, corrected])

    def runs_of(self, run: ModelledRun) -> int:
        """Return how many runs of the same workflow on the same platform are known."""
        return len(self.runs.get((run.workflow, run.platform), ()))

    def _calibration(self, run: ModelledRun) -> Calibration:
        earlier = self.residuals.get((run.workflow, run.platform), [])
        model = run.makespans
        return calibrate(earlier, model.workflow.stage_names, model.catalog.names)

    def intervals(self, run: ModelledRun, is_new: bool) -> FloatArray:
        """Return a run's intervals, rows x 2: each layer's from runs that were as new, then the others."""
        off = np.array(self.off[is_new][-RESIDUALS:]).reshape(-1, len(LAYERS))
        halves = [half_width(off[:, layer].tolist()) for layer in range(len(LAYERS))]
        if not self.answered:
            return np.array([[-half, half] for half in [*halves, math.nan, math.nan]])
        corrected = run.corrected(self._calibration(run))
        predicted_s = float(corrected.makespan_s(run.layouts)[0])
        spreads = (None, self._spread(run))
        made = [MakespanDraws(corrected, FACTORS, spread).quantiles_s(run.layout) for spread in spreads]
        ends = [(math.nan, math.nan) if one is None else (one["p05_s"], one["p95_s"]) for one in made]
        return np.array([[-half, half] for half in halves] + np.log(np.array(ends) / predicted_s).tolist())

    def _spread(self, run: ModelledRun) -> RunSpread | None:
        """Return how far whole runs were off, as an answer has it."""
        own = self.runs.get((run.workflow, run.platform), [])
        errors = left_out_errors([TimedRun(one) for one in own[-WINDOW_RUNS:]])
        if not errors.suffice:
            elsewhere = [key for key in self.runs if key != (run.workflow, run.platform)]
            errors = errors.with_others(
                (key[0] == run.workflow, self._early_errors(key, len(own))) for key in elsewhere
            )
        return errors.spread(run.makespans.times.nodes)

    def _early_errors(self, key: tuple[str, str], taught: int) -> list[float]:
        """Return how far runs were off when so many had taught, adding what is new."""
        known = self.early.setdefault((key, taught), [])
        known += early_errors(self.runs[key], taught, len(known))
        return known

    def learn(self, run: ModelledRun, is_new: bool, log_ratio: FloatArray) -> None:
        """Take a finished run in."""
        key = run.workflow, run.platform
        self.residuals.setdefault(key, []).extend(run.residuals())
        self.runs.setdefault(key, []).append(run)
        self.off[is_new].append(log_ratio)
        self.cases.append(run_case(run))
        if len(self.cases) % REFIT_RUNS == 0:
            self.base = CaseBase(self.cases, self.settings)
            self.judgement = judge(self.base)


def foretell(
    runs: Iterable[ModelledRun], settings: CaseSettings | None = None, *, answered: bool = True
) -> list[Foretold]:
    """Return what each layer made of each run, oldest first; intervals as answered take most of the time.

    Left out are runs that have no prediction or no time, and those more than
    :data:`~qosflow_airflow.learn.calibration.OUTLIER_FACTOR` times off.
    """
    past = _Past(settings or CaseSettings(), answered)
    found = []
    for run in runs:
        if not _plausible(run):
            continue
        earlier = past.runs_of(run)
        is_new = earlier < NEW_RUNS
        log_ratio = math.log(run.observed_s) - past.predictions(run)
        found.append(Foretold(run.run, run.workflow, earlier, log_ratio, past.intervals(run, is_new)))
        past.learn(run, is_new, log_ratio)
    return found


def ablation(foretold: Sequence[Foretold], judged_from: int = 0) -> dict[str, Any]:
    """Return, as plain JSON, errors and intervals of every layer; the first ``judged_from`` runs only teach.

    ``rows`` has one object per group of runs (``all``, ``new``, ``known``) and layer. An error is
    ``|observed / predicted - 1|`` with the larger of the two above (``exp |log ratio| - 1``). ``coverage`` is
    the share of runs inside their interval among the ``with_interval`` that have one, ``width`` the median of
    its upper over its lower end; figures are ``None`` where no run tells them. ``learning`` is the median
    error of each layer by how many runs of the workflow on the platform had finished: from ``earlier`` up to
    the next of :data:`STEPS`.
    """
    held = foretold[judged_from:]
    groups: Mapping[str, Sequence[Foretold]] = {
        "all": held,
        "new": [one for one in held if one.is_new],
        "known": [one for one in held if not one.is_new],
    }
    return {
        "stated_coverage": COVERAGE,
        "new_runs": NEW_RUNS,
        "runs": len(held),
        "taught_only": len(foretold) - len(held),
        "rows": [
            {"runs_of": group, "layer": name, **_figures(chosen, layer, row)}
            for group, chosen in groups.items()
            for row, (name, layer) in enumerate(ROWS)
        ],
        "learning": _learning(held),
    }


def _learning(held: Sequence[Foretold]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for least, beyond in zip(STEPS, (*STEPS[1:], math.inf), strict=True):
        chosen = [one for one in held if least <= one.earlier < beyond]
        if chosen:
            errors = {
                name: _figures(chosen, layer, layer)["median_error"] for layer, name in enumerate(LAYERS)
            }
            rows.append({"earlier": least, "runs": len(chosen), "median_error": errors})
    return rows


def _figures(chosen: Sequence[Foretold], layer: int, row: int) -> dict[str, float | int | None]:
    off = np.array([one.log_ratio[layer] for one in chosen])
    low, high = np.array([one.interval[row] for one in chosen]).reshape(-1, 2).T
    known = ~np.isnan(low)
    errors = np.expm1(np.abs(off))
    return {
        "runs": len(chosen),
        "median_error": float(np.median(errors)) if len(errors) else None,
        "mean_error": float(errors.mean()) if len(errors) else None,
        "with_interval": int(known.sum()),
        "coverage": float(((low <= off) & (off <= high))[known].mean()) if known.any() else None,
        "width": float(np.exp(np.median((high - low)[known]))) if known.any() else None,
    }


def _plausible(run: ModelledRun) -> bool:
    both = (run.predicted_s, run.observed_s)
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in both):
        return False
    return abs(math.log(run.observed_s / run.predicted_s)) <= math.log(OUTLIER_FACTOR)
