from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.stage_roles import SpaceIndex, layout_codes, stage_role
from qosflow_airflow.exceptions import SpaceTooLargeError

LAYOUTS = np.array(list(itertools.product(range(3), repeat=2)), dtype=np.int8)
ALL = np.arange(len(LAYOUTS))
FIRST_STAGE_COUNTS = 10.0 * (1 + LAYOUTS[:, 0])


def test_swaps_lead_to_the_same_layout_but_for_one_stage() -> None:
    index = SpaceIndex(LAYOUTS, FIRST_STAGE_COUNTS, tiers=3)
    swapped_s, is_swap = index.swaps(np.array([4]), stage=0)  # layout (1, 1)
    assert is_swap.tolist() == [[True, False, True]]
    assert swapped_s[0, [0, 2]].tolist() == [10.0, 30.0]


@given(st.permutations(range(9)))
def test_the_order_of_the_space_does_not_matter(order: list[int]) -> None:
    index = SpaceIndex(LAYOUTS[order], FIRST_STAGE_COUNTS[order], tiers=3)
    swapped_s, is_swap = index.swaps(ALL, stage=1)
    assert is_swap.sum() == 18
    assert (np.where(is_swap, swapped_s, 0).sum(axis=1) == 2 * index.makespan_s).all()


def test_swaps_stay_in_the_space() -> None:
    valid = (LAYOUTS[:, 0] == 0) | (LAYOUTS[:, 1] == 0)
    index = SpaceIndex(LAYOUTS[valid], FIRST_STAGE_COUNTS[valid], tiers=3)
    _, is_swap = index.swaps(np.array([2]), stage=0)  # (0, 2): neither (1, 2) nor (2, 2) is in it
    assert not is_swap.any()


def test_roles() -> None:
    index = SpaceIndex(LAYOUTS, FIRST_STAGE_COUNTS, tiers=3)
    first = stage_role(index, ALL, 0, path_share=0.8, tolerance=0.05)
    assert first.role == "critical"
    assert first.swap_change == pytest.approx(2 / 3)  # 200 %, 50 % or 67 % at the tier that changes it most
    assert stage_role(index, ALL, 0, path_share=0.79, tolerance=0.05).role == "constrained"
    second = stage_role(index, ALL, 1, path_share=1.0, tolerance=0.05)
    assert (second.role, second.swap_change) == ("flexible", 0.0)
    assert stage_role(index, ALL, 0, path_share=1.0, tolerance=2.0).role == "flexible"


def test_one_swap_beyond_the_tolerance_is_not_flexible() -> None:
    makespan_s = np.full(9, 10.0)
    makespan_s[0] = 11.0
    role = stage_role(SpaceIndex(LAYOUTS, makespan_s, 3), ALL, 1, path_share=1.0, tolerance=0.05)
    assert (role.role, role.swap_change) == ("constrained", 0.0)


def test_an_unmeasured_swap_is_not_flexible() -> None:
    makespan_s = np.full(9, 10.0)
    makespan_s[8] = np.nan
    role = stage_role(SpaceIndex(LAYOUTS, makespan_s, 3), ALL[:8], 1, path_share=0.0, tolerance=0.05)
    assert role.role == "constrained"


def test_without_another_tier_nothing_is_known() -> None:
    index = SpaceIndex(np.zeros((1, 2), dtype=np.int8), np.array([5.0]), tiers=1)
    assert stage_role(index, np.array([0]), 0, 1.0, 0.05) == ("constrained", 1.0, None)


def test_no_time_at_all() -> None:
    makespan_s = np.where(LAYOUTS[:, 0] == 0, 0.0, 4.0)
    index = SpaceIndex(LAYOUTS, makespan_s, tiers=3)
    assert stage_role(index, ALL[:3], 0, 1.0, 0.05) == ("critical", 1.0, 1.0)
    assert stage_role(index, ALL[:3], 1, 1.0, 0.05) == ("flexible", 1.0, 0.0)


def test_codes_are_one_per_layout() -> None:
    assert sorted(layout_codes(LAYOUTS, 3).tolist()) == list(range(9))
    with pytest.raises(SpaceTooLargeError, match="41 stages"):
        layout_codes(np.zeros((1, 41), dtype=np.int8), 3)
