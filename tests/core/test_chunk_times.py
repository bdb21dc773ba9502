"""Reads, writes and computing in other numbers of tasks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.chunk_times import COUNTS, ChunkTimes, computing, waves
from qosflow_airflow.core.tiers import NodePool
from qosflow_airflow.core.transfer import StageTimes
from tests.core.test_estimate import LINE, PLATFORM, RATES, estimate
from tests.support.traces import MIB, profile, rate

TWO_SLOTS = NodePool(slots=2)
CROWDED = type(PLATFORM)(PLATFORM.tiers, node=TWO_SLOTS)


def table(read: list[float]) -> ChunkTimes:
    """One stage on one tier: factors of its reads in 1, 2 and 4 tasks."""
    return ChunkTimes((1, 2, 4), np.array([[read]]), np.ones((1, 1, 3)))


def read_in(found: ChunkTimes, own: int, *tasks: float) -> list[float]:
    return found.factors(0, 0, own, np.array(tasks))[0].tolist()


def test_between_known_numbers_factors_lie_on_a_logarithmic_scale() -> None:
    assert read_in(table([4.0, 2.0, 1.0]), 4, 1, 2, math.sqrt(8), 4, 100) == pytest.approx(
        [4.0, 2.0, math.sqrt(2), 1.0, 1.0]
    )


@given(own=st.integers(1, 2000), factors=st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_in_its_own_number_a_stage_takes_what_it_takes(own: int, factors: list[float]) -> None:
    assert read_in(table(factors), own, own) == pytest.approx([1.0])
    assert computing(TWO_SLOTS, 3, own, np.array([float(own)])) == pytest.approx([1.0])


@given(own=st.integers(1, 300), tasks=st.integers(1, 300), slots=st.integers(1, 8), nodes=st.integers(1, 4))
def test_computing_is_conserved_and_never_quicker_than_all_slots_together(
    own: int, tasks: int, slots: int, nodes: int
) -> None:
    """A stage that computes for a second in one task, in any number of tasks."""
    node = NodePool(slots=slots)
    in_own, in_tasks = computing(node, nodes, 1, np.array([float(own), float(tasks)]))
    assert in_tasks >= 1 / (nodes * slots) - 1e-12
    assert in_tasks >= 1 / tasks - 1e-12
    changed = computing(node, nodes, own, np.array([float(tasks)]))[0]
    assert changed * in_own == pytest.approx(in_tasks)


def test_without_slots_nobody_knows_how_many_waves_there_are() -> None:
    with pytest.raises(ValueError, match="slots"):
        waves(NodePool(), 1, np.array([2.0]))


def test_plain_json_and_back() -> None:
    found = ChunkTimes((1, 2, 4), np.array([[[1.0, math.nan, 2.0]]]), np.ones((1, 1, 3)))
    again = ChunkTimes.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again.to_json() == found.to_json()
    assert np.isnan(again.read[0, 0, 1])


class TestEstimates:
    """Eight tasks read 800 MiB on two nodes; a node has two slots."""

    def rates(self) -> object:
        # 100 MiB/s for each task at once on a node.
        return profile(
            rate("read", "hdd", tasks * 100.0, nodes=2, tasks_per_node=tasks, volume_bytes=volume * MIB)
            for tasks in (1.0, 2.0, 4.0)
            for volume in (1.0, 800.0)
        )

    def test_rates_are_those_of_the_tasks_that_run_at_once(self) -> None:
        found = estimate(2, self.rates(), CROWDED).chunks  # type: ignore[arg-type]
        assert found is not None
        # One or two tasks are one on a node, and read at 100 MiB/s; from four on two at once read at 200.
        assert read_in(found, 8, 1, 2, 4, 8, 64) == pytest.approx([2.0, 2.0, 1.0, 1.0, 1.0])

    def test_what_was_not_measured_is_not_known_and_what_moves_nothing_stays_nothing(self) -> None:
        found = estimate(2, RATES, CROWDED).chunks
        assert found is not None
        split, merge = LINE.index["split"], LINE.index["merge"]
        assert np.isnan(found.write[split, PLATFORM.index["tmpfs"]]).all()
        assert (found.write[merge, PLATFORM.index["disk"]] == 1).all()

    def test_without_slots_there_are_none(self) -> None:
        assert estimate().chunks is None

    def test_they_are_kept_with_the_times_and_older_models_have_none(self) -> None:
        times = estimate(2, RATES, CROWDED)
        kept = json.loads(json.dumps(times.to_json(), allow_nan=False))
        assert StageTimes.from_json(kept).to_json() == times.to_json()
        del kept["chunks"]
        assert StageTimes.from_json(kept).chunks is None

    def test_the_grid_is_that_of_powers_of_two(self) -> None:
        assert COUNTS[:4] == (1, 2, 4, 8)
        assert COUNTS[-1] == 1024
