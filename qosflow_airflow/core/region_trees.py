"""A pruned tree whose leaves are put together to regions: every number of regions from one fit.

A tree is grown on ranks (with a long tail, splits by squared seconds chase the few slowest layouts) and
pruned by the absolute deviation of makespans from their median, which is what a region foretells. For R
regions it is pruned to 2 R leaves, and neighbouring leaves are put together
(:mod:`~qosflow_airflow.core.merging`) by their place: rank and seconds alike, so that the order is kept and a
region does not mix what takes very different times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.concordance import dense_ranks
from qosflow_airflow.core.merging import merged
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


class Grouping(NamedTuple):
    """Leaves of a pruned tree, and the region that each is part of; the fastest region is 0."""

    leaves: IntArray
    region: IntArray

    @property
    def regions(self) -> int:
        """The number of regions."""
        return int(self.region.max()) + 1


class RegionTree(NamedTuple):
    """A pruned tree with what its nodes hold; ``paths`` and ``makespan_s`` are those of the fitted rows."""

    pruned: PrunedTree
    paths: IntArray
    makespan_s: FloatArray
    node_count: FloatArray
    node_place: FloatArray

    def grouping(self, regions: int, rules_per_region: int) -> Grouping:
        """Return at most that many regions of so many leaves on average."""
        for leaves in range(regions * rules_per_region, regions - 1, -1):
            found = self.pruned.leaves(self.pruned.alpha_of(leaves))
            found = found[np.argsort(self.node_place[found], kind="stable")]
            groups = merged(self.node_count[found].tolist(), self.node_place[found].tolist(), regions)
            if groups is not None:
                return Grouping(found, np.array(groups))
        raise AssertionError("as many leaves as regions need no merging")

    def predict(self, features: Features, sizes: Sequence[int], rules_per_region: int) -> FloatArray:
        """Return rows x sizes: the makespan foretold for each row by at most that many regions, seconds."""
        paths = self.pruned.tree.paths(features)
        order = np.argsort(self.makespan_s, kind="stable")
        predicted = np.empty((len(features), len(sizes)))
        of_node = np.zeros(self.pruned.tree.size, dtype=np.int64)
        for k, size in enumerate(sizes):
            grouping = self.grouping(size, rules_per_region)
            of_node[:] = -1
            of_node[grouping.leaves] = grouping.region
            # Of a row's path only one node has a region; the others have -1.
            seen = of_node[self.paths].max(axis=1)[order]
            median = _medians(seen, self.makespan_s[order], grouping.regions)
            predicted[:, k] = median[of_node[paths].max(axis=1)]
        return predicted


def fit_tree(rows: Rows, grow: Grow) -> RegionTree:
    """Return a tree grown on the ranks of makespans, pruned by their deviation from the median."""
    rank = dense_ranks(rows.makespan_s).astype(np.float64)
    tree = grow(rows.features, rank)
    paths = tree.paths(rows.features)
    deviation = node_times(paths, rows.makespan_s, tree.size).deviation
    first = np.ones(paths.shape, dtype=bool)
    first[:, 1:] = paths[:, 1:] != paths[:, :-1]
    count = np.bincount(paths[first], minlength=tree.size).astype(np.float64)
    place = _standardized(rank) + _standardized(rows.makespan_s)
    places = np.broadcast_to(place[:, None], paths.shape)[first]
    total = np.bincount(paths[first], places, minlength=tree.size)
    return RegionTree(prune(tree, deviation), paths, rows.makespan_s, count, total / count)


def grow_tree(
    features: Features, target: FloatArray, fewest: int, seed: int | np.random.RandomState
) -> RegressionTree:
    """Return a full CART tree by squared error, with at least ``fewest`` rows in each leaf."""
    # Here, not above: it takes a second to import, and only a fit needs it.
    from sklearn import config_context
    from sklearn.tree import DecisionTreeRegressor

    # Checking parameters takes as long as growing a small tree.
    with config_context(skip_parameter_validation=True):
        regressor = DecisionTreeRegressor(min_samples_leaf=fewest, random_state=seed)
        tree = regressor.fit(features, target, check_input=False).tree_
    return RegressionTree(
        np.asarray(tree.children_left, dtype=np.int64),
        np.asarray(tree.children_right, dtype=np.int64),
        np.where(tree.children_left < 0, -1, tree.feature).astype(np.int64),
    )


def _standardized(values: FloatArray) -> FloatArray:
    return np.asarray((values - values.mean()) / (values.std() or 1.0))


def _medians(group: IntArray, ascending: FloatArray, groups: int) -> FloatArray:
    """Return the median of each group's values, which are given in ascending order."""
    values = ascending[np.argsort(group, kind="stable")]
    count = np.bincount(group, minlength=groups)
    start = np.cumsum(count) - count
    return np.asarray((values[start + (count - 1) // 2] + values[start + count // 2]) / 2)
