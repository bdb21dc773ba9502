"""What the mean law leaves over, as boosted regression trees, compiled to arrays.

Trees find what no smooth function has: a cache that ends, a protocol that changes with the access size.
They are fitted with scikit-learn and kept as arrays of features, thresholds, children and values, all trees
side by side, so that predictions need numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.transfer import FloatArray

ROUNDS = 150
LEARNING_RATE = 0.08
LEAVES = 12
LEAF_POINTS = 5
_CHUNK = 512


@dataclass(frozen=True)
class ResidualTrees:
    """Trees side by side, trees x places: ``feature`` is -1 at a leaf, whose ``value`` counts."""

    base: float
    feature: NDArray[np.int16]
    threshold: FloatArray
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: FloatArray
    depth: int

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the sum of all trees per row of ``features``."""
        trees, places = self.feature.shape
        offset = np.arange(trees) * places
        feature, threshold = np.maximum(self.feature, 0).ravel().astype(np.intp), self.threshold.ravel()
        # A leaf is its own child, so that all trees are walked the same number of steps.
        leaf = (self.feature < 0).ravel()
        own = np.arange(trees * places)
        left = np.where(leaf, own, (self.left + offset[:, None]).ravel())
        right = np.where(leaf, own, (self.right + offset[:, None]).ravel())
        value = self.value.ravel()
        total = np.empty(len(features))
        for at in range(0, len(features), _CHUNK):
            rows = features[at : at + _CHUNK]
            flat, start = rows.ravel(), (np.arange(len(rows)) * rows.shape[1])[:, None]
            place = np.broadcast_to(offset, (len(rows), trees))
            for _ in range(self.depth):
                below = flat.take(start + feature.take(place)) <= threshold.take(place)
                place = np.where(below, left.take(place), right.take(place))
            total[at : at + _CHUNK] = value.take(place).sum(axis=1)
        return total + self.base

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that make it up, the inverse of :meth:`from_arrays`."""
        return {
            "shape": np.array([self.base, self.depth]),
            "feature": self.feature,
            "threshold": self.threshold,
            "left": self.left,
            "right": self.right,
            "value": self.value,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ResidualTrees:
        """Build trees from what :meth:`to_arrays` returned."""
        base, depth = arrays["shape"].tolist()
        names = ("feature", "threshold", "left", "right", "value")
        feature, threshold, left, right, value = (arrays[name] for name in names)
        return cls(base, feature, threshold, left, right, value, int(depth))


def fit_trees(features: FloatArray, residuals: FloatArray, repeats: FloatArray) -> ResidualTrees:
    """Fit ``residuals``, medians of ``repeats`` runs each, and compile the trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=ROUNDS,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAF_POINTS,
        l2_regularization=0.5,
        early_stopping=False,
        random_state=0,
    )
    model.fit(features, residuals, sample_weight=np.sqrt(repeats))
    return _compile(model)


def _compile(model: Any) -> ResidualTrees:
    """Lay the trees of a fitted model side by side.

    scikit-learn does not publish them; a test compares what is read here with the model's own predictions.
    """
    trees = [stage[0].nodes for stage in model._predictors]
    places = max(len(tree) for tree in trees)
    arrays: dict[str, NDArray[Any]] = {
        "feature": np.full((len(trees), places), -1, dtype=np.int16),
        "threshold": np.zeros((len(trees), places)),
        "left": np.zeros((len(trees), places), dtype=np.int16),
        "right": np.zeros((len(trees), places), dtype=np.int16),
        "value": np.zeros((len(trees), places)),
    }
    for row, tree in enumerate(trees):
        count = len(tree)
        leaf = tree["is_leaf"].astype(bool)
        arrays["feature"][row, :count] = np.where(leaf, -1, tree["feature_idx"])
        arrays["threshold"][row, :count] = np.where(leaf, 0.0, tree["num_threshold"])
        arrays["left"][row, :count] = tree["left"]
        arrays["right"][row, :count] = tree["right"]
        arrays["value"][row, :count] = np.where(leaf, tree["value"], 0.0)
    depth = max(int(tree["depth"].max()) for tree in trees)
    return ResidualTrees(float(np.ravel(model._baseline_prediction)[0]), depth=depth, **arrays)
