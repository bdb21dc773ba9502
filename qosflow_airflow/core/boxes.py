"""The leaves of a tree as rules: a box (for each stage the tiers it may be on), and what no box can say."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.conditions import Condition, OnTier, truths
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import IntArray

if TYPE_CHECKING:
    from qosflow_airflow.core.pruning import RegressionTree

Box = NDArray[np.bool_]
"""Stages x tiers: whether the stage may be on the tier."""
ROWS_PER_BLOCK = 1 << 16


class Asked(NamedTuple):
    """A condition, and whether it is to hold or not to hold."""

    condition: Condition
    holds: bool


class Leaf(NamedTuple):
    """A leaf of a tree: its node, and what leads a layout there."""

    node: int
    box: Box
    asked: tuple[Asked, ...]


class Space(NamedTuple):
    """The names that layouts are written in."""

    stage_names: tuple[str, ...]
    tier_names: tuple[str, ...]


def leaves_of(
    tree: RegressionTree, leaves: AbstractSet[int], questions: Sequence[Condition], space: Space
) -> list[Leaf]:
    """Return the rule of each leaf; no layout obeys two of them, and every one obeys one."""
    found = []
    waiting = [Leaf(0, np.ones((len(space.stage_names), len(space.tier_names)), dtype=bool), ())]
    while waiting:
        leaf = waiting.pop()
        if leaf.node in leaves:
            found.append(leaf)
            continue
        question = questions[int(tree.feature[leaf.node])]
        for child, holds in ((tree.left[leaf.node], False), (tree.right[leaf.node], True)):
            waiting.append(_narrowed(leaf, int(child), Asked(question, holds), space))
    return found


def _narrowed(leaf: Leaf, child: int, asked: Asked, space: Space) -> Leaf:
    """Return the child of a node: a smaller box where a box can say it, else one condition more."""
    question, holds = asked
    if isinstance(question, OnTier) and (question.every == holds or len(question.stages) == 1):
        box = leaf.box.copy()
        stages = [space.stage_names.index(stage) for stage in question.stages]
        tier = space.tier_names.index(question.tier)
        only = box[stages, tier]
        box[stages] = box[stages] & (not holds)
        box[stages, tier] = only & holds
        return Leaf(child, box, leaf.asked)
    return Leaf(child, leaf.box, (*leaf.asked, asked))


def obeyed(box: Box, asked: Sequence[Asked], layouts: Layouts, space: Space) -> NDArray[np.bool_]:
    """Return, per layout, whether it obeys one rule."""
    inside = box[np.arange(len(space.stage_names)), layouts].all(axis=1)
    conditions = [one.condition for one in asked]
    holds = truths(conditions, layouts, space.stage_names, space.tier_names)
    return np.asarray(inside & (holds == [one.holds for one in asked]).all(axis=1), dtype=bool)


def rule_of(rules: Sequence[tuple[Box, Sequence[Asked]]], layouts: Layouts, space: Space) -> IntArray:
    """Return the position of the rule that each layout obeys."""
    inside = np.stack([box for box, _ in rules], axis=-1)  # stages x tiers x rules
    conditions = list(dict.fromkeys(one.condition for _, asked in rules for one in asked))
    position = {condition: c for c, condition in enumerate(conditions)}
    found = np.empty(len(layouts), dtype=np.int64)
    for start in range(0, len(layouts), ROWS_PER_BLOCK):
        block = layouts[start : start + ROWS_PER_BLOCK]
        candidates = np.ones((len(block), len(rules)), dtype=bool)
        for s in range(block.shape[1]):
            candidates &= inside[s, block[:, s]]
        holds = truths(conditions, block, space.stage_names, space.tier_names)
        for r, (_, asked) in enumerate(rules):
            for condition, wanted in asked:
                candidates[:, r] &= holds[:, position[condition]] == wanted
        found[start : start + len(block)] = candidates.argmax(axis=1)
    return found
