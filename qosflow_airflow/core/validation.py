"""Predicted against executed: how well a model's makespans and intervals hold in runs it has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.measured_run import TERMS, MeasuredRun, charged, error_terms, storage_makespan_s
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from qosflow_airflow.exceptions import MeasurementError

GOAL_CONCORDANCE = 0.95
"""At least."""
GOAL_MEDIAN_ERROR = 0.15
"""At most."""
GOAL_COVERAGE_90 = (0.85, 0.95)
"""Between: wider intervals than that say less than is known."""


class ValidatedConfiguration(NamedTuple):
    """A layout's prediction and its interval (NaN where not known) beside its runs, in their order."""

    layout: tuple[int, ...]
    predicted_s: float
    low_s: float
    high_s: float
    runs: tuple[MeasuredRun, ...]

    @property
    def runs_s(self) -> FloatArray:
        """The measured makespans."""
        return np.array([run.makespan_s for run in self.runs])

    @property
    def measured_s(self) -> float:
        """The median of the runs."""
        return float(np.median(self.runs_s))


def validated(makespans: MakespanModel, runs: Sequence[MeasuredRun]) -> list[ValidatedConfiguration]:
    """Return predictions beside runs, one per layout, in the order of the first runs."""
    by_layout: dict[tuple[int, ...], list[MeasuredRun]] = {}
    for run in runs:
        by_layout.setdefault(run.layout, []).append(run)
    draws = MakespanDraws(makespans, FactorDraws())
    found = []
    for layout, own in by_layout.items():
        predicted_s = float(makespans.makespan_s(np.array([layout], dtype=np.int8))[0])
        interval = draws.quantiles_s(layout) or {"p05_s": math.nan, "p95_s": math.nan}
        found.append(
            ValidatedConfiguration(layout, predicted_s, interval["p05_s"], interval["p95_s"], tuple(own))
        )
    return found


def report_card(
    makespans: MakespanModel,
    configurations: Sequence[ValidatedConfiguration],
    foreseen_bytes: Mapping[tuple[str, str], float],
) -> dict[str, Any]:
    """Return how well predictions held, as plain JSON; a figure is ``None`` where too little was run.

    An error is predicted over measured, minus 1, of a configuration's median run; ``median_error`` and
    ``p90_error`` are of its size. ``coverage_90`` is the share of single runs within the 90 % interval of
    their configuration. ``repeat_error`` and ``repeat_concordance`` say what the machine itself repeats: how
    far a run lies from the median of its configuration's, and how well first runs order the second ones; no
    model can be held to more. ``resolved_concordance`` counts only the pairs of which one was slower in every
    run, which are ``resolved_pairs`` of all. ``storage_concordance`` and ``storage_median_error`` are against
    runs with their own reads, writes and copies, and the computing that was foreseen: what else the machine
    does shows mostly in how long tasks compute, and no tier changes that. ``error_terms`` splits predicted
    minus measured (see :func:`~qosflow_airflow.core.measured_run.error_terms`), as shares of the measured
    makespan.

    Raises
    ------
    MeasurementError
        When there are fewer than two configurations, or one of them is not measured by the model.
    """
    if len(configurations) < 2:
        raise MeasurementError("fewer than two configurations were run", cure="Give more time.")
    predicted = np.array([one.predicted_s for one in configurations])
    measured = np.array([one.measured_s for one in configurations])
    if np.isnan(predicted).any():
        raise MeasurementError("a configuration has no prediction", cure="Measure all of its tiers.")
    errors = predicted / measured - 1
    return {
        "concordance": concordance(predicted, measured),
        "median_error": float(np.median(np.abs(errors))),
        "p90_error": float(np.quantile(np.abs(errors), 0.9)),
        "coverage_90": _coverage(configurations),
        "bias": float(np.median(errors)),
        "configurations": len(configurations),
        "runs": sum(len(one.runs) for one in configurations),
        "makespan_s": {"least": float(measured.min()), "most": float(measured.max())},
        **_resolved(configurations),
        **_storage(makespans, configurations),
        "repeat_error": _repeat_error(configurations),
        "repeat_concordance": _repeat_concordance(configurations),
        "error_terms": _terms(makespans, configurations, foreseen_bytes),
        "predicted_over_measured": _ratios(makespans, configurations),
    }


def goals_met(report: Mapping[str, Any]) -> dict[str, bool]:
    """Return which goals a report card meets, by the names of its figures."""
    (low, high), covered = GOAL_COVERAGE_90, report["coverage_90"]
    return {
        "concordance": report["concordance"] >= GOAL_CONCORDANCE,
        "median_error": report["median_error"] <= GOAL_MEDIAN_ERROR,
        "coverage_90": covered is not None and low <= covered <= high,
    }


def _coverage(configurations: Sequence[ValidatedConfiguration]) -> float | None:
    inside = [
        (one.low_s <= one.runs_s) & (one.runs_s <= one.high_s)
        for one in configurations
        if not math.isnan(one.low_s)
    ]
    return float(np.concatenate(inside).mean()) if inside else None


def _resolved(configurations: Sequence[ValidatedConfiguration]) -> dict[str, float | None]:
    """Return how well the pairs are ordered of which one was slower in every run, and their share of all."""
    known = [one for one in configurations if len(one.runs) > 1]
    least, most = (np.array([ends(one.runs_s) for one in known]) for ends in (np.min, np.max))
    predicted = np.array([one.predicted_s for one in known])
    slower = least[:, None] > most[None, :] if known else np.zeros((0, 0), dtype=bool)
    if not slower.any():
        return {"resolved_concordance": None, "resolved_pairs": None}
    difference = predicted[:, None] - predicted[None, :]
    right = (difference > 0)[slower].sum() + 0.5 * (difference == 0)[slower].sum()
    pairs = len(known) * (len(known) - 1) / 2
    return {
        "resolved_concordance": float(right / slower.sum()),
        "resolved_pairs": float(slower.sum() / pairs),
    }


def _storage(makespans: MakespanModel, configurations: Sequence[ValidatedConfiguration]) -> dict[str, float]:
    predicted = np.array([one.predicted_s for one in configurations])
    measured = np.array(
        [np.median([storage_makespan_s(makespans, run) for run in one.runs]) for one in configurations]
    )
    return {
        "storage_concordance": concordance(predicted, measured),
        "storage_median_error": float(np.median(np.abs(predicted / measured - 1))),
    }


def _repeat_error(configurations: Sequence[ValidatedConfiguration]) -> float | None:
    repeated = [np.abs(one.runs_s / one.measured_s - 1) for one in configurations if len(one.runs) > 1]
    return float(np.median(np.concatenate(repeated))) if repeated else None


def _repeat_concordance(configurations: Sequence[ValidatedConfiguration]) -> float | None:
    twice = [one.runs_s[:2] for one in configurations if len(one.runs) > 1]
    return concordance(*np.transpose(twice)) if len(twice) > 1 else None


def _terms(
    makespans: MakespanModel,
    configurations: Sequence[ValidatedConfiguration],
    foreseen_bytes: Mapping[tuple[str, str], float],
) -> dict[str, dict[str, float]]:
    """Return each term as a share of the measured makespan: its median, and the median of its size."""
    shares: dict[str, list[float]] = {term: [] for term in TERMS}
    for one in configurations:
        for run in one.runs:
            for term, seconds in error_terms(makespans, run, foreseen_bytes).items():
                shares[term].append(seconds / run.makespan_s)
    return {
        term: {"median": float(np.median(found)), "median_size": float(np.median(np.abs(found)))}
        for term, found in shares.items()
    }


def _ratios(
    makespans: MakespanModel, configurations: Sequence[ValidatedConfiguration]
) -> dict[str, dict[str, float]]:
    """Return predicted and measured seconds summed over all runs, and their ratio, per kind of work.

    The kinds are ``read`` and ``write`` by tier, ``copy`` by both tiers, ``compute`` by stage.
    """
    sums: dict[str, list[float]] = {}

    def add(kind: str, predicted_s: float, measured_s: float) -> None:
        kept = sums.setdefault(kind, [0.0, 0.0])
        kept[0] += predicted_s
        kept[1] += measured_s

    times, names = makespans.times, makespans.catalog.names
    for run in (run for one in configurations for run in one.runs):
        paid = makespans.charges(np.array([run.layout], dtype=np.int8))
        for s, stage in enumerate(times.stages):
            tier, parts = names[run.layout[s]], run.stages[stage]
            add(f"read {tier}", float(paid.read[0, s]), parts.read_s)
            add(f"write {tier}", float(paid.write[0, s]), parts.write_s)
            add(f"compute {stage}", float(paid.compute[0, s]), parts.compute_s)
        for e, edge in enumerate(times.edges):
            legs = charged(makespans, e, run.layout)
            foreseen_s = float(paid.into[0, e] + paid.out_of[0, e])
            if legs:
                way = f"copy {names[legs[0][1][0]]}-{names[legs[-1][1][1]]}"
                add(way, foreseen_s, run.copies[edge].seconds if edge in run.copies else 0.0)
    return {
        kind: {"predicted_s": predicted, "measured_s": measured, "ratio": predicted / measured}
        for kind, (predicted, measured) in sorted(sums.items())
        if measured > 0
    }
