from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.merging import MOST_RULES, merged


def spread_inside(count: list[int], mean: list[float], group: list[int]) -> float:
    """What groups add to the squared spread of the rules in them."""
    total = 0.0
    for g in set(group):
        n = np.array([count[k] for k in range(len(group)) if group[k] == g])
        m = np.array([mean[k] for k in range(len(group)) if group[k] == g])
        total += float((n * (m - (n * m).sum() / n.sum()) ** 2).sum())
    return total


def test_the_nearest_neighbours_become_one_group() -> None:
    assert merged([1, 1, 1], [0.0, 10.0, 11.0], 2) == [0, 1, 1]
    assert merged([1, 1, 1], [0.0, 1.0, 11.0], 2) == [0, 0, 1]


def test_a_large_rule_moves_less_than_a_small_one() -> None:
    assert merged([100, 100, 1], [0.0, 1.0, 3.0], 2) == [0, 1, 1]


def test_as_many_groups_as_rules_change_nothing() -> None:
    assert merged([4, 4], [1.0, 2.0], 2) == [0, 1]
    assert merged([4], [1.0], 5) == [0]


def test_a_group_stays_readable() -> None:
    assert merged([1] * 4, [1.0, 1.1, 1.2, 1.3], 1) is None
    assert merged([1] * 3, [1.0, 1.1, 1.2], 1) == [0, 0, 0]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1000)), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_groups_are_few_neighbouring_rules(rules: list[tuple[int, float]], regions: int) -> None:
    rules.sort(key=lambda rule: rule[1])
    found = merged([n for n, _ in rules], [m for _, m in rules], regions)
    if found is None:
        assert len(rules) > regions
        return
    assert found == sorted(found)
    assert set(found) == set(range(min(regions, len(rules))))
    assert max(found.count(group) for group in found) <= max(MOST_RULES, 1)


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_nearly_the_best_there_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = random.integers(1, 30, 8).tolist()
    mean = np.sort(random.normal(0, 100, 8)).tolist()
    found = merged(count, mean, 4)
    assert found is not None
    best = min(
        spread_inside(count, mean, [sum(k >= cut for cut in cuts) for k in range(8)])
        for cuts in itertools.combinations(range(1, 8), 3)
    )
    everything = spread_inside(count, mean, [0] * 8)
    assert spread_inside(count, mean, found) <= best + 0.15 * everything
