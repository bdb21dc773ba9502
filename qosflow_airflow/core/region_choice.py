"""How many regions, and by which questions: chosen by layouts held out.

Every number of regions is judged in repeated K-fold cross-validation, all of them by one tree per fold;
copies of a layout share a fold. What comes out is a curve, regions against concordance. By default the knee
of the curve is taken, where one region more no longer orders noticeably better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.merging import RULES_PER_REGION
from qosflow_airflow.core.region_trees import Grow, RegionTree, Rows, fit_tree
from qosflow_airflow.core.transfer import FloatArray, IntArray

SIZES = (*range(1, 11), 12, 14, 18, 24, 32, 40, 50, 60, 80, 100)
"""The numbers of regions on a curve."""
JUDGED = (6, 9, 14, 24)
"""The numbers of regions by which two sets of questions are compared."""
WORTH = 1 / 80
"""A region more must bring this share of what can be gained by ordering at all."""
TIE = 0.01
"""Shares of what can be gained that are closer than this are alike: the fewer regions are taken."""
CLEARLY = 0.002
"""More questions must order better by so much, and by more than repeats differ, to be worth their words."""
MOST_COMPARED = 4000
"""Layouts whose order is compared at most; a concordance is then known to about 0.002."""


@dataclass(frozen=True)
class CrossValidation:
    """Repeated K-fold cross-validation, its folds drawn from ``seed``."""

    folds: int
    repeats: int
    seed: int

    def fresh(self) -> CrossValidation:
        """Return the same with folds that have nothing to do with these."""
        return CrossValidation(self.folds, self.repeats, self.seed + 1)

    def held_out(self, group: IntArray) -> Iterator[IntArray]:
        """Yield, per repeat, the fold of each row; groups stay whole."""
        names, member = np.unique(group, return_inverse=True)
        folds = min(self.folds, len(names))
        for repeat in range(self.repeats):
            generator = np.random.default_rng([self.seed, repeat])
            yield generator.permutation(np.arange(len(names)) % folds)[member]


class Point(NamedTuple):
    """How well trees of at most so many regions foretell layouts that they have not seen."""

    regions: int
    concordance: float
    mae_s: float


class Curve(NamedTuple):
    """Points by ascending number of regions; ``errors_s`` holds the mean absolute errors, folds x points.

    Of ``folds`` folds one was held out at a time. ``repeated`` are the concordances, repeats x points.
    ``regret_s`` is, per point, what the layouts that are foretold to be fastest take beyond the fastest: the
    mean over them.
    """

    points: tuple[Point, ...]
    errors_s: FloatArray
    folds: int
    repeated: FloatArray
    regret_s: tuple[float, ...] = ()

    def at(self, regions: int) -> Point:
        """Return the point of the most regions that are at most ``regions``."""
        return max(point for point in self.points if point.regions <= regions)

    def regret_at(self, regions: int) -> float:
        """Return the regret of that point, seconds."""
        return self.regret_s[self.points.index(self.at(regions))]


class Choice(NamedTuple):
    """A tree, its regions and how they were chosen; without a second layout nothing is held out."""

    tree: RegionTree
    questions: int
    regions: int
    curve: Curve | None


def choose_tree(
    rows: Rows,
    grow: Grow,
    validation: CrossValidation,
    *,
    questions: Sequence[int],
    max_regions: int,
    regions: int | None = None,
    rules_per_region: int = RULES_PER_REGION,
) -> Choice:
    """Return the tree by the questions that order held-out layouts best, and its number of regions.

    ``questions`` are numbers of leading features: the plainest set of questions first, which is kept unless a
    later one is clearly better. ``regions`` asks for a number instead of the knee.
    """
    if min(validation.folds, len(np.unique(rows.group))) < 2:
        return Choice(fit_tree(_asking(rows, questions[0]), grow), questions[0], 1, None)
    asked = _clearly_best(rows, grow, validation, questions, rules_per_region)
    rows = _asking(rows, asked)
    tree = fit_tree(rows, grow)
    sizes = sizes_up_to(regions or max_regions, len(tree.pruned.leaves(0.0)))
    # Fresh folds: those of the choice would flatter what was chosen by them.
    curve = held_out_curve(rows, grow, sizes, validation.fresh(), rules_per_region)
    return Choice(tree, asked, regions or knee(curve), curve)


def _clearly_best(
    rows: Rows, grow: Grow, validation: CrossValidation, questions: Sequence[int], rules_per_region: int
) -> int:
    """Return the set of questions that orders best, the plainer one unless another is clearly better."""
    first, *others = questions
    if not others:
        return first

    def qualities(count: int) -> FloatArray:
        curve = held_out_curve(_asking(rows, count), grow, JUDGED, validation, rules_per_region)
        return np.asarray(curve.repeated.mean(axis=1))

    best, asked = qualities(first), first
    for count in others:
        found = qualities(count)
        gained = found - best
        doubt = gained.std(ddof=1) / np.sqrt(len(gained)) if len(gained) > 1 else 0.0
        if gained.mean() > CLEARLY + doubt:
            best, asked = found, count
    return asked


def sizes_up_to(most: int, leaves: int) -> list[int]:
    """Return the numbers of regions on a curve, the last one the most that are allowed and there are."""
    most = min(most, leaves)
    return [*(size for size in SIZES if size < most), most]


def held_out_curve(
    rows: Rows, grow: Grow, sizes: Sequence[int], validation: CrossValidation, rules_per_region: int
) -> Curve:
    """Return how well at most that many regions foretell the rows held out, the mean over repeats."""
    concordances: list[list[float]] = []
    regrets: list[list[float]] = []
    errors: list[FloatArray] = []
    compared = _spread(len(rows.group))
    for fold in validation.held_out(rows.group):
        predicted = np.empty((len(fold), len(sizes)))
        for k in range(fold.max() + 1):
            tree = fit_tree(rows.take(fold != k), grow)
            predicted[fold == k] = tree.predict(rows.features[fold == k], sizes, rules_per_region)
            wrong_s = np.abs(predicted[fold == k] - rows.makespan_s[fold == k, None])
            errors.append(wrong_s.mean(axis=0))
        actual_s = rows.makespan_s[compared]
        concordances.append([concordance(column, actual_s) for column in predicted[compared].T])
        regrets.append([_first_s(column, rows.makespan_s) - rows.makespan_s.min() for column in predicted.T])
    means = np.mean(concordances, axis=0).tolist(), np.mean(errors, axis=0).tolist()
    points = tuple(Point(*point) for point in zip(sizes, *means, strict=True))
    regret_s = tuple(np.mean(regrets, axis=0).tolist())
    return Curve(points, np.array(errors), int(fold.max()) + 1, np.array(concordances), regret_s)


def _first_s(predicted_s: FloatArray, makespan_s: FloatArray) -> float:
    """Return the mean makespan of those that are foretold to be fastest."""
    return float(makespan_s[predicted_s == predicted_s.min()].mean())


def knee(curve: Curve) -> int:
    """Return the fewest regions after which one more is no longer worth it, 1 where none foretell better."""
    points = curve.points
    errors = curve.errors_s
    best = int(np.argmin(errors.mean(axis=0)))
    # Folds share training rows, so that their errors vary less than they should (Nadeau and Bengio, 2003).
    saved_s = errors[:, 0] - errors[:, best]
    doubt_s = np.sqrt(saved_s.var(ddof=1) * (1 / len(errors) + 1 / (curve.folds - 1)))
    if len(points) == 1 or saved_s.mean() <= doubt_s:
        return points[0].regions
    # One region puts no pair in order, whatever noise its median takes from fold to fold.
    reached = np.maximum.accumulate([0.5, *(point.concordance for point in points[1:])])
    worth = (reached - 0.5) / max(reached[-1] - 0.5, TIE)
    worth -= WORTH * np.array([point.regions for point in points])
    return points[int(np.argmax(worth >= worth.max() - TIE))].regions


def _asking(rows: Rows, questions: int) -> Rows:
    return Rows(np.ascontiguousarray(rows.features[:, :questions]), rows.makespan_s, rows.group)


def _spread(count: int) -> IntArray:
    """Return positions of the rows whose order is compared, a random part of many."""
    if count <= MOST_COMPARED:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, MOST_COMPARED, replace=False))
