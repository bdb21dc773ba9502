"""How many regions: the pruned tree that foretells unseen layouts best, or fewer where that is as good.

Trees are grown on the makespan and on its rank (with a long tail, splits by squared seconds chase the few
slowest layouts), and pruned by the absolute deviation from the median, which is what a region foretells. Each
price of a leaf is judged by the mean absolute error in repeated K-fold cross-validation; copies of a layout
share a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


TARGETS: dict[str, Callable[[FloatArray], FloatArray]] = {
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

    def predict(self, features: Features, alphas: FloatArray) -> FloatArray:
        """Return rows x alphas: the makespan foretold for each row at each price of a leaf."""
        return self.pruned.predict(self.pruned.tree.paths(features), self.median_s, alphas)


class HeldOut(NamedTuple):
    """How well layouts are foretold by trees that have not seen them."""

    concordance: float
    mae_s: float


class Choice(NamedTuple):
    """The tree and the price of a leaf at which it is pruned; without a second layout nothing is held out."""

    fitted: FittedTree
    alpha: float
    held_out: HeldOut | None


def choose_tree(rows: Rows, grow: Grow, max_regions: int, validation: CrossValidation) -> Choice:
    """Return the tree with the fewest leaves among those within one standard error of the best held out."""
    trees = {target: fit_tree(rows, target, grow) for target in TARGETS}
    prices = {target: _prices(tree.pruned, max_regions) for target, tree in trees.items()}
    folds = min(validation.folds, len(np.unique(rows.group)))
    if folds < 2:
        return Choice(trees["makespan"], prices["makespan"][-1], None)
    candidates: list[_Candidate] = []
    for target, tree in trees.items():
        errors = _fold_errors(rows, target, grow, prices[target], validation)
        counts = [tree.pruned.leaf_count(alpha) for alpha in prices[target]]
        candidates += [
            _Candidate(count, float(error.mean()), target, float(alpha), error)
            for count, alpha, error in zip(counts, prices[target], errors.T, strict=True)
        ]
    chosen = _fewest_within_one_standard_error(candidates, folds)
    return Choice(
        trees[chosen.target],
        chosen.alpha,
        _held_out(rows, chosen.target, grow, chosen.alpha, validation.fresh()),
    )


def fit_tree(rows: Rows, target: str, grow: Grow) -> FittedTree:
    """Return a tree grown on ``target``, pruned by the deviation of makespans from their median per row."""
    tree = grow(rows.features, TARGETS[target](rows.makespan_s))
    times = node_times(tree.paths(rows.features), rows.makespan_s, tree.size)
    return FittedTree(target, prune(tree, times.deviation / len(rows.makespan_s)), times.median)


class _Candidate(NamedTuple):
    regions: int
    mae_s: float
    target: str
    alpha: float
    errors_s: FloatArray


def _prices(pruned: PrunedTree, max_regions: int) -> FloatArray:
    """Return a price (geometric midpoint, as Breiman) per pruned tree of at most ``max_regions`` leaves."""
    alphas = pruned.alphas
    # At the last price and above there is one leaf; its root would be squared and rounded below it.
    midpoints = np.append(np.sqrt(alphas[:-1] * alphas[1:]), alphas[-1])
    few = np.array([pruned.leaf_count(alpha) <= max_regions for alpha in midpoints])
    return np.asarray(midpoints[few])


def _fold_errors(
    rows: Rows, target: str, grow: Grow, alphas: FloatArray, validation: CrossValidation
) -> FloatArray:
    """Return folds x alphas: the mean absolute error of held-out rows."""
    errors = []
    for fold in validation.held_out(rows.group):
        for k in range(fold.max() + 1):
            seen, unseen = rows.take(fold != k), rows.take(fold == k)
            predicted = fit_tree(seen, target, grow).predict(unseen.features, alphas)
            errors.append(np.abs(predicted - unseen.makespan_s[:, None]).mean(axis=0))
    return np.array(errors)


def _fewest_within_one_standard_error(candidates: list[_Candidate], folds: int) -> _Candidate:
    best = min(candidates, key=lambda candidate: candidate.mae_s)
    # Folds share training rows, so that their errors vary less than they should (Nadeau and Bengio, 2003).
    errors = best.errors_s
    correction = 1 / len(errors) + 1 / (folds - 1)
    limit = best.mae_s + float(np.sqrt(errors.var(ddof=1) * correction))
    return min((c for c in candidates if c.mae_s <= limit), key=lambda c: (c.regions, c.mae_s))


def _held_out(rows: Rows, target: str, grow: Grow, alpha: float, validation: CrossValidation) -> HeldOut:
    concordances, errors = [], []
    for fold in validation.held_out(rows.group):
        predicted = np.empty(len(fold))
        for k in range(fold.max() + 1):
            tree = fit_tree(rows.take(fold != k), target, grow)
            predicted[fold == k] = tree.predict(rows.features[fold == k], np.array([alpha]))[:, 0]
        concordances.append(concordance(predicted, rows.makespan_s))
        errors.append(np.abs(predicted - rows.makespan_s).mean())
    return HeldOut(float(np.mean(concordances)), float(np.mean(errors)))
