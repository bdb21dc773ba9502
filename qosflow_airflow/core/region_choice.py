"""How many regions: the pruned tree that foretells unseen layouts best, or fewer where that is as good.

Trees are grown on the makespan and on its rank (with a long tail, splits by squared seconds chase the few
slowest layouts), and pruned by the absolute deviation from the median, which is what a region foretells. Each
size is judged by the mean absolute error of trees of that size in repeated K-fold cross-validation; copies of
a layout share a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.concordance import concordance, dense_ranks
from qosflow_airflow.core.pruning import Features, PrunedTree, RegressionTree, node_times, prune
from qosflow_airflow.core.transfer import FloatArray, IntArray

Grow = Callable[[Features, FloatArray], RegressionTree]
"""Grows a tree on features and a target."""


class Rows(NamedTuple):
    """What a tree is fitted to; ``group`` is equal for copies of one layout."""

    features: Features
    makespan_s: FloatArray
    group: IntArray

    def take(self, rows: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(self.features[rows], self.makespan_s[rows], self.group[rows])


TARGETS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "makespan": lambda makespan_s: makespan_s,
    "rank": lambda makespan_s: dense_ranks(makespan_s).astype(np.float64),
}
"""What a tree may be grown on, from the makespans."""


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


class FittedTree(NamedTuple):
    """A pruned tree, grown on ``target``, and the median makespan of each of its nodes."""

    target: str
    pruned: PrunedTree
    median_s: FloatArray

    def predict(self, features: Features, sizes: Sequence[int]) -> FloatArray:
        """Return rows x sizes: the makespan foretold for each row by the tree of at most that many leaves."""
        alphas = [self.pruned.alpha_of(size) for size in sizes]
        return self.pruned.predict(self.pruned.tree.paths(features), self.median_s, alphas)


class HeldOut(NamedTuple):
    """How well layouts are foretold by trees that have not seen them."""

    concordance: float
    mae_s: float


class Choice(NamedTuple):
    """A tree and the number of leaves to which it is pruned; without a second layout nothing is held out."""

    fitted: FittedTree
    regions: int
    held_out: HeldOut | None


def choose_tree(rows: Rows, grow: Grow, max_regions: int, validation: CrossValidation) -> Choice:
    """Return the tree with the fewest leaves among those within one standard error of the best held out."""
    trees = {target: fit_tree(rows, target, grow) for target in TARGETS}
    folds = min(validation.folds, len(np.unique(rows.group)))
    if folds < 2:
        return Choice(trees["makespan"], 1, None)
    candidates: list[_Candidate] = []
    for target, tree in trees.items():
        sizes = tree.pruned.sizes(max_regions)
        errors = _fold_errors(rows, target, grow, sizes, validation)
        candidates += [
            _Candidate(size, float(error.mean()), target, error)
            for size, error in zip(sizes, errors.T, strict=True)
        ]
    chosen = _fewest_within_one_standard_error(candidates, folds)
    held_out = held_out_quality(rows, chosen.target, grow, chosen.regions, validation.fresh())
    return Choice(trees[chosen.target], chosen.regions, held_out)


def fit_tree(rows: Rows, target: str, grow: Grow) -> FittedTree:
    """Return a tree grown on ``target``, pruned by the deviation of makespans from their median."""
    tree = grow(rows.features, TARGETS[target](rows.makespan_s))
    times = node_times(tree.paths(rows.features), rows.makespan_s, tree.size)
    return FittedTree(target, prune(tree, times.deviation), times.median)


class _Candidate(NamedTuple):
    regions: int
    mae_s: float
    target: str
    errors_s: FloatArray


def _fold_errors(
    rows: Rows, target: str, grow: Grow, sizes: Sequence[int], validation: CrossValidation
) -> FloatArray:
    """Return folds x sizes: the mean absolute error of held-out rows."""
    errors = []
    for fold in validation.held_out(rows.group):
        for k in range(fold.max() + 1):
            seen, unseen = rows.take(fold != k), rows.take(fold == k)
            predicted = fit_tree(seen, target, grow).predict(unseen.features, sizes)
            errors.append(np.abs(predicted - unseen.makespan_s[:, None]).mean(axis=0))
    return np.array(errors)


def _fewest_within_one_standard_error(candidates: list[_Candidate], folds: int) -> _Candidate:
    best = min(candidates, key=lambda candidate: candidate.mae_s)
    # Folds share training rows, so that their errors vary less than they should (Nadeau and Bengio, 2003).
    errors = best.errors_s
    correction = 1 / len(errors) + 1 / (folds - 1)
    limit = best.mae_s + float(np.sqrt(errors.var(ddof=1) * correction))
    return min((c for c in candidates if c.mae_s <= limit), key=lambda c: (c.regions, c.mae_s))


def held_out_quality(rows: Rows, target: str, grow: Grow, size: int, validation: CrossValidation) -> HeldOut:
    """Return how well trees of at most ``size`` leaves foretell the rows held out, the mean over repeats."""
    concordances, errors = [], []
    for fold in validation.held_out(rows.group):
        predicted = np.empty(len(fold))
        for k in range(fold.max() + 1):
            tree = fit_tree(rows.take(fold != k), target, grow)
            predicted[fold == k] = tree.predict(rows.features[fold == k], [size])[:, 0]
        concordances.append(concordance(predicted, rows.makespan_s))
        errors.append(np.abs(predicted - rows.makespan_s).mean())
    return HeldOut(float(np.mean(concordances)), float(np.mean(errors)))
