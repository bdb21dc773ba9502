"""How well a score orders configurations: the share of pairs that it puts the way their makespans do.

Every pair of configurations counts. A pair with equal makespans cannot be put wrongly and counts 1. A pair
that the score does not tell apart counts 1/2: it is as good as a coin. The published figure (QoSFlow, IPDPS
2026) lets the true makespan break those ties instead, so that a score that says nothing at all reaches 1; it
is here for comparison only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.exceptions import MeasurementError

ROUNDING = 1e-12
"""Values closer than this share of the largest are equal: only the order of arithmetic tells them apart."""


def concordance(score: ArrayLike, makespan_s: ArrayLike) -> float:
    """Return the share of pairs in the right order, a lower score foretelling a shorter makespan.

    Configurations whose makespan is NaN (unmeasured) are left out; with fewer than two left the share is NaN.
    A score that puts every pair right has 1, one that says nothing 1/2 (more where makespans are equal).

    >>> concordance([1, 2, 2, 3], [10.0, 20.0, 30.0, 25.0])  # one pair tied, one of six wrong
    0.75

    Raises
    ------
    MeasurementError
        When the two differ in length or are not finite.
    """
    counts = _count_pairs(*_measured(score, makespan_s), rounding=ROUNDING)
    return counts.share(counts.discordant + 0.5 * counts.tied_in_score_only)


def published_concordance(score: ArrayLike, makespan_s: ArrayLike) -> float:
    """Return the published figure: pairs tied in the score are put in the order of the true makespan.

    Scores are compared to the last digit, as there, so that rounding noise counts as an order.

    >>> published_concordance([1, 2, 2, 3], [10.0, 20.0, 30.0, 25.0])
    0.8333333333333334
    >>> published_concordance([1, 1, 1], [3.0, 2.0, 1.0])
    1.0

    Raises
    ------
    MeasurementError
        When the two differ in length or are not finite.
    """
    counts = _count_pairs(*_measured(score, makespan_s), rounding=0.0)
    return counts.share(counts.discordant)


def dense_ranks(values: FloatArray, rounding: float = ROUNDING) -> IntArray:
    """Return 0, 1, 2 … in the order of ``values``, one rank for values that differ by rounding only."""
    order = np.argsort(values, kind="stable")
    tolerance = rounding * np.abs(values).max(initial=0.0)
    steps = np.diff(values[order], prepend=values[order[:1]]) > tolerance
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.cumsum(steps)
    return ranks


class _PairCounts(NamedTuple):
    pairs: int
    discordant: int
    tied_in_score_only: int

    def share(self, wrong: float) -> float:
        return (self.pairs - wrong) / self.pairs if self.pairs else float("nan")


def _measured(score: ArrayLike, makespan_s: ArrayLike) -> tuple[FloatArray, FloatArray]:
    scores = np.asarray(score, dtype=np.float64)
    makespans = np.asarray(makespan_s, dtype=np.float64)
    if scores.shape != makespans.shape or scores.ndim != 1:
        raise MeasurementError(
            f"scores of shape {scores.shape} do not match makespans of shape {makespans.shape}",
            cure="Give one score for each configuration.",
        )
    known = ~np.isnan(makespans)
    if not (np.isfinite(scores[known]).all() and np.isfinite(makespans[known]).all()):
        raise MeasurementError(
            "a score or a makespan is not finite", cure="Score every configuration whose makespan is known."
        )
    return scores[known], makespans[known]


def _count_pairs(scores: FloatArray, makespans: FloatArray, *, rounding: float) -> _PairCounts:
    score, makespan = dense_ranks(scores, rounding), dense_ranks(makespans)
    # With ties in the score in the order of the makespans, every inversion left is a pair put wrongly.
    by_score = np.lexsort((makespan, score))
    both = score * (makespan.max(initial=0) + 1) + makespan
    return _PairCounts(
        pairs=_pairs(len(scores)),
        discordant=_inversions(makespan[by_score]),
        tied_in_score_only=_tied_pairs(score) - _tied_pairs(both),
    )


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def _tied_pairs(ranks: IntArray) -> int:
    sizes = np.unique(ranks, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def _inversions(ranks: IntArray) -> int:
    """Count the pairs in which a larger rank stands first, in O(n log n).

    Two ranks differ first in one bit. Per bit, from the highest: among ranks equal above it, in their order
    of appearance, the ones that stand before each zero.
    """
    total = 0
    values = ranks
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        ones = values >> bit & 1
        before = np.cumsum(ones) - ones
        above = values >> bit + 1
        starts = _group_starts(above)
        total += int(((before - before[starts]) * (1 - ones)).sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total


def _group_starts(sorted_values: IntArray) -> NDArray[np.intp]:
    """Return, for each position, that of the first equal value."""
    return np.searchsorted(sorted_values, sorted_values, side="left")
