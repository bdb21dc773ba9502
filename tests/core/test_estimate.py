"""Stage times from a trace and measured rates: four states, never mixed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.estimate import estimate_stage_times
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow
from tests.support.traces import MIB, io, profile, rate, trace

MEASURED, EXTRAPOLATED, NOT_OBSERVED, UNKNOWN = Provenance
PLATFORM = TierCatalog((StorageTier("disk", True, profile="hdd"), StorageTier("tmpfs", False)))
# 8 tasks split, 2 merge, report is never traced.
LINE = Workflow(
    "line",
    (
        Stage("split", 1, 8, {INITIAL_DATA: ()}),
        Stage("merge", 2, 2, {"split": ()}),
        Stage("report", 3, 1, {"merge": ()}),
    ),
)
TRACE = trace(
    *(io("read", "split", f"s{i}", f"in{i}", 100, nodes=2) for i in range(8)),
    *(io("write", "split", f"s{i}", f"part{i}", 10, nodes=2) for i in range(8)),
    *(io("read", "merge", f"m{i // 4}", f"part{i}", 40, nodes=2, producer="split") for i in range(8)),
    *(io("write", "merge", f"m{i}", f"out{i}", 0, nodes=2) for i in range(2)),
)
# Rates at every point that 2 nodes ask for: 400 MiB/s read, 200 written, 50 copied from a node.
EVERYWHERE = [
    {"nodes": nodes, "tasks_per_node": tasks, "volume_bytes": volume * MIB, "access_bytes": float(MIB)}
    for nodes in (1, 2, 4)
    for tasks in (1.0, 4.0)
    for volume in (10.0, 1000.0)
]
RATES = profile(
    rate(operation, tiers, mib_s, **point)
    for operation, tiers, mib_s in (
        ("read", "hdd", 400.0),
        ("write", "hdd", 200.0),
        ("read", "tmpfs", 4000.0),
        ("copy", "hdd-tmpfs", 50.0),
        ("copy", "tmpfs-hdd", 25.0),
    )
    for point in EVERYWHERE
)


def estimate(nodes: int = 2, rates: StorageProfile = RATES, catalog: TierCatalog = PLATFORM) -> StageTimes:
    return estimate_stage_times(LINE, catalog, TracedVolumes(LINE, TRACE), rates, nodes)


def cell(found: StageTimes, table: str, stage: str, tier: str) -> tuple[float, int]:
    at = (found.stages.index(stage), found.tiers.index(tier))
    return getattr(found, table).seconds[at], getattr(found, table).provenance[at]


def copy(found: StageTimes, table: str, edge: tuple[str, str], *tiers: str) -> tuple[float, int]:
    at = (found.edges.index(Edge(*edge)), *(found.tiers.index(tier) for tier in tiers))
    return getattr(found, table).seconds[at], getattr(found, table).provenance[at]


def test_reading_takes_the_volume_of_all_tasks_over_their_rate_together() -> None:
    assert cell(estimate(), "read", "split", "disk") == (pytest.approx(800 / 400), MEASURED)
    assert cell(estimate(), "read", "split", "tmpfs") == (pytest.approx(800 / 4000), MEASURED)
    assert cell(estimate(), "write", "split", "disk") == (pytest.approx(80 / 200), MEASURED)


def test_the_rate_is_asked_for_at_the_nodes_and_tasks_per_node_of_the_scale() -> None:
    rows = [
        rate(
            "read", "hdd", 100.0 * nodes + tasks, nodes=nodes, tasks_per_node=tasks, volume_bytes=800.0 * MIB
        )
        for nodes in (1, 2, 4, 8)
        for tasks in (1.0, 2.0, 4.0, 8.0)
    ]
    for nodes, mib_s in ((1, 108.0), (2, 204.0), (4, 402.0), (8, 801.0)):
        found = cell(estimate(nodes, profile(rows)), "read", "split", "disk")
        assert found == (pytest.approx(800 / mib_s), MEASURED)


def test_slots_bound_the_tasks_that_share_the_rate() -> None:
    rows = [
        rate("read", "hdd", tasks * 100.0, nodes=2, tasks_per_node=tasks, volume_bytes=800.0 * MIB)
        for tasks in (1.0, 2.0, 4.0)
    ]
    crowded = TierCatalog(PLATFORM.tiers, node=NodePool(slots=2))
    assert cell(estimate(2, profile(rows)), "read", "split", "disk")[0] == pytest.approx(800 / 400)
    assert cell(estimate(2, profile(rows), crowded), "read", "split", "disk")[0] == pytest.approx(800 / 200)


def test_outside_the_measured_points_a_time_is_extrapolated() -> None:
    assert cell(estimate(nodes=8), "read", "split", "disk")[1] == EXTRAPOLATED
    assert math.isfinite(cell(estimate(nodes=8), "read", "split", "disk")[0])


def test_a_traced_stage_that_moved_nothing_is_not_observed() -> None:
    assert cell(estimate(), "write", "merge", "disk") == (0.0, NOT_OBSERVED)


def test_a_tier_that_was_never_measured_is_unknown() -> None:
    seconds, provenance = cell(estimate(), "write", "split", "tmpfs")
    assert math.isnan(seconds)
    assert provenance == UNKNOWN


def test_a_stage_that_was_never_traced_is_unknown_and_so_is_what_it_reads_and_writes() -> None:
    found = estimate()
    for table in ("read", "write"):
        seconds, provenance = cell(found, table, "report", "disk")
        assert math.isnan(seconds)
        assert provenance == UNKNOWN
    seconds, provenance = copy(found, "stage_out", ("report", FINAL_DATA), "tmpfs", "disk")
    assert math.isnan(seconds)
    assert provenance == UNKNOWN


class TestCopies:
    """What moves is what the edge carries: 800 MiB in, 80 MiB from split to merge."""

    @pytest.mark.parametrize(("nodes", "sharing"), [(1, 1), (2, 2), (4, 4), (100, 8)])
    def test_each_node_copies_its_share_and_no_more_nodes_than_tasks_do(
        self, nodes: int, sharing: int
    ) -> None:
        seconds, _ = copy(estimate(nodes), "stage_in", (INITIAL_DATA, "split"), "disk", "tmpfs")
        assert seconds == pytest.approx(800 / sharing / 50)

    def test_a_copy_out_moves_what_was_written(self) -> None:
        assert copy(estimate(), "stage_out", ("split", "merge"), "tmpfs", "disk")[0] == pytest.approx(40 / 25)

    def test_an_edge_without_any_file_is_not_observed(self) -> None:
        assert copy(estimate(), "stage_out", ("merge", "report"), "tmpfs", "disk") == (0.0, NOT_OBSERVED)

    def test_a_pair_of_tiers_that_was_never_measured_is_unknown(self) -> None:
        seconds, provenance = copy(estimate(), "stage_out", ("split", "merge"), "tmpfs", "tmpfs")
        assert math.isnan(seconds)
        assert provenance == UNKNOWN

    def test_outside_edges_have_no_copy_on_their_outside(self) -> None:
        found = estimate()
        assert copy(found, "stage_out", (INITIAL_DATA, "split"), "disk", "tmpfs")[1] == UNKNOWN
        assert copy(found, "stage_in", ("report", FINAL_DATA), "disk", "tmpfs")[1] == UNKNOWN


class TestCompute:
    ROWS = tuple(
        io("read", "split", f"s{i}", f"in{i}", 100, nodes=2, compute_s=3.0, start_s=0.0, end_s=6.0)
        for i in range(8)
    )

    @pytest.mark.parametrize(
        ("nodes", "expected"),
        [
            (1, (6.0, EXTRAPOLATED)),
            (2, (3.0, MEASURED)),
            (4, (1.5, EXTRAPOLATED)),
            (8, (0.75, EXTRAPOLATED)),
            (64, (0.75, EXTRAPOLATED)),  # more nodes than tasks do not help
        ],
    )
    def test_compute_time_shrinks_with_the_nodes_that_have_a_task(
        self, nodes: int, expected: tuple[float, Provenance]
    ) -> None:
        volumes = TracedVolumes(LINE, trace(*self.ROWS))
        found = estimate_stage_times(LINE, PLATFORM, volumes, RATES, nodes)
        assert (found.compute.seconds[0], found.compute.provenance[0]) == expected
        assert not found.compute_known  # merge and report have none

    def test_where_it_is_not_known_it_counts_as_nothing_and_is_said(self) -> None:
        found = estimate()
        assert found.compute.seconds.tolist() == [0.0, 0.0, 0.0]
        assert set(found.compute.provenance.tolist()) == {NOT_OBSERVED}


@settings(max_examples=25)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 12))
def test_seconds_are_a_number_exactly_where_they_are_known(rng: random.Random, nodes: int) -> None:
    rows = [row for row in TRACE.frame.to_dict("records") if rng.random() < 0.6]
    rates = [row for row in RATES.rates.frame.to_dict("records") if rng.random() < 0.2]
    if not rows or not rates:
        return
    found = estimate_stage_times(LINE, PLATFORM, TracedVolumes(LINE, trace(*rows)), profile(rates), nodes)
    for name in ("read", "write", "compute", "stage_in", "stage_out"):
        table = getattr(found, name)
        np.testing.assert_array_equal(np.isnan(table.seconds), table.provenance == UNKNOWN)
        assert (table.seconds[table.provenance == NOT_OBSERVED] == 0.0).all()
        assert (table.seconds[table.provenance < NOT_OBSERVED] >= 0.0).all()


def test_under_the_reference_rules_every_stage_of_the_last_level_is_flushed() -> None:
    twins = Workflow("twins", (Stage("split", 1, 8, {INITIAL_DATA: ()}), Stage("merge", 1, 2, {"split": ()})))
    volumes = TracedVolumes(twins, TRACE)
    complete, reference = (
        estimate_stage_times(twins, PLATFORM, volumes, RATES, 2, rules) for rules in (COMPLETE, REFERENCE)
    )
    flushed = ("split", FINAL_DATA)
    assert flushed not in complete.edges
    # No file of split is left over, so all that it wrote counts: 80 MiB, half on each node, at 25 MiB/s.
    assert copy(reference, "stage_out", flushed, "tmpfs", "disk") == (pytest.approx(40 / 25), MEASURED)
