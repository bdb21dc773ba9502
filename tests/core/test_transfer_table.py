"""Transfer times as stage times, one sentence of the rules at a time, on a table that fits on a screen."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.transfer import Provenance, StageTimes
from qosflow_airflow.core.transfer_table import stage_times
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow
from tests.support.instances import chain, platform
from tests.support.plain_table import Row, table_of

PLATFORM = platform(("pfs",), ("tmpfs", "ssd"))
MEASURED, EXTRAPOLATED, NOT_OBSERVED, UNKNOWN = Provenance

# first (4 tasks) feeds second (2 tasks). On 2 nodes: 2 and 1 tasks per node.
CHAIN = chain(("first", 4), ("second", 2))
NODES = 2


def times(
    rows: Iterable[Row],
    rules: MakespanRules = REFERENCE,
    workflow: Workflow = CHAIN,
    nodes: int = NODES,
    observed: Iterable[tuple[str, str]] = (),
) -> StageTimes:
    return stage_times(table_of(rows), workflow, PLATFORM, nodes, rules, observed)


def cell(found: StageTimes, table: str, stage: str, tier: str) -> tuple[float, Provenance]:
    at = (found.stages.index(stage), found.tiers.index(tier))
    return float(getattr(found, table).seconds[at]), Provenance(int(getattr(found, table).provenance[at]))


def copy(found: StageTimes, table: str, edge: Edge, source: str, destination: str) -> tuple[float, int, int]:
    at = (found.edges.index(edge), found.tiers.index(source), found.tiers.index(destination))
    values = getattr(found, table)
    return float(values.seconds[at]), int(values.provenance[at]), int(values.tasks_per_node[at])


def level_s(found: StageTimes, workflow: Workflow = CHAIN, **tiers: str) -> dict[str, list[float]]:
    """The seconds of each phase and level of one configuration under the reference rules."""
    space = ConfigurationSpace(workflow, PLATFORM, REFERENCE)
    schedule = MakespanModel(workflow, PLATFORM, found, REFERENCE).schedule(space.layout(tiers))
    assert schedule.level_s is not None
    return {phase: seconds[0].tolist() for phase, seconds in schedule.level_s.items()}


class TestReferenceStageIn:
    """Rule 3."""

    ROWS = (
        Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 1, 2, 7.0, 70.0),
        Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 2, 4, 5.0, 50.0),
        Row("stage_in-second", "second", "pfs-ssd", "ssd", 1, 1, 3.0, 30.0),
    )

    def test_the_smallest_producer_time_over_all_tasks_per_node_counts(self) -> None:
        found = copy(times(self.ROWS), "stage_in", Edge(INITIAL_DATA, "first"), "pfs", "tmpfs")
        assert found == (5.0, MEASURED, 2)

    def test_initial_data_is_staged_to_a_local_tier(self) -> None:
        assert level_s(times(self.ROWS), first="tmpfs", second="pfs")["in"] == [5.0, 0.0]

    def test_a_predecessor_on_shared_storage_is_staged_to_a_local_tier(self) -> None:
        assert level_s(times(self.ROWS), first="pfs", second="ssd")["in"] == [0.0, 3.0]

    def test_nothing_is_staged_in_on_shared_storage_or_from_the_same_local_tier(self) -> None:
        assert level_s(times(self.ROWS), first="pfs", second="pfs")["in"] == [0.0, 0.0]
        assert level_s(times(self.ROWS), first="ssd", second="ssd")["in"][1] == 0.0

    def test_initial_data_and_predecessors_on_shared_storage_are_one_charge(self) -> None:
        both = Workflow(
            "both",
            (*CHAIN.stages[:1], Stage("second", 2, 2, {INITIAL_DATA: (), "first": ()})),
        )
        assert level_s(times(self.ROWS, workflow=both), both, first="pfs", second="ssd")["in"] == [0.0, 3.0]


class TestReferenceRead:
    """Rule 4."""

    def test_rows_at_the_consumers_tasks_per_node_are_preferred(
        self,
    ) -> None:
        found = times(
            [
                Row("first", "second", "pfs", "tmpfs", 2, 1, 0.0, 8.0),
                Row("first", "second", "ssd", "tmpfs", 4, 1, 0.0, 6.0),
                Row("first", "second", "tmpfs", "tmpfs", 2, 2, 0.0, 1.0),  # other tasks per node
                Row("first", "second", "tmpfs", "ssd", 2, 1, 0.0, 0.5),  # other tier
            ]
        )
        assert cell(found, "read", "second", "tmpfs") == (6.0, MEASURED)

    def test_all_rows_count_when_none_has_the_tasks_per_node(self) -> None:
        found = times(
            [
                Row("first", "second", "pfs", "tmpfs", 2, 4, 0.0, 8.0),
                Row("first", "second", "pfs", "tmpfs", 2, 8, 0.0, 9.0),
            ]
        )
        assert cell(found, "read", "second", "tmpfs") == (8.0, EXTRAPOLATED)

    def test_predecessors_add_up_also_those_on_the_same_level(self) -> None:
        workflow = Workflow(
            "join",
            (
                Stage("a", 1, 1, {INITIAL_DATA: ()}),
                Stage("b", 2, 1, {INITIAL_DATA: ()}),
                Stage("c", 2, 1, {"a": (), "b": ()}),
            ),
        )
        rows = [
            Row("a", "c", "pfs", "pfs", 1, 1, 0.0, 2.0),
            Row("b", "c", "pfs", "pfs", 1, 1, 0.0, 5.0),
        ]
        assert cell(times(rows, workflow=workflow), "read", "c", "pfs") == (7.0, MEASURED)

    @pytest.mark.parametrize(("tier", "expected"), [("pfs", 4.0), ("tmpfs", 2.0), ("ssd", 3.0)])
    def test_initial_data_alone_is_read_where_it_was_staged(self, tier: str, expected: float) -> None:
        found = times(
            [
                Row("stage_in-first", "first", "pfs", "pfs", 2, 2, 0.0, 4.0),
                Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 2, 2, 0.0, 2.0),
                Row("stage_in-first", "first", "pfs-ssd", "ssd", 2, 2, 0.0, 3.0),
                Row("stage_in-first", "first", "tmpfs", "tmpfs", 2, 2, 0.0, 0.1),  # not from shared storage
                Row("stage_in-first", "first", "pfs-ssd", "ssd", 2, 4, 0.0, 0.1),  # other tasks per node
            ]
        )
        assert cell(found, "read", "first", tier) == (expected, MEASURED)

    def test_initial_data_beside_a_predecessor_is_read_for_free(self) -> None:
        mixed = Workflow("mixed", (*CHAIN.stages[:1], Stage("second", 2, 2, {INITIAL_DATA: (), "first": ()})))
        rows = [
            Row("first", "second", "pfs", "pfs", 2, 1, 0.0, 2.0),
            Row("stage_in-second", "second", "pfs", "pfs", 1, 1, 0.0, 9.0),
        ]
        assert cell(times(rows, REFERENCE, mixed), "read", "second", "pfs") == (2.0, MEASURED)
        assert cell(times(rows, COMPLETE, mixed), "read", "second", "pfs") == (9.0, MEASURED)

    def test_a_stage_that_reads_nothing_takes_no_time_to_read(self) -> None:
        source = Workflow("source", (Stage("a", 1, 1),))
        found = times([Row("a", "stage_out-a", "pfs", "pfs-pfs", 1, 1, 1.0, 1.0)], workflow=source)
        assert cell(found, "read", "a", "pfs") == (0.0, MEASURED)


class TestReferenceWrite:
    """Rule 5."""

    def test_rows_at_the_producers_tasks_per_node_are_preferred(
        self,
    ) -> None:
        found = times(
            [
                Row("first", "second", "tmpfs", "pfs", 2, 1, 8.0, 0.0),
                Row("first", "second", "tmpfs", "ssd", 2, 9, 6.0, 0.0),
                Row("first", "second", "tmpfs", "tmpfs", 4, 1, 1.0, 0.0),
            ]
        )
        assert cell(found, "write", "first", "tmpfs") == (6.0, MEASURED)

    def test_the_longest_over_successors_on_a_later_level_counts(self) -> None:
        fork = Workflow(
            "fork",
            (
                Stage("a", 1, 1),
                Stage("b", 2, 1, {"a": ()}),
                Stage("c", 3, 1, {"a": ()}),
                Stage("same", 1, 1, {"a": ()}),
            ),
        )
        rows = [
            Row("a", "b", "pfs", "pfs", 1, 1, 3.0, 0.0),
            Row("a", "c", "pfs", "pfs", 1, 1, 5.0, 0.0),
            Row("a", "same", "pfs", "pfs", 1, 1, 9.0, 0.0),
        ]
        assert cell(times(rows, REFERENCE, fork), "write", "a", "pfs") == (5.0, MEASURED)
        assert cell(times(rows, COMPLETE, fork), "write", "a", "pfs") == (9.0, MEASURED)

    def test_without_such_a_successor_the_final_write_counts(self) -> None:
        found = times(
            [
                Row("second", "stage_out-second", "tmpfs", "tmpfs-pfs", 1, 1, 3.0, 0.0),
                Row("second", "stage_out-second", "tmpfs", "tmpfs-ssd", 1, 1, 1.0, 0.0),  # not to shared
                Row("second", "stage_out-second", "pfs", "pfs-pfs", 1, 1, 6.0, 0.0),
                Row("second", "stage_out-second", "pfs", "pfs-tmpfs", 1, 1, 5.0, 0.0),  # from shared: any
            ]
        )
        assert cell(found, "write", "second", "tmpfs") == (3.0, MEASURED)
        assert cell(found, "write", "second", "pfs") == (5.0, MEASURED)

    @pytest.mark.parametrize(
        ("producer_at", "consumer_at", "expected"),
        [(1, 9, (4.0, MEASURED)), (9, 1, (4.0, MEASURED)), (9, 9, (2.0, EXTRAPOLATED))],
    )
    def test_final_writes_prefer_the_producers_tasks_per_node_then_the_consumers_then_any(
        self, producer_at: int, consumer_at: int, expected: tuple[float, Provenance]
    ) -> None:
        rows = [
            Row("second", "stage_out-second", "tmpfs", "tmpfs-pfs", producer_at, consumer_at, 4.0, 0.0),
            Row("second", "stage_out-second", "tmpfs", "tmpfs-pfs", 8, 8, 2.0, 0.0),
        ]
        assert cell(times(rows), "write", "second", "tmpfs") == expected

    def test_the_producers_tasks_per_node_come_before_the_consumers(self) -> None:
        rows = [
            Row("second", "stage_out-second", "tmpfs", "tmpfs-pfs", 1, 9, 4.0, 0.0),
            Row("second", "stage_out-second", "tmpfs", "tmpfs-pfs", 9, 1, 2.0, 0.0),
        ]
        assert cell(times(rows), "write", "second", "tmpfs") == (4.0, MEASURED)


class TestReferenceStageOut:
    """Rule 6."""

    ROWS = tuple(
        Row("first", "stage_out-first", source, f"{source}-{destination}", 2, at, 99.0, seconds + at)
        for source, destination, seconds in (
            ("pfs", "tmpfs", 10.0),
            ("tmpfs", "pfs", 20.0),
            ("tmpfs", "tmpfs", 30.0),
        )
        for at in (3, 1, 2)
    )
    LAST = (Row("second", "stage_out-second", "ssd", "ssd-pfs", 4, 4, 99.0, 5.0),)

    @pytest.mark.parametrize(
        ("source", "destination", "expected"),
        [("pfs", "tmpfs", 11.0), ("tmpfs", "pfs", 21.0), ("tmpfs", "tmpfs", 31.0), ("pfs", "pfs", 0.0)],
    )
    def test_the_smallest_consumer_time_over_all_rows_counts(
        self, source: str, destination: str, expected: float
    ) -> None:
        assert level_s(times(self.ROWS), first=source, second=destination)["out"][0] == expected

    def test_the_last_level_is_flushed_from_local_tiers(self) -> None:
        found = times(self.ROWS + self.LAST)
        assert level_s(found, first="pfs", second="ssd")["out"][1] == 5.0
        assert level_s(found, first="pfs", second="pfs")["out"][1] == 0.0

    def test_outputs_before_the_last_level_are_never_flushed(self) -> None:
        final = chain(("first", 4), ("second", 2), final=["first"])
        early = Workflow("early", (*CHAIN.stages, Stage("side", 1, 4, {INITIAL_DATA: ()})))
        rows = [*self.ROWS, Row("side", "stage_out-side", "tmpfs", "tmpfs-pfs", 2, 2, 9.0, 50.0)]
        assert level_s(times(rows, workflow=final), final, first="tmpfs", second="tmpfs")["out"][0] == 31.0
        found = times(rows, workflow=early)
        assert level_s(found, early, first="pfs", second="pfs", side="tmpfs")["out"] == [0.0, 0.0]

    def test_the_largest_of_several_targets_counts_and_not_the_sum(self) -> None:
        fork = Workflow(
            "fork", (Stage("first", 1, 4), Stage("b", 2, 1, {"first": ()}), Stage("c", 2, 1, {"first": ()}))
        )
        found = times(self.ROWS, workflow=fork)
        assert level_s(found, fork, first="tmpfs", b="pfs", c="tmpfs")["out"][0] == 31.0

    @pytest.mark.parametrize(
        ("first", "b", "c", "tag"),
        [
            ("pfs", "tmpfs", "ssd", 6),  # ssd comes before tmpfs
            ("tmpfs", "tmpfs", "pfs", 5),  # a copy comes before a copy to the same tier on other nodes
        ],
    )
    def test_of_equal_copies_the_first_by_name_stands_on_the_path(
        self, first: str, b: str, c: str, tag: int
    ) -> None:
        fork = Workflow(
            "fork", (Stage("first", 1, 4), Stage("b", 2, 1, {"first": ()}), Stage("c", 2, 1, {"first": ()}))
        )
        at = {("tmpfs", "pfs"): 5, ("pfs", "ssd"): 6, ("pfs", "tmpfs"): 7, ("tmpfs", "tmpfs"): 8}
        rows = [
            Row("first", "stage_out-first", source, f"{source}-{destination}", 2, tasks, 0.0, 3.0)
            for (source, destination), tasks in at.items()
        ]
        model = MakespanModel(fork, PLATFORM, times(rows, workflow=fork), REFERENCE)
        layout = ConfigurationSpace(fork, PLATFORM, REFERENCE).layout({"first": first, "b": b, "c": c})
        assert model.schedule(layout).critical_paths() == [f"stage_out_first({tag})"]

    def test_successors_on_the_same_level_are_moved_to_for_free(self) -> None:
        same = Workflow("same", (Stage("first", 1, 4), Stage("b", 1, 1, {"first": ()}), Stage("c", 2, 1)))
        found = times(self.ROWS, workflow=same)
        assert level_s(found, same, first="pfs", b="tmpfs", c="pfs")["out"][0] == 0.0


class TestReferenceMissingRows:
    """Rule 7."""

    ROWS = (
        Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 2.0),
        Row("stage_in-first", "first", "pfs", "pfs", 2, 2, 0.0, 4.0),
    )

    def test_a_missing_row_is_free_and_said(self) -> None:
        found = times(self.ROWS)
        assert cell(found, "read", "second", "tmpfs") == (0.0, UNKNOWN)  # the pair has rows, the tier none
        assert cell(found, "write", "second", "pfs") == (0.0, NOT_OBSERVED)  # the pair has no row at all

    def test_each_configuration_that_needs_one_is_flagged(self) -> None:
        model = MakespanModel(CHAIN, PLATFORM, times(self.ROWS), REFERENCE)
        space = ConfigurationSpace(CHAIN, PLATFORM, REFERENCE)
        for tiers, expected in (
            ({"first": "pfs", "second": "pfs"}, NOT_OBSERVED),
            ({"first": "pfs", "second": "tmpfs"}, UNKNOWN),
            ({"first": "ssd", "second": "pfs"}, UNKNOWN),
        ):
            schedule = model.schedule(space.layout(tiers))
            assert schedule.provenance.tolist() == [expected]
            assert math.isfinite(schedule.makespan_s[0])


class TestCompleteRules:
    def test_reads_are_not_added_up_for_each_row_prices_the_whole_volume(self) -> None:
        join = Workflow("join", (Stage("a", 1, 1), Stage("b", 1, 1), Stage("c", 2, 1, {"a": (), "b": ()})))
        rows = [
            Row("a", "c", "pfs", "pfs", 1, 1, 0.0, 5.0),
            Row("b", "c", "pfs", "pfs", 1, 1, 0.0, 5.5),
        ]
        assert cell(times(rows, REFERENCE, join), "read", "c", "pfs") == (10.5, MEASURED)
        assert cell(times(rows, COMPLETE, join), "read", "c", "pfs") == (5.5, MEASURED)

    def test_copies_count_at_the_stages_own_tasks_per_node(self) -> None:
        rows = [
            Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 1, 2, 7.0, 0.0),
            Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 2, 1, 5.0, 0.0),
            Row("first", "stage_out-first", "tmpfs", "tmpfs-pfs", 2, 6, 0.0, 4.0),
            Row("first", "stage_out-first", "tmpfs", "tmpfs-pfs", 4, 7, 0.0, 3.0),
        ]
        into, out_of = Edge(INITIAL_DATA, "first"), Edge("first", "second")
        reference, complete = times(rows, REFERENCE), times(rows, COMPLETE)
        assert copy(reference, "stage_in", into, "pfs", "tmpfs") == (5.0, MEASURED, 2)
        assert copy(complete, "stage_in", into, "pfs", "tmpfs") == (7.0, MEASURED, 1)
        assert copy(reference, "stage_out", out_of, "tmpfs", "pfs") == (3.0, MEASURED, 7)
        assert copy(complete, "stage_out", out_of, "tmpfs", "pfs") == (4.0, MEASURED, 6)

    def test_a_node_count_that_the_table_lacks_is_extrapolated(self) -> None:
        rows = [
            Row("stage_in-first", "first", "pfs-tmpfs", "tmpfs", 1, 2, 7.0, 0.0),
            Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 2.0),
        ]
        found = times(rows, COMPLETE, nodes=1)  # 4 and 2 tasks per node
        assert copy(found, "stage_in", Edge(INITIAL_DATA, "first"), "pfs", "tmpfs")[:2] == (7.0, EXTRAPOLATED)
        assert cell(found, "read", "second", "pfs") == (2.0, EXTRAPOLATED)
        assert cell(found, "write", "first", "pfs") == (1.0, EXTRAPOLATED)

    def test_a_tier_without_rows_is_unknown(self) -> None:
        found = times([Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 2.0)], COMPLETE)
        seconds, provenance = cell(found, "read", "second", "tmpfs")
        assert math.isnan(seconds)
        assert provenance == UNKNOWN

    def test_a_pair_without_rows_is_not_observed_unless_the_trace_saw_data_flow(self) -> None:
        rows = [Row("stage_in-first", "first", "pfs", "pfs", 2, 2, 0.0, 1.0)]
        assert cell(times(rows, COMPLETE), "read", "second", "pfs") == (0.0, NOT_OBSERVED)
        found = times(rows, COMPLETE, observed=[("first", "second")])
        for table, stage in (("read", "second"), ("write", "first")):
            seconds, provenance = cell(found, table, stage, "pfs")
            assert math.isnan(seconds)
            assert provenance == UNKNOWN

    def test_one_unknown_predecessor_makes_the_read_unknown(self) -> None:
        join = Workflow("join", (Stage("a", 1, 1), Stage("b", 1, 1), Stage("c", 2, 1, {"a": (), "b": ()})))
        rows = [
            Row("a", "c", "pfs", "pfs", 1, 1, 0.0, 5.0),
            Row("b", "c", "tmpfs", "tmpfs", 1, 1, 0.0, 5.5),
        ]
        seconds, provenance = cell(times(rows, COMPLETE, join), "read", "c", "pfs")
        assert math.isnan(seconds)
        assert provenance == UNKNOWN

    def test_final_outputs_that_others_read_are_written_too(self) -> None:
        rows = [
            Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 0.0),
            Row("first", "stage_out-first", "pfs", "pfs-tmpfs", 2, 1, 3.0, 0.0),
        ]
        final = chain(("first", 4), ("second", 2), final=["first"])
        assert cell(times(rows, COMPLETE, CHAIN), "write", "first", "pfs") == (1.0, MEASURED)
        assert cell(times(rows, COMPLETE, final), "write", "first", "pfs") == (3.0, MEASURED)
        assert cell(times(rows, REFERENCE, final), "write", "first", "pfs") == (1.0, MEASURED)


@pytest.mark.parametrize("rules", [COMPLETE, REFERENCE])
def test_a_time_that_is_not_known_is_never_the_shortest(rules: MakespanRules) -> None:
    rows = [
        Row("first", "second", "pfs", "pfs", 2, 1, 1.0, math.nan),
        Row("first", "second", "tmpfs", "pfs", 2, 1, 1.0, 6.0),
        Row("first", "second", "pfs", "tmpfs", 2, 1, 1.0, math.nan),
    ]
    found = times(rows, rules)
    assert cell(found, "read", "second", "pfs") == (6.0, MEASURED)
    assert cell(found, "read", "second", "tmpfs")[1] == UNKNOWN


@pytest.mark.parametrize("rules", [COMPLETE, REFERENCE])
def test_compute_time_is_not_in_the_table_and_counts_as_nothing(rules: MakespanRules) -> None:
    found = times([Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 2.0)], rules)
    assert found.compute.seconds.tolist() == [0.0, 0.0]
    assert not found.compute_known


def test_the_table_tells_local_tiers_by_their_copies_between_nodes() -> None:
    table = table_of(
        [
            Row("a", "stage_out-a", "ssd", "ssd-ssd", 1, 1, 1.0, 1.0),
            Row("a", "stage_out-a", "ssd", "ssd-pfs", 1, 1, 1.0, 1.0),
            Row("a", "b", "pfs", "tmpfs", 1, 1, 1.0, 1.0),
        ]
    )
    assert table.tiers == ("ssd", "pfs", "tmpfs")
    assert table.local_tiers == {"ssd"}


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [*TestReferenceStageOut.ROWS, *TestReferenceStageIn.ROWS, *TestReferenceStageOut.LAST]
    forwards, backwards = times(rows), times(rows[::-1])
    for name in ("read", "write", "stage_in", "stage_out"):
        np.testing.assert_array_equal(getattr(forwards, name).seconds, getattr(backwards, name).seconds)


def test_under_the_reference_each_stage_of_the_last_level_has_a_final_edge() -> None:
    rows = [Row("first", "second", "pfs", "pfs", 2, 1, 1.0, 2.0)]
    same = Workflow("same", (Stage("a", 1, 1), Stage("b", 1, 1, {"a": ()})))
    assert Edge("a", FINAL_DATA) in times(rows, REFERENCE, same).edges
    assert Edge("a", FINAL_DATA) not in times(rows, COMPLETE, same).edges
