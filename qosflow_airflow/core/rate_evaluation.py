"""How well rates are estimated that were held out, beside the four-axis interpolation on the same rows.

Splits: points at random; per axis, whole levels, inside the measured range and at its ends; and node counts
inside the range of which a few points were measured, the others held out. All runs of a point are held out
together. Errors are |ln(estimate / measured)| of single runs: 0.10 is about 10 %, 0.69 a factor of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.rate_baseline import interpolate_four_axes
from qosflow_airflow.core.rate_law import RatePoints, fit_law
from qosflow_airflow.core.rate_model import RateKey, conformal_quantile, identified
from qosflow_airflow.core.transfer import FloatArray

RANDOM = "random"
LEVEL_SPLITS = ("nodes", "tasks_per_node", "access_size", "size")
"""The axes, in the order of the columns of the points."""
MEASURED_POINTS = 5
FEW_MEASURED = f"nodes_interior_{MEASURED_POINTS}_points"
"""Node counts inside the range of which so many points, chosen at random, are not held out."""
SPLITS = (RANDOM, *LEVEL_SPLITS, FEW_MEASURED)
COVERAGE = 0.9
FOLDS = 5


class Runs(NamedTuple):
    """The runs of one operation and tiers: ``points`` n x 4 (raw units), MiB/s, and the fold of each."""

    key: RateKey
    points: FloatArray
    rates_mib_s: FloatArray
    folds: NDArray[np.int64]


class _Part(NamedTuple):
    """A part of a split by which rows are held out, and which are kept from the baseline."""

    name: str
    turn: int
    held: NDArray[np.bool_]
    kept_from_baseline: NDArray[np.bool_]


class HeldOut(NamedTuple):
    """Errors of one operation and tiers in one split, one row per run that was held out."""

    key: RateKey
    split: str
    fold: NDArray[np.int64]
    error: FloatArray
    baseline_error: FloatArray
    doubt: FloatArray


def design_folds(points: FloatArray) -> NDArray[np.int64]:
    """Return a random fold per run, the same for all runs of a point and the same every time."""
    distinct, back = np.unique(points, axis=0, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(distinct)) % FOLDS
    found: NDArray[np.int64] = folds[back.ravel()].astype(np.int64)
    return found


def hold_out(runs: Runs, split: str) -> list[HeldOut]:
    """Fit without each part of a split in turn, and compare its runs with both estimates.

    Runs whose complement is too small for a law are left out of the split.
    """
    names: dict[str, list[tuple[NDArray[Any], ...]]] = {}
    for name, turn, held, kept_from_baseline in _parts(runs, split):
        found = RatePoints.of_runs(np.log(runs.points[~held]), np.log(runs.rates_mib_s[~held]))
        if not identified(found):
            continue
        measured = np.log(runs.rates_mib_s[held])
        log_rate, doubt = fit_law(found)(np.log(runs.points[held]))
        # The published interpolation counts whole tasks per node, as the benchmarks' table has them.
        whole = np.column_stack([runs.points[:, 0], np.floor(runs.points[:, 1]), runs.points[:, 2:]])
        seen = ~kept_from_baseline
        baseline = np.log(interpolate_four_axes(whole[seen], runs.rates_mib_s[seen], whole[held]))
        fold = np.full(len(measured), turn, dtype=np.int64)
        row: tuple[NDArray[Any], ...] = (
            fold,
            np.abs(log_rate - measured),
            np.abs(baseline - measured),
            doubt,
        )
        names.setdefault(name, []).append(row)
    return [
        HeldOut(runs.key, name, *(np.concatenate(column) for column in zip(*rows, strict=True)))
        for name, rows in names.items()
    ]


def _parts(runs: Runs, split: str) -> Iterator[_Part]:
    if split == RANDOM:
        for fold in np.unique(runs.folds):
            held = runs.folds == fold
            yield _Part(RANDOM, int(fold), held, held)
        return
    few = split == FEW_MEASURED
    axis = 0 if few else LEVEL_SPLITS.index(split)
    values = runs.points[:, axis]
    # The levels of a copy's tasks per node follow from its node counts; only benchmarks vary them.
    if runs.key[0] == "copy" and LEVEL_SPLITS[axis] in ("tasks_per_node", "access_size"):
        return
    levels = np.unique(values)
    for turn, level in enumerate(levels):
        is_end, here = level in (levels[0], levels[-1]), values == level
        if not few:
            yield _Part(f"{split}_{'end' if is_end else 'interior'}", turn, here, here)
        elif not is_end and (held := here & ~_measured(runs.points, here)).any():
            # The baseline gets worse by points of a level that has few: it is held to what it does without.
            yield _Part(FEW_MEASURED, turn, held, here)


def _measured(points: FloatArray, here: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the runs of a few distinct points among those that are ``here``, the same every time."""
    distinct, back = np.unique(points, axis=0, return_inverse=True)
    back = back.ravel()
    order = np.random.default_rng(0).permutation(len(distinct))
    chosen = order[np.isin(order, back[here])][:MEASURED_POINTS]
    return np.isin(back, chosen)


def summarise(held: Sequence[HeldOut]) -> dict[str, Any]:
    """Return errors per split, their ratios to the baseline, and coverage and width of 90 % intervals."""
    splits = {}
    for name in dict.fromkeys(part.split for part in held):
        error = np.concatenate([part.error for part in held if part.split == name])
        baseline = np.concatenate([part.baseline_error for part in held if part.split == name])
        splits[name] = _errors(error, baseline)
    covered, half_widths = _grid_coverage([part for part in held if part.split == RANDOM])
    unseen = _unseen_coverage([part for part in held if part.split == "nodes_interior"])
    return {
        "splits": splits,
        "coverage_90": {"grid": covered, "nodes_interior": unseen},
        "half_width_factor": None if half_widths is None else float(np.exp(np.median(half_widths))),
    }


def _errors(error: FloatArray, baseline: FloatArray) -> dict[str, Any]:
    ours = [float(np.quantile(error, level)) for level in (0.5, 0.9)]
    theirs = [float(np.quantile(baseline, level)) for level in (0.5, 0.9)]
    return {
        "median": ours[0],
        "p90": ours[1],
        "ratio_median": ours[0] / theirs[0],
        "ratio_p90": ours[1] / theirs[1],
        "baseline_median": theirs[0],
        "baseline_p90": theirs[1],
        "runs": len(error),
    }


def _grid_coverage(held: Sequence[HeldOut]) -> tuple[float | None, FloatArray | None]:
    """Return the share of runs inside intervals that the key's other folds calibrate, and half-widths."""
    inside, widths = [], []
    for part in held:
        scores = part.error / part.doubt
        for fold in np.unique(part.fold):
            here = part.fold == fold
            if here.all():
                continue
            width = conformal_quantile(np.sort(scores[~here]), COVERAGE) * part.doubt[here]
            inside.append(part.error[here] <= width)
            widths.append(width)
    if not inside:
        return None, None
    return float(np.concatenate(inside).mean()), np.concatenate(widths)


def _unseen_coverage(held: Sequence[HeldOut]) -> float | None:
    """Return the share of runs inside intervals that the left-out node counts of the other keys calibrate."""
    inside = []
    for part in held:
        others = [other.error / other.doubt for other in held if other.key != part.key]
        if others:
            factor = conformal_quantile(np.sort(np.concatenate(others)), COVERAGE)
            inside.append(part.error <= factor * part.doubt)
    return float(np.concatenate(inside).mean()) if inside else None


def repeat_noise(all_runs: Sequence[Runs]) -> Mapping[str, float]:
    """Return how well the median of a point's other runs estimates one run: no estimate can do better."""
    errors = []
    for runs in all_runs:
        _, back = np.unique(runs.points, axis=0, return_inverse=True)
        back, log_rates = back.ravel(), np.log(runs.rates_mib_s)
        for at in np.unique(back):
            same = log_rates[back == at]
            if len(same) > 1:
                errors += [abs(rate - np.median(np.delete(same, place))) for place, rate in enumerate(same)]
    if not errors:
        return {}
    return {"median": float(np.median(errors)), "p90": float(np.quantile(errors, 0.9)), "runs": len(errors)}
