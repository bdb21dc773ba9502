"""Boxes: for each stage the tiers it may be on. The leaves of a tree on one-hot tiers are boxes."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.pruning import Features, RegressionTree
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import IntArray

Box = NDArray[np.bool_]
"""Stages x tiers: whether the stage may be on the tier."""
ROWS_PER_BLOCK = 1 << 16


def one_hot(layouts: Layouts, tiers: int) -> Features:
    """Return rows x (stages x tiers) features, 1 where a stage is on a tier."""
    return np.asarray((layouts[:, :, None] == np.arange(tiers)).reshape(len(layouts), -1), dtype=np.float32)


def leaf_boxes(tree: RegressionTree, leaves: AbstractSet[int], stages: int, tiers: int) -> list[Box]:
    """Return the box of each leaf; they share nothing and fill the whole space."""
    boxes = []
    waiting = [(0, np.ones((stages, tiers), dtype=bool))]
    while waiting:
        node, box = waiting.pop()
        if node in leaves:
            boxes.append(box)
            continue
        stage, tier = divmod(int(tree.feature[node]), tiers)
        without, only = box.copy(), box.copy()
        without[stage, tier] = False
        only[stage] = False
        only[stage, tier] = True
        waiting += [(int(tree.left[node]), without), (int(tree.right[node]), only)]
    return boxes


def box_of(boxes: list[Box], layouts: Layouts) -> IntArray:
    """Return the position of the box that each layout is in."""
    inside = np.stack(boxes, axis=-1)  # stages x tiers x boxes
    found = np.empty(len(layouts), dtype=np.int64)
    for start in range(0, len(layouts), ROWS_PER_BLOCK):
        block = layouts[start : start + ROWS_PER_BLOCK]
        candidates = np.ones((len(block), len(boxes)), dtype=bool)
        for s in range(block.shape[1]):
            candidates &= inside[s, block[:, s]]
        found[start : start + len(block)] = candidates.argmax(axis=1)
    return found
