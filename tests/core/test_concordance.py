from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.concordance import concordance, dense_ranks, published_concordance
from qosflow_airflow.exceptions import MeasurementError

few_values = st.integers(0, 6).map(float)
orderings = st.lists(st.tuples(few_values, few_values), min_size=2, max_size=40)


def pair_by_pair(score: list[float], makespan: list[float]) -> float:
    """The definition: every pair, one at a time."""

    def worth(i: int, j: int) -> float:
        if makespan[i] == makespan[j]:
            return 1.0
        if score[i] == score[j]:
            return 0.5
        return float((score[i] < score[j]) == (makespan[i] < makespan[j]))

    pairs = list(combinations(range(len(score)), 2))
    return sum(worth(i, j) for i, j in pairs) / len(pairs)


@given(orderings)
def test_equals_the_definition(rows: list[tuple[float, float]]) -> None:
    score, makespan = [row[0] for row in rows], [row[1] for row in rows]
    assert concordance(score, makespan) == pytest.approx(pair_by_pair(score, makespan), abs=1e-12)


@given(orderings)
def test_published_figure_breaks_ties_by_the_truth(rows: list[tuple[float, float]]) -> None:
    score, makespan = [row[0] for row in rows], [row[1] for row in rows]
    ordered = [y for _, y in sorted(rows)]
    wanted = [first <= second for first, second in combinations(ordered, 2)]
    assert published_concordance(score, makespan) == pytest.approx(sum(wanted) / len(wanted), abs=1e-12)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_the_makespan_itself_is_a_perfect_score_and_a_constant_a_coin(makespan: list[float]) -> None:
    assert concordance(makespan, makespan) == 1.0
    ties = sum(a == b for a, b in combinations(dense_ranks(np.array(makespan)).tolist(), 2))
    pairs = math.comb(len(makespan), 2)
    assert concordance([7.0] * len(makespan), makespan) == pytest.approx((pairs + ties) / 2 / pairs)
    assert published_concordance([7.0] * len(makespan), makespan) == 1.0


@given(orderings)
def test_only_the_order_of_scores_counts(rows: list[tuple[float, float]]) -> None:
    score, makespan = np.array(rows).T
    assert concordance(1e3 * score**3 - 5, makespan) == concordance(score, makespan)


def test_reversing_a_score_without_ties_gives_the_rest() -> None:
    random = np.random.default_rng(1)
    score, makespan = random.permutation(300), random.permutation(300)
    assert concordance(-score, makespan) == pytest.approx(1 - concordance(score, makespan))


def test_unmeasured_configurations_are_left_out() -> None:
    assert concordance([1, 2, 0], [1.0, 2.0, np.nan]) == 1.0
    assert concordance([1, 2, np.nan], [1.0, 2.0, np.nan]) == 1.0
    assert math.isnan(concordance([1, 2], [1.0, np.nan]))
    assert math.isnan(published_concordance([], []))


def test_rounding_noise_is_a_tie_but_not_in_the_published_figure() -> None:
    noisy = [0.1 + 0.2, 0.3]
    assert noisy[0] != noisy[1]
    assert concordance(noisy, [1.0, 2.0]) == 0.5
    assert published_concordance(noisy, [1.0, 2.0]) == 0.0


def test_dense_ranks() -> None:
    assert dense_ranks(np.array([3.0, 1.0, 3.0 + 1e-13, 2.0])).tolist() == [2, 0, 2, 1]
    assert dense_ranks(np.array([])).tolist() == []


def test_many_configurations() -> None:
    random = np.random.default_rng(2)
    score = random.normal(size=100_000)
    noise = random.normal(size=100_000)
    # Kendall's tau of two normals with correlation r is 2/pi arcsin(r).
    wanted = 0.5 + math.asin(1 / math.sqrt(2)) / math.pi
    assert concordance(score, score + noise) == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize(
    ("score", "makespan"),
    [
        ([1.0], [1.0, 2.0]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, np.inf], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, np.inf]),
    ],
)
def test_what_cannot_be_ordered_is_refused(score: list[float], makespan: list[float]) -> None:
    with pytest.raises(MeasurementError):
        concordance(score, makespan)
