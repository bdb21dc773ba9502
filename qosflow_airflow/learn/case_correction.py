"""A prediction corrected by similar cases, where that was shown to help, and cited in any case.

It is judged on workflows left out: each case is corrected by the cases of all other workflows. Only where
errors become smaller that way, workflow by workflow and by more than chance, are corrections used. They are
for workflows that calibration knows little of: their share is what calibration leaves, ``1 / (n + 1)`` after
``n`` runs, so that nothing is corrected twice.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.learn import calibration
from qosflow_airflow.learn.cases import CaseBase, Neighbourhood

SHRINKAGE = 1.0
"""As many cases that were foretold exactly as a correction starts with."""
REACH = math.log(2.0)
"""A neighbour further than this from the middle of the others counts as this far."""
MIN_WORKFLOWS = 3
"""Fewer workflows do not tell whether cases of one help with another."""
MAX_JUDGED = 400
"""So many cases are judged by at most, spread evenly over the base."""
CITED = 3


class Judgement(NamedTuple):
    """Mean errors ``|ln(observed / predicted)|`` of workflows left out, without and with their neighbours.

    ``margin`` is the standard error of the difference over the workflows.
    """

    workflows: int
    judged: int
    error_without: float
    error_with: float
    margin: float

    @property
    def helps(self) -> bool:
        """Whether errors became smaller by more than chance."""
        return self.workflows >= MIN_WORKFLOWS and self.error_without - self.error_with > self.margin

    @property
    def words(self) -> str:
        """Say whether cases help, and how that is known."""
        if self.workflows < MIN_WORKFLOWS:
            needed = f"runs of {MIN_WORKFLOWS} workflows tell whether that helps, {self.workflows} known"
            return f"cited only: {needed}"
        said = f"{self.error_without:.1%} without and {self.error_with:.1%} with it on workflows left out"
        return f"{'that helps' if self.helps else 'cited only'}: errors are {said}"


def log_correction(neighbourhood: Neighbourhood) -> float:
    """Return the logarithm of the factor that the neighbours suggest, 0 without any."""
    if not neighbourhood.found:
        return 0.0
    weights = np.array([neighbour.similarity for neighbour in neighbourhood.found])
    ratios = np.array([neighbour.case.log_ratio for neighbour in neighbourhood.found])
    middle = _weighted_median(ratios, weights)
    tame = np.clip(ratios, middle - REACH, middle + REACH)
    return float((weights * tame).sum() / (weights.sum() + SHRINKAGE))


def share_of_cases(calibrated_runs: int) -> float:
    """Return the share of a correction that is left to cases after runs that calibration has learned from."""
    return calibration.SHRINKAGE / (calibrated_runs + calibration.SHRINKAGE)


def judge(base: CaseBase) -> Judgement:
    """Return what corrections do to the errors of workflows that are left out."""
    errors: dict[str, list[tuple[float, float]]] = {}
    for at in dict.fromkeys(np.linspace(0, len(base) - 1, min(len(base), MAX_JUDGED)).astype(int).tolist()):
        case = base.cases[at]
        near = base.nearest(case.features, case.platform, without_workflow=case.workflow)
        pair = (abs(case.log_ratio), abs(case.log_ratio - log_correction(near)))
        errors.setdefault(case.workflow, []).append(pair)
    if not errors:
        return Judgement(0, 0, math.nan, math.nan, math.nan)
    # Each workflow counts alike, however often it ran.
    means = np.array([np.mean(pairs, axis=0) for pairs in errors.values()])
    gains = means[:, 0] - means[:, 1]
    margin = float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.inf
    without, with_cases = means.mean(axis=0).tolist()
    return Judgement(len(errors), sum(map(len, errors.values())), without, with_cases, margin)


class Citation(NamedTuple):
    """What similar cases say of a prediction that ``calibrated_runs`` runs of its own have corrected already.

    ``factor`` is 1 where they are cited and not used.
    """

    neighbourhood: Neighbourhood
    suggested_factor: float
    judgement: Judgement
    calibrated_runs: int = 0

    @property
    def used(self) -> bool:
        """Whether the prediction is to be multiplied by the suggested factor."""
        return self.judgement.helps and bool(self.neighbourhood.found)

    @property
    def factor(self) -> float:
        """What the prediction is to be multiplied by."""
        return float(self.suggested_factor ** share_of_cases(self.calibrated_runs)) if self.used else 1.0

    @property
    def words(self) -> str:
        """Say it in a sentence or two."""
        found = self.neighbourhood.found
        if not found:
            return "No similar runs."
        kind = "runs" if found[0].case.stage is None else "stages"
        listed = "; ".join(f"{case.words} (similarity {near:.2f})" for case, near in found[:CITED])
        more = f"; and {len(found) - CITED} more" if len(found) > CITED else ""
        text = f"{len(found)} similar {kind[:-1] if len(found) == 1 else kind}: {listed}{more}."
        if self.neighbourhood.not_compared:
            text += f" Not known, and not compared: {', '.join(self.neighbourhood.not_compared)}."
        text += f" They took {self.suggested_factor:.2f} times their estimates; {self.judgement.words}."
        if self.used and self.calibrated_runs:
            text += f" Of that, {self.factor:.2f} is left by {self.calibrated_runs} runs of its own."
        return text

    def to_json(self) -> dict[str, Any]:
        """Return what an answer keeps under ``cases``."""
        judged = self.judgement
        return {
            "similar": self.neighbourhood.to_json(),
            "not_compared": list(self.neighbourhood.not_compared),
            "suggested_factor": self.suggested_factor,
            "used": self.used,
            "factor": self.factor,
            "workflows": judged.workflows,
            "error_without": None if math.isnan(judged.error_without) else judged.error_without,
            "error_with": None if math.isnan(judged.error_with) else judged.error_with,
            "words": self.words,
        }


def cite(
    base: CaseBase,
    features: FloatArray,
    platform: str | None = None,
    *,
    calibrated_runs: int = 0,
    judgement: Judgement | None = None,
) -> Citation:
    """Return what the cases of ``base`` say of a run to come, or of a stage, on a platform.

    ``calibrated_runs`` is how many runs of its own have corrected the prediction. ``judgement`` is that of
    the same base, which takes a while to make.
    """
    near = base.nearest(features, platform)
    found = judge(base) if judgement is None else judgement
    return Citation(near, math.exp(log_correction(near)), found, calibrated_runs)


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])
