from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.region_choice import (
    Choice,
    CrossValidation,
    Curve,
    Point,
    choose_tree,
    held_out_curve,
    knee,
    sizes_up_to,
)
from qosflow_airflow.core.region_trees import Rows, fit_tree, grow_tree
from qosflow_airflow.core.transfer import FloatArray

VALIDATION = CrossValidation(folds=5, repeats=2, seed=0)


def grow(features: np.ndarray, target: FloatArray):  # type: ignore[no-untyped-def]
    return grow_tree(features, target, 1, seed=0)


def rows_of(features: np.ndarray, makespan_s: FloatArray) -> Rows:
    return Rows(features.astype(np.float32), makespan_s, np.arange(len(makespan_s)))


def choose(rows: Rows, most: int = 32, **asked: int) -> Choice:
    questions = asked.pop("questions", rows.features.shape[1])
    return choose_tree(
        rows,
        grow,
        VALIDATION,
        questions=sorted({questions, rows.features.shape[1]}),
        max_regions=most,
        **asked,
    )


def curve_of(*concordances: float, errors_s: list[float] | None = None) -> Curve:
    sizes = range(1, len(concordances) + 1)
    means = errors_s or [10.0 / size for size in sizes]
    points = tuple(Point(*point) for point in zip(sizes, concordances, means, strict=True))
    return Curve(points, np.tile(means, (10, 1)), 5, np.array([concordances]))


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


@pytest.mark.parametrize("seed", range(5))
def test_noise_needs_no_regions(seed: int) -> None:
    random = np.random.default_rng(seed)
    choice = choose(rows_of(random.integers(0, 2, (80, 8)), random.normal(10.0, 1.0, 80)))
    assert choice.regions == 1
    assert choice.curve is not None
    # One region foretells the same for all of a fold.
    assert choice.curve.at(1).concordance < 0.55


def test_quality_is_of_layouts_that_the_tree_has_not_seen() -> None:
    random = np.random.default_rng(4)
    rows = rows_of(random.integers(0, 2, (200, 10)), random.normal(10.0, 1.0, 200))
    seen = fit_tree(rows, grow).predict(rows.features, [60], 1)[:, 0]
    assert concordance(seen, rows.makespan_s) > 0.75
    (unseen,) = held_out_curve(rows, grow, [60], VALIDATION, 1).points
    assert 0.4 < unseen.concordance < 0.6
    assert unseen.mae_s > 2 * np.abs(seen - rows.makespan_s).mean()


def test_a_curve_holds_what_each_number_of_regions_has_by_itself() -> None:
    random = np.random.default_rng(7)
    features = random.integers(0, 2, (150, 6))
    rows = rows_of(features, 50 + features @ np.arange(1.0, 7.0))
    curve = held_out_curve(rows, grow, [1, 3, 8], VALIDATION, 2)
    for point in curve.points:
        (alone,) = held_out_curve(rows, grow, [point.regions], VALIDATION, 2).points
        assert alone == pytest.approx(point)
    assert curve.at(7) == curve.points[1]
    assert curve.errors_s.mean(axis=0).tolist() == pytest.approx([point.mae_s for point in curve.points])


def test_the_regret_of_noise_is_that_of_a_blind_choice_unless_the_choice_was_seen() -> None:
    random = np.random.default_rng(4)
    rows = rows_of(random.integers(0, 2, (200, 10)), random.normal(10.0, 1.0, 200))
    seen = fit_tree(rows, grow).predict(rows.features, [60], 1)[:, 0]
    flattering_s = rows.makespan_s[seen == seen.min()].mean() - rows.makespan_s.min()
    blind_s = rows.makespan_s.mean() - rows.makespan_s.min()
    held_out_s = held_out_curve(rows, grow, [60], VALIDATION, 1).regret_at(60)
    assert flattering_s < 0.5 * blind_s
    assert held_out_s > 0.6 * blind_s


def test_who_orders_well_chooses_well() -> None:
    features = np.random.default_rng(7).integers(0, 2, (150, 6))
    rows = rows_of(features, 50 + features @ np.array([40.0, 20.0, 8.0, 0.0, 0.0, 0.0]))
    curve = held_out_curve(rows, grow, [1, 8], VALIDATION, 1)
    assert curve.regret_at(8) == pytest.approx(0)
    assert curve.regret_at(1) > 20


def test_quality_comes_from_other_folds_than_the_choice() -> None:
    random = np.random.default_rng(6)
    features = random.integers(0, 2, (100, 6))
    rows = rows_of(features, 10 + features @ np.arange(1.0, 7.0) + random.normal(0, 1, 100))
    choice = choose(rows)
    assert choice.curve is not None
    sizes = [point.regions for point in choice.curve.points]
    quality = [
        held_out_curve(rows, grow, sizes, validation, 2).points
        for validation in (VALIDATION.fresh(), VALIDATION)
    ]
    assert choice.curve.points == quality[0] != quality[1]


def test_no_more_regions_than_allowed() -> None:
    random = np.random.default_rng(5)
    features = random.integers(0, 2, (300, 9))
    rows = rows_of(features, 100.0 + features @ (2.0 ** np.arange(9)))
    for most in (1, 2, 7, 50):
        assert choose(rows, most).regions <= most
    for asked in (1, 2, 7, 23):
        choice = choose(rows, regions=asked)
        assert choice.regions == asked
        assert choice.tree.grouping(asked, 2).regions == asked
    assert choose(rows, regions=1000, rules_per_region=1).tree.grouping(1000, 1).regions <= 300


def test_simple_questions_are_kept_unless_others_order_better() -> None:
    bits = np.array(np.meshgrid(*[[0, 1]] * 7)).reshape(7, -1).T
    parity = bits.sum(axis=1) % 2
    features = np.column_stack([bits, parity])
    plain = rows_of(features, 5.0 + bits @ 2.0 ** np.arange(7))
    assert choose(plain, questions=7).questions == 7
    odd = rows_of(features, 5.0 + bits[:, 0] + 300.0 * parity)
    assert choose(odd, questions=7).questions == 8


def test_the_knee_is_where_another_region_is_no_longer_worth_it() -> None:
    assert knee(curve_of(0.5, 0.8, 0.95, 0.951, 0.952, 0.953)) == 3
    assert knee(curve_of(0.5, 0.6, 0.7, 0.8, 0.9, 1.0)) == 6
    assert knee(curve_of(0.5, 0.9, 0.85, 0.9)) == 2
    # Nothing foretells better than one region.
    assert knee(curve_of(0.4, 0.52, 0.53, errors_s=[10.0, 10.1, 10.2])) == 1
    assert knee(curve_of(0.5)) == 1


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_curve_ends_with_the_most_regions_there_can_be(most: int, leaves: int) -> None:
    sizes = sizes_up_to(most, leaves)
    assert sizes[-1] == min(most, leaves)
    assert sizes == sorted(set(sizes))


def test_a_region_foretells_its_median() -> None:
    features = np.array([[0], [0], [0], [1], [1], [1]])
    tree = fit_tree(rows_of(features, np.array([1.0, 2.0, 9.0, 50.0, 60.0, 1000.0])), grow)
    assert tree.predict(np.array([[0], [1]], dtype=np.float32), [2, 1], 2).tolist() == [
        [2.0, 29.5],
        [60.0, 29.5],
    ]


def test_a_few_layouts_far_off_do_not_draw_the_splits() -> None:
    features = np.asarray((np.arange(512)[:, None] >> np.arange(9)) & 1)
    outliers = np.random.default_rng(0).random(512) < 0.03
    choice = choose(rows_of(features, 1 + features[:, :3] @ [10.0, 20.0, 40.0] + 300 * outliers), 8)
    assert choice.curve is not None
    assert choice.curve.at(8).concordance > 0.93
