"""Anchors: what a traced run tells of times that rates say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.anchor_evidence import anchor_evidence
from qosflow_airflow.core.anchoring import (
    OTHER_NODES_LOG_SD,
    REPEAT_LOG_SD,
    Anchor,
    Rated,
    anchored,
    anchors_from_json,
    anchors_to_json,
    traced_tasks,
)
from qosflow_airflow.core.estimate import estimate_stage_times
from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.support.traces import MIB, io, profile, rate, trace

SLOT = 10.0 * MIB
SLOW = Anchor("split", "read", "disk", "hdd", 2, 8, traced_s=12.0, rated_s=2.0, slot_bytes=SLOT)
FAST = SLOW._replace(operation="write", traced_s=0.5)

positive = st.floats(1e-6, 1e6)


def rated(**changes: object) -> Rated:
    return Rated("split", "read", "hdd", 2, SLOT, 2.0, 0.4)._replace(**changes)


def seconds(time: Rated, *anchors: Anchor) -> float | None:
    found = anchored(time, anchors)
    return None if found is None else found.seconds


@given(traced_s=positive, rated_s=positive, operation=st.sampled_from(["read", "write"]))
def test_what_was_traced_is_reproduced(traced_s: float, rated_s: float, operation: str) -> None:
    anchor = Anchor("split", operation, "disk", "hdd", 2, 8, traced_s, rated_s, SLOT)
    found = anchored(rated(operation=operation, seconds=rated_s), [anchor])
    assert found is not None
    assert found.seconds == pytest.approx(traced_s)
    assert found.observed
    assert found.log_sd == REPEAT_LOG_SD


@given(
    rated_s=positive,
    growth=st.floats(0.01, 100),
    nodes=st.integers(1, 64),
    tier=st.sampled_from(["hdd", "nvme"]),
)
def test_a_carried_time_is_positive_and_never_called_observed(
    rated_s: float, growth: float, nodes: int, tier: str
) -> None:
    time = rated(profile=tier, nodes=nodes, slot_bytes=SLOT * growth, seconds=rated_s)
    found = anchored(time, [SLOW])
    assert found is not None
    assert found.seconds >= rated_s
    assert found.log_sd >= REPEAT_LOG_SD
    assert found.observed == (tier == "hdd" and nodes == 2 and growth == 1)


def test_seconds_beyond_the_rates_stay_and_grow_with_what_a_task_handles() -> None:
    assert seconds(rated(nodes=4, seconds=1.0), SLOW) == pytest.approx(1.0 + 10.0)
    assert seconds(rated(nodes=4, seconds=1.0, slot_bytes=SLOT / 2), SLOW) == pytest.approx(1.0 + 5.0)


def test_a_run_faster_than_its_rates_stays_so_on_its_tier_and_node_count() -> None:
    assert seconds(rated(operation="write", seconds=8.0), FAST) == pytest.approx(8.0 * 0.5 / 2.0)
    assert seconds(rated(operation="write", nodes=4, seconds=8.0), FAST) is None


def test_of_another_tier_only_slow_reads_tell() -> None:
    assert seconds(rated(profile="nvme", seconds=0.1), SLOW) == pytest.approx(0.1 + 10.0)
    slow_writes = SLOW._replace(operation="write")
    assert seconds(rated(operation="write", profile="nvme"), slow_writes) is None
    assert seconds(rated(profile="nvme"), FAST._replace(operation="read")) is None


def test_the_tier_comes_before_the_node_count_and_the_nearest_count_wins() -> None:
    far = SLOW._replace(nodes=16, traced_s=40.0)
    elsewhere = SLOW._replace(profile="nvme", tier="nvme", traced_s=1000.0)
    assert seconds(rated(), far, SLOW, elsewhere) == pytest.approx(12.0)
    assert seconds(rated(), far, elsewhere) == pytest.approx(40.0)


def test_several_runs_at_the_nearest_node_count_are_pooled() -> None:
    assert seconds(rated(), SLOW, SLOW._replace(traced_s=3.0)) == pytest.approx(math.sqrt(12.0 * 3.0))


def test_another_stage_and_an_unknown_rate_say_nothing() -> None:
    assert seconds(rated(stage="merge"), SLOW) is None
    assert seconds(rated(seconds=math.nan), SLOW) is None


def test_away_from_the_run_a_time_is_less_sure() -> None:
    found = anchored(rated(nodes=4), [SLOW])
    assert found is not None
    assert found.log_sd > math.hypot(REPEAT_LOG_SD, OTHER_NODES_LOG_SD)
    unknown = anchored(rated(nodes=4, log_sd=math.nan), [SLOW])
    assert unknown is not None
    assert math.isnan(unknown.log_sd)


def test_a_task_that_reads_and_writes_is_one_task() -> None:
    assert traced_tasks([SLOW, FAST, SLOW._replace(stage="merge", tasks=2)]) == 10


def test_anchors_survive_json() -> None:
    assert anchors_from_json(anchors_to_json([SLOW, FAST])) == (SLOW, FAST)


class TestEvidence:
    """Four tasks of one stage, 100 MiB each, on two nodes."""

    WORKFLOW = Workflow("w", (Stage("split", 1, 4, {INITIAL_DATA: ()}),))
    CATALOG = TierCatalog((StorageTier("disk", True, profile="hdd"), StorageTier("tmpfs", False)))
    # 400 MiB/s read, by any tasks on any nodes.
    RATES = profile(
        rate("read", tier, 400.0, nodes=nodes, tasks_per_node=tasks, volume_bytes=400.0 * MIB)
        for tier in ("hdd", "tmpfs")
        for nodes in (1, 2, 4)
        for tasks in (1.0, 2.0)
    )

    def read(self, **more: object) -> IOObservations:
        return trace(
            *(
                io("read", "split", f"t{i}", f"f{i}", 100, **{"nodes": 2, "io_s": 3.0 + i, **more})
                for i in range(4)
            )
        )

    def only(self, run: IOObservations, catalog: TierCatalog = CATALOG) -> Anchor:
        (anchor,) = anchor_evidence(self.WORKFLOW, catalog, run, self.RATES).anchors
        return anchor

    def test_all_tasks_at_once_take_as_long_as_the_longest(self) -> None:
        anchor = self.only(self.read())
        assert (anchor.stage, anchor.operation, anchor.tier, anchor.profile) == (
            "split",
            "read",
            "disk",
            "hdd",
        )
        assert (anchor.nodes, anchor.tasks, anchor.traced_s) == (2, 4, 6.0)
        assert anchor.rated_s == pytest.approx(1.0)
        assert anchor.slot_bytes == pytest.approx(100 * MIB)

    def test_one_slot_a_node_runs_them_in_turns(self) -> None:
        crowded = TierCatalog(self.CATALOG.tiers, node=NodePool(slots=1))
        anchor = self.only(self.read(), crowded)
        assert anchor.traced_s == pytest.approx((3 + 4 + 5 + 6) / 2)
        assert anchor.slot_bytes == pytest.approx(200 * MIB)

    def test_with_a_wall_clock_it_is_the_share_of_it(self) -> None:
        anchor = self.only(self.read(io_s=2.0, compute_s=3.0, start_s=100.0, end_s=105.0))
        assert anchor.traced_s == pytest.approx(5.0 * 2.0 / 5.0)

    def test_a_tier_may_be_named_as_in_the_profile(self) -> None:
        assert self.only(self.read(tier="hdd")).tier == "disk"

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"io_s": math.nan}, "no times"),
            ({"io_s": 0.0}, "no times"),
            ({"tier": "pfs"}, "no tier is known by the name of the trace's: 'pfs'"),
        ],
    )
    def test_what_is_missing_is_said(self, more: dict[str, object], reason: str) -> None:
        evidence = anchor_evidence(self.WORKFLOW, self.CATALOG, self.read(**more), self.RATES)
        assert evidence.anchors == ()
        assert reason in evidence.missing

    def test_a_run_at_nobody_knows_how_many_nodes_is_none(self) -> None:
        run = IOObservations(self.read().frame, (2, 4), nodes_known=False)
        evidence = anchor_evidence(self.WORKFLOW, self.CATALOG, run, self.RATES)
        assert evidence.anchors == ()
        assert "node counts" in evidence.missing

    def test_a_tier_without_rates_gives_no_anchor(self) -> None:
        writes = trace(io("write", "split", "t0", "out", 10, nodes=2))
        evidence = anchor_evidence(self.WORKFLOW, self.CATALOG, writes, self.RATES)
        assert evidence.anchors == ()
        assert "not measured" in evidence.missing

    def test_stage_times_take_them_up(self) -> None:
        run = self.read()
        anchors = anchor_evidence(self.WORKFLOW, self.CATALOG, run, self.RATES).anchors
        volumes = TracedVolumes(self.WORKFLOW, run)
        there = estimate_stage_times(self.WORKFLOW, self.CATALOG, volumes, self.RATES, 2, anchors=anchors)
        assert there.read.seconds[0] == pytest.approx([6.0, 6.0])
        assert there.read.provenance[0].tolist() == [Provenance.MEASURED, Provenance.MEASURED]
        assert there.read.log_sd[0, 0] == REPEAT_LOG_SD
        assert there.anchors == anchors
        single = estimate_stage_times(self.WORKFLOW, self.CATALOG, volumes, self.RATES, 1, anchors=anchors)
        assert single.read.seconds[0, 0] == pytest.approx(6.0)
