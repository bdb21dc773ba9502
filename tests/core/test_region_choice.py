from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.region_choice import (
    CrossValidation,
    Rows,
    choose_tree,
    fit_tree,
    held_out_quality,
)
from qosflow_airflow.core.regions import grow_tree
from qosflow_airflow.core.transfer import FloatArray

VALIDATION = CrossValidation(folds=5, repeats=2, seed=0)


def grow(features: np.ndarray, target: FloatArray):  # type: ignore[no-untyped-def]
    return grow_tree(features, target, 1, seed=0)


def rows_of(features: np.ndarray, makespan_s: FloatArray) -> Rows:
    return Rows(features.astype(np.float32), makespan_s, np.arange(len(makespan_s)))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(2, 12))
def test_copies_of_a_layout_share_a_fold(group: list[int], folds: int) -> None:
    found = list(CrossValidation(folds, 3, seed=1).held_out(np.array(group)))
    assert len(found) == 3
    for fold in found:
        assert set(fold.tolist()) == set(range(min(folds, len(set(group)))))
        for name in set(group):
            assert len({int(f) for f, g in zip(fold, group, strict=True) if g == name}) == 1


def test_folds_are_repeatable_and_fresh_ones_differ() -> None:
    group = np.arange(50)
    first, again = (np.array(list(VALIDATION.held_out(group))) for _ in range(2))
    fresh = np.array(list(VALIDATION.fresh().held_out(group)))
    assert (first == again).all()
    assert (first[0] != first[1]).any()
    assert (first != fresh).any()


def test_noise_needs_no_regions() -> None:
    random = np.random.default_rng(3)
    rows = rows_of(random.integers(0, 2, (80, 8)), random.normal(10.0, 1.0, 80))
    choice = choose_tree(rows, grow, 32, VALIDATION)
    assert choice.regions == 1
    assert choice.held_out is not None
    # One region foretells the same for all of a fold.
    assert choice.held_out.concordance < 0.55


def test_quality_is_of_layouts_that_the_tree_has_not_seen() -> None:
    random = np.random.default_rng(4)
    rows = rows_of(random.integers(0, 2, (200, 10)), random.normal(10.0, 1.0, 200))
    seen = fit_tree(rows, "makespan", grow).predict(rows.features, [60])[:, 0]
    assert concordance(seen, rows.makespan_s) > 0.75
    unseen = held_out_quality(rows, "makespan", grow, 60, VALIDATION)
    assert 0.4 < unseen.concordance < 0.6
    assert unseen.mae_s > 2 * np.abs(seen - rows.makespan_s).mean()


def test_quality_comes_from_other_folds_than_the_choice() -> None:
    random = np.random.default_rng(6)
    features = random.integers(0, 2, (100, 6))
    rows = rows_of(features, 10 + features @ np.arange(1.0, 7.0) + random.normal(0, 1, 100))
    choice = choose_tree(rows, grow, 16, VALIDATION)
    quality = [
        held_out_quality(rows, choice.fitted.target, grow, choice.regions, validation)
        for validation in (VALIDATION.fresh(), VALIDATION)
    ]
    assert choice.held_out == quality[0] != quality[1]


def test_no_more_regions_than_allowed() -> None:
    random = np.random.default_rng(5)
    features = random.integers(0, 2, (300, 9))
    rows = rows_of(features, 100.0 + features @ (2.0 ** np.arange(9)))
    for most in (1, 2, 7, 50):
        choice = choose_tree(rows, grow, most, VALIDATION)
        assert choice.regions <= most
    assert choice.regions > 30


def test_a_region_foretells_its_median() -> None:
    features = np.array([[0], [0], [0], [1], [1], [1]])
    tree = fit_tree(rows_of(features, np.array([1.0, 2.0, 9.0, 50.0, 60.0, 1000.0])), "makespan", grow)
    assert tree.predict(np.array([[0], [1]], dtype=np.float32), [2, 1]).tolist() == [
        [2.0, 29.5],
        [60.0, 29.5],
    ]


def bits(count: int) -> np.ndarray:
    """Every row of ``count`` binary features."""
    return np.asarray((np.arange(2**count)[:, None] >> np.arange(count)) & 1)


def test_trees_grow_on_ranks_where_a_few_layouts_are_far_off() -> None:
    features = bits(9)
    outliers = np.random.default_rng(0).random(512) < 0.03
    rows = rows_of(features, 1 + features[:, :3] @ [10.0, 20.0, 40.0] + 300 * outliers)
    choice = choose_tree(rows, grow, 8, VALIDATION)
    assert choice.fitted.target == "rank"
    assert choice.held_out is not None
    assert choice.held_out.concordance > 0.93


def test_trees_grow_on_makespans_where_a_few_layouts_are_much_slower() -> None:
    features = bits(9)
    slow = features[:, 4:].all(axis=1)
    rows = rows_of(features, np.maximum(features[:, 0] * 50, features[:, 2] * 90) + 2000.0 * slow)
    choice = choose_tree(rows, grow, 8, VALIDATION)
    assert choice.fitted.target == "makespan"
    assert choice.held_out is not None
    assert choice.held_out.mae_s < 0.3 * np.abs(rows.makespan_s - np.median(rows.makespan_s)).mean()
