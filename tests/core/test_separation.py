from __future__ import annotations

import numpy as np
import pytest

from qosflow_airflow.core.separation import hedges_g, separation

TIGHT = np.array([10.0, 10.1, 9.9])


def test_hedges_g_of_known_groups() -> None:
    # Means 2 and 5, pooled standard deviation 1, correction 1 - 3/15.
    assert hedges_g(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])) == pytest.approx(3 * 0.8)
    assert hedges_g(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(-3 * 0.8)


def test_groups_without_spread() -> None:
    assert hedges_g(np.array([1.0]), np.array([2.0])) == np.inf
    assert hedges_g(np.array([1.0, 1.0]), np.array([1.0])) == 0.0


def test_neighbours_far_apart_are_separate() -> None:
    assert separation([TIGHT, TIGHT + 5, TIGHT + 50]) == 1.0


def test_neighbours_that_overlap_are_not() -> None:
    assert separation([TIGHT, TIGHT + 0.001]) == 0.0


def test_pairs_weigh_by_their_sizes() -> None:
    many = np.repeat(TIGHT, 10)
    # The pair of 30 and 30 weighs 30, that of 30 and 3 weighs 2/(1/30 + 1/3).
    weight = 2 / (1 / 30 + 1 / 3)
    assert separation([many, many + 5, TIGHT + 5.001]) == pytest.approx(30 / (30 + weight))


def test_one_region_has_no_neighbour() -> None:
    assert separation([TIGHT]) is None
