from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeRegressor

from qosflow_airflow.core.pruning import Features, RegressionTree, node_times, prune
from qosflow_airflow.core.region_trees import grow_tree
from qosflow_airflow.core.transfer import FloatArray


def noisy(seed: int, rows: int, features: int = 6) -> tuple[Features, FloatArray]:
    random = np.random.default_rng(seed)
    found = random.integers(0, 2, (rows, features)).astype(np.float32)
    return found, found @ random.normal(size=features) + random.normal(size=rows)


def squared_error(tree: RegressionTree, features: Features, target: FloatArray) -> FloatArray:
    paths = tree.paths(features)
    members = [(paths == node).any(axis=1) for node in range(tree.size)]
    return np.array([((target[rows] - target[rows].mean()) ** 2).sum() for rows in members]) / len(target)


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=15, deadline=None)
def test_prunes_as_scikit_learn_does(seed: int, rows: int) -> None:
    features, target = noisy(seed, rows)
    tree = grow_tree(features, target, 1, seed=0)
    pruned = prune(tree, squared_error(tree, features, target))
    assert pruned.sizes(1) == [1]
    assert pruned.sizes(rows)[-1] == len(pruned.leaves(0.0))
    alphas = np.unique([pruned.alpha_of(size) for size in pruned.sizes(rows)])
    for alpha, gap in zip((alphas[:-1] + alphas[1:]) / 2, np.diff(alphas), strict=True):
        if gap < 1e-9:
            continue  # a price that rounding decides
        theirs = DecisionTreeRegressor(random_state=0, ccp_alpha=alpha).fit(features, target)
        assert pruned.leaf_count(alpha) == theirs.get_n_leaves() == len(pruned.leaves(alpha))
        paths = tree.paths(features)
        means = np.array([target[(paths == node).any(axis=1)].mean() for node in range(tree.size)])
        assert means[pruned.leaf_of(paths, alpha)] == pytest.approx(theirs.predict(features))


@given(st.integers(0, 10_000), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_node_times_are_medians_and_deviations(seed: int, rows: int) -> None:
    features, target = noisy(seed, rows)
    tree = grow_tree(features, target, 1, seed=0)
    paths = tree.paths(features)
    times = node_times(paths, target, tree.size)
    for node in range(tree.size):
        inside = target[(paths == node).any(axis=1)]
        assert times.median[node] == pytest.approx(np.median(inside))
        assert times.deviation[node] == pytest.approx(np.abs(inside - np.median(inside)).sum(), abs=1e-9)


def test_paths_follow_the_features_to_a_leaf() -> None:
    # 0 splits on feature 1: left is leaf 1, right is 2, which splits on feature 0 into 3 and 4.
    tree = RegressionTree(
        np.array([1, -1, 3, -1, -1]), np.array([2, -1, 4, -1, -1]), np.array([1, -1, 0, -1, -1])
    )
    features = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    assert tree.paths(features).tolist() == [[0, 1, 1], [0, 1, 1], [0, 2, 3], [0, 2, 4]]
    assert tree.parent.tolist() == [-1, 0, 0, 2, 2]


def test_a_split_that_gains_nothing_goes_first() -> None:
    tree = RegressionTree(
        np.array([1, -1, 3, -1, -1]), np.array([2, -1, 4, -1, -1]), np.array([1, -1, 0, -1, -1])
    )
    pruned = prune(tree, np.array([9.0, 2.0, 4.0, 2.0, 2.0]))
    assert pruned.sizes(9) == [1, 2]
    assert [pruned.alpha_of(size) for size in (1, 2, 3, 9)] == [3.0, 0.0, 0.0, 0.0]
    assert pruned.leaves(0.0).tolist() == [1, 2]
    assert pruned.leaves(3.0).tolist() == [0]


def test_a_tree_of_one_node() -> None:
    tree = RegressionTree(np.array([-1]), np.array([-1]), np.array([-1]))
    pruned = prune(tree, np.array([5.0]))
    assert pruned.sizes(9) == [1]
    assert pruned.alpha_of(1) == 0.0
    assert pruned.leaf_count(0.0) == 1
    assert pruned.leaves(0.0).tolist() == [0]
