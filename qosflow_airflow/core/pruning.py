"""Regression trees as arrays, and every pruned version of one at once.

A tree splits on binary features. Weakest-link (cost-complexity) pruning (Breiman et al., 1984) removes, as
the price ``alpha`` of a leaf rises, one split after the other; the pruned trees are nested, so one number per
node says at which price it becomes a leaf, and a row's prediction at any price is a node on its path from the
root.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.transfer import FloatArray, IntArray

BoolArray = NDArray[np.bool_]
Features = NDArray[np.float32]
"""Rows x features, 0 or 1; single precision is what scikit-learn computes with."""
INFINITE = float("inf")


class RegressionTree(NamedTuple):
    """A binary tree. Per node: its children and the feature that it splits on; all -1 at a leaf.

    Node 0 is the root and a child stands after its parent. A row goes left where the feature is 0.
    """

    left: IntArray
    right: IntArray
    feature: IntArray

    @property
    def size(self) -> int:
        """The number of nodes."""
        return len(self.left)

    @property
    def splits(self) -> IntArray:
        """The nodes that are not leaves, ascending."""
        return np.flatnonzero(self.left >= 0)

    @property
    def parent(self) -> IntArray:
        """The parent of each node, -1 for the root."""
        parent = np.full(self.size, -1, dtype=np.int64)
        parent[self.left[self.splits]] = self.splits
        parent[self.right[self.splits]] = self.splits
        return parent

    def paths(self, features: Features) -> IntArray:
        """Return, per row, its nodes from the root down; a leaf is repeated to the depth of the tree."""
        rows = np.arange(len(features))
        node = np.zeros(len(features), dtype=np.int64)
        path = [node]
        while (self.feature[node] >= 0).any():
            feature = self.feature[node]
            goes_right = features[rows, np.maximum(feature, 0)] > 0
            node = np.where(feature < 0, node, np.where(goes_right, self.right[node], self.left[node]))
            path.append(node)
        return np.stack(path, axis=1)


class NodeTimes(NamedTuple):
    """Per node of a tree: the median of its rows' targets, and the sum of their distances from it."""

    median: FloatArray
    deviation: FloatArray


def node_times(paths: IntArray, target: FloatArray, nodes: int) -> NodeTimes:
    """Return median and absolute deviation of ``target`` in each of ``nodes`` nodes; every node has a row."""
    order = np.argsort(target, kind="stable")
    ordered = paths[order]
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    # Rows of each node, still in the order of their targets.
    node = ordered[first]
    values = np.repeat(target[order], first.sum(axis=1))[np.argsort(node, kind="stable")]
    count = np.bincount(node, minlength=nodes)
    end = np.cumsum(count)
    start = end - count
    median = (values[start + (count - 1) // 2] + values[start + count // 2]) / 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    upper = total[end] - total[start + (count + 1) // 2]
    lower = total[start + count // 2] - total[start]
    return NodeTimes(median, np.maximum(upper - lower, 0.0))


@dataclass(frozen=True)
class PrunedTree:
    """A tree with the price per leaf from which each node is one: what its splits save is then worth less.

    ``leaf_from`` is -inf at a leaf and never grows from parent to child.
    """

    tree: RegressionTree
    leaf_from: FloatArray

    @cached_property
    def _prices(self) -> FloatArray:
        """The price at which each split goes, the last one first."""
        return np.sort(self.leaf_from[self.tree.splits])[::-1]

    @cached_property
    def _parent_leaf_from(self) -> FloatArray:
        """The price from which each node's parent is a leaf, infinite for the root."""
        parent = self.tree.parent
        return np.where(parent < 0, INFINITE, self.leaf_from[parent])

    def alpha_of(self, most: int) -> float:
        """Return the lowest price at which the tree has at most ``most`` leaves."""
        return float(self._prices[most - 1]) if most <= len(self._prices) else 0.0

    def leaf_count(self, alpha: float) -> int:
        """Return the number of leaves at a price."""
        return 1 + int((self._prices > alpha).sum())

    def sizes(self, most: int) -> list[int]:
        """Return how many leaves the pruned trees have, those of at most ``most``, ascending."""
        return sorted({self.leaf_count(self.alpha_of(leaves)) for leaves in range(1, most + 1)})

    def leaves(self, alpha: float) -> IntArray:
        """Return the nodes that are leaves at a price."""
        return np.flatnonzero((self._parent_leaf_from > alpha) & (self.leaf_from <= alpha))

    def leaf_of(self, paths: IntArray, alpha: float) -> IntArray:
        """Return the leaf that each row falls into at a price."""
        depth = (self.leaf_from[paths] > alpha).sum(axis=1)
        return np.asarray(paths[np.arange(len(paths)), depth])


def prune(tree: RegressionTree, cost: FloatArray) -> PrunedTree:
    """Return the weakest-link pruning of ``tree`` under a cost per node that splitting never raises."""
    return _WeakestLinks(tree, cost).prune()


class _WeakestLinks:
    """Pruning under way: per node, leaves and cost of what is left of its subtree, and its price per leaf.

    Lists, not arrays: one node after the other is looked at.
    """

    def __init__(self, tree: RegressionTree, cost: FloatArray) -> None:
        self.tree = tree
        self.left, self.right = tree.left.tolist(), tree.right.tolist()
        self.parent: list[int] = tree.parent.tolist()
        self.cost: list[float] = cost.tolist()
        self.subtree_cost = list(self.cost)
        self.leaves = [1] * tree.size
        self.link = [INFINITE] * tree.size
        for node in tree.splits[::-1].tolist():
            left, right = self.left[node], self.right[node]
            self.leaves[node] = self.leaves[left] + self.leaves[right]
            self.subtree_cost[node] = self.subtree_cost[left] + self.subtree_cost[right]
            self._price(node)

    def prune(self) -> PrunedTree:
        leaf_from = [INFINITE if left >= 0 else -INFINITE for left in self.left]
        alpha = 0.0
        while (link := min(self.link)) < INFINITE:
            # Rounding may make a later link a hair cheaper than an earlier one.
            alpha = max(alpha, link)
            self._collapse(self.link.index(link), alpha, leaf_from)
        return PrunedTree(self.tree, np.array(leaf_from))

    def _price(self, node: int) -> None:
        self.link[node] = (self.cost[node] - self.subtree_cost[node]) / (self.leaves[node] - 1)

    def _collapse(self, node: int, alpha: float, leaf_from: list[float]) -> None:
        waiting = [node]
        while waiting:
            below = waiting.pop()
            if leaf_from[below] == INFINITE:
                leaf_from[below], self.link[below] = alpha, INFINITE
                waiting += [self.left[below], self.right[below]]
        fewer = self.leaves[node] - 1
        dearer = self.cost[node] - self.subtree_cost[node]
        above = self.parent[node]
        while above >= 0:
            self.leaves[above] -= fewer
            self.subtree_cost[above] += dearer
            self._price(above)
            above = self.parent[above]
