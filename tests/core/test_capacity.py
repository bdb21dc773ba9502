"""What data takes where and when, and that what does not fit is not proposed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.capacity import GIB, CapacityCheck
from qosflow_airflow.core.configurations import configuration_frame, evaluate_space
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow

# split reads 10 GiB and writes 96, merge reads these and writes 20: the final output.
LINE = Workflow("line", (Stage("split", 1, 4, {INITIAL_DATA: ()}), Stage("merge", 2, 2, {"split": ()})))
EDGE_GIB = {(INITIAL_DATA, "split"): 10.0, ("split", "merge"): 96.0, ("merge", "final_data"): 20.0}
OUTPUT_GIB = {"split": 96.0, "merge": 20.0}


def catalog(nfs: float | None = None, tmpfs: float | None = None, memory: float | None = None) -> TierCatalog:
    """A shared nfs and a tmpfs in memory, of so many GiB."""
    size = {name: None if gib is None else int(gib * GIB) for name, gib in (("nfs", nfs), ("tmpfs", tmpfs))}
    return TierCatalog(
        (
            StorageTier("nfs", True, capacity_bytes=size["nfs"]),
            StorageTier("tmpfs", False, capacity_bytes=size["tmpfs"], memory=True),
        ),
        node=NodePool(memory_bytes=None if memory is None else int(memory * GIB)),
    )


def times(
    nodes: int, edge_gib: Mapping[tuple[str, str], float] = EDGE_GIB, tmpfs_s: float = 1.0
) -> StageTimes:
    """Every read and write takes 10 s on nfs and ``tmpfs_s`` on tmpfs, every copy 0.5 s."""
    tables = blank_tables(2, 2, 3)
    for name, table in tables.items():
        table.seconds[...] = 0.5
        table.provenance[...] = Provenance.MEASURED
        if name in ("read", "write"):
            table.seconds[:, 0], table.seconds[:, 1] = 10.0, tmpfs_s
    return StageTimes(
        nodes,
        LINE.stage_names,
        ("nfs", "tmpfs"),
        LINE.edges,
        **tables,
        edge_bytes=np.array([edge_gib[edge] * GIB for edge in LINE.edges]),
        output_bytes=np.array([OUTPUT_GIB[name] * GIB for name in LINE.stage_names]),
    )


def check(nodes: int, tiers: TierCatalog, found: StageTimes | None = None) -> CapacityCheck:
    return CapacityCheck(LINE, tiers, found or times(nodes), COMPLETE)


def layout(tiers: TierCatalog, *names: str) -> np.ndarray:
    return np.array([[tiers.index[name] for name in names]], dtype=np.int8)


@pytest.mark.parametrize(
    ("nodes", "place", "needed"),
    [
        # Level 1: what split writes and its copied input, half of both per node.
        (2, ("tmpfs", "nfs"), 48 + 5),
        # Level 2: split's output, its copies where merge runs, and what merge writes.
        (2, ("tmpfs", "tmpfs"), 48 + 48 + 10),
        # On one node nothing is copied from tmpfs to tmpfs.
        (1, ("tmpfs", "tmpfs"), 96 + 20),
        # merge's two tasks use two of four nodes: half of what it reads and writes each.
        (4, ("nfs", "tmpfs"), 48 + 10),
    ],
)
def test_the_fullest_node_at_the_fullest_moment(nodes: int, place: tuple[str, str], needed: float) -> None:
    for spare, over in ((1.0, False), (-1.0, True)):
        tiers = catalog(tmpfs=(needed + spare) / 0.9)
        assert check(nodes, tiers).fit(layout(tiers, *place)).over.tolist() == [over]


def test_shared_tiers_hold_everything_with_flushed_outputs() -> None:
    for place, needed in (
        (("nfs", "nfs"), 96 + 20),
        (("nfs", "tmpfs"), 96 + 20),
        (("tmpfs", "nfs"), 20 + 96),
    ):
        for spare, over in ((1.0, False), (-1.0, True)):
            tiers = catalog(nfs=(needed + spare) / 0.9)
            assert check(2, tiers).fit(layout(tiers, *place)).over.tolist() == [over]


def test_the_reason_names_stage_tier_sizes_and_nodes() -> None:
    tiers = catalog(tmpfs=40)
    (reason,) = check(2, tiers).reasons(layout(tiers, "tmpfs", "nfs"))
    assert reason == "split on tmpfs needs 53 GiB of 40 at 2 nodes"


def test_what_lies_in_memory_counts_against_the_memory_too() -> None:
    tiers = catalog(tmpfs=500, memory=50)
    found = check(2, tiers)
    assert found.fit(layout(tiers, "tmpfs", "nfs")).over.all()
    assert not found.fit(layout(tiers, "nfs", "nfs")).over.any()
    (reason,) = found.reasons(layout(tiers, "tmpfs", "nfs"))
    assert reason == "split on tmpfs needs 53 GiB of 50 of memory at 2 nodes"


def test_an_unknown_size_is_said_and_does_not_invalidate() -> None:
    tiers = catalog(tmpfs=500)
    found = times(2, {**EDGE_GIB, (INITIAL_DATA, "split"): math.nan})
    fit = check(2, tiers, found).fit(
        np.concatenate([layout(tiers, "tmpfs", "nfs"), layout(tiers, "nfs", "nfs")])
    )
    assert fit.over.tolist() == [False, False]
    # The input is copied only to tmpfs; nfs has no limit that it could break.
    assert fit.unknown.tolist() == [True, False]
    # What is known may be too much all the same.
    small = catalog(tmpfs=40)
    fit = check(2, small, found).fit(layout(small, "tmpfs", "nfs"))
    assert (fit.over.tolist(), fit.unknown.tolist()) == ([True], [False])
    without = replace(times(2), edge_bytes=None, output_bytes=None)
    assert check(2, tiers, without).fit(layout(tiers, "tmpfs", "nfs")).unknown.all()


def test_the_published_rules_and_tiers_without_capacity_have_no_limits() -> None:
    small = catalog(tmpfs=1)
    assert not CapacityCheck(LINE, small, times(2), REFERENCE).limited
    assert not check(2, catalog(memory=None)).limited
    assert not CapacityCheck(LINE, small, times(2), REFERENCE).fit(layout(small, "tmpfs", "tmpfs")).over.any()


@given(st.integers(1, 6), st.floats(1, 200), st.integers(0, 10_000))
def test_more_room_never_hurts_and_rows_do_not_see_each_other(nodes: int, gib: float, seed: int) -> None:
    tiers = catalog(nfs=gib, tmpfs=gib)
    layouts = ConfigurationSpace(LINE, tiers, COMPLETE).layouts()
    over = check(nodes, tiers).fit(layouts).over
    roomier = catalog(nfs=2 * gib, tmpfs=2 * gib)
    assert not (check(nodes, roomier).fit(layouts).over & ~over).any()
    order = random.Random(seed).sample(range(len(layouts)), len(layouts))
    alone = [bool(check(nodes, tiers).fit(layouts[row : row + 1]).over[0]) for row in order]
    assert alone == over[order].tolist()
    assert all(bool(check(nodes, tiers).reasons(layouts[r : r + 1])) == over[r] for r in range(len(layouts)))


def model(tiers: TierCatalog, *nodes: int) -> Model:
    return Model(LINE, tiers, COMPLETE, tuple(ScaleModel(count, times(count)) for count in nodes))


def test_a_configuration_that_does_not_fit_is_no_candidate() -> None:
    tiers = catalog(tmpfs=60)
    found = recommend(model(tiers, 2), QoSRequest())
    assert isinstance(found, Recommendation)
    assert dict(found.configuration.tiers) == {"split": "tmpfs", "merge": "nfs"}
    assert found.answer["capacity"] == {"state": "fits", "reasons": []}
    assert "tmpfs" not in found.answer["swap_s"]["merge"]
    roomy = recommend(model(catalog(tmpfs=600), 2), QoSRequest())
    assert isinstance(roomy, Recommendation)
    assert dict(roomy.configuration.tiers) == {"split": "tmpfs", "merge": "tmpfs"}


def test_a_request_that_capacity_makes_impossible_says_so() -> None:
    found = recommend(model(catalog(tmpfs=40), 2), QoSRequest(pin={"split": "tmpfs", "merge": "nfs"}))
    assert isinstance(found, Infeasible)
    assert set(found.binding) == {"capacity", "pin"}
    assert "split on tmpfs needs 53 GiB of 40 at 2 nodes" in found.answer["explanation"]
    # The nearest is one that can run.
    assert found.nearest is not None
    assert found.nearest.tiers["split"] == "nfs"


def test_what_can_be_changed_is_proposed_although_room_alone_would_do() -> None:
    request = QoSRequest(deadline_s=20, pin={"split": "tmpfs", "merge": "tmpfs"})
    assert isinstance(recommend(model(catalog(tmpfs=600), 2), request), Recommendation)
    found = recommend(model(catalog(tmpfs=1), 2), request)
    assert isinstance(found, Infeasible)
    assert set(found.binding) == {"capacity", "deadline_s", "pin"}
    assert found.nearest is not None
    assert dict(found.nearest.tiers) == {"split": "nfs", "merge": "nfs"}


def test_nothing_fits_at_all() -> None:
    found = recommend(model(catalog(nfs=1, tmpfs=1), 1, 2), QoSRequest())
    assert isinstance(found, Infeasible)
    assert found.binding == ("capacity",)
    assert found.nearest is None
    assert "GiB of 1 " in found.answer["explanation"]


def test_the_table_of_configurations_says_which_do_not_fit() -> None:
    tiers = catalog(tmpfs=66)
    makespans = MakespanModel(LINE, tiers, times(2), COMPLETE)
    evaluated = evaluate_space(makespans)
    assert evaluated.states() == {"measured": 3, "over_capacity": 1}
    frame = configuration_frame(makespans, evaluated.layouts)
    (row,) = frame[frame["state"] == "over_capacity"].to_dict("records")
    assert (row["tier_split"], row["tier_merge"]) == ("tmpfs", "tmpfs")
    assert math.isnan(row["makespan_s"])
    assert (
        type(evaluated).from_bytes(evaluated.to_bytes()).over_capacity.tolist()
        == evaluated.over_capacity.tolist()
    )


def test_volumes_survive_json_and_may_be_absent() -> None:
    found = times(2, {**EDGE_GIB, ("split", "merge"): math.nan})
    again = StageTimes.from_json(found.to_json())
    assert again.edge_bytes is not None
    assert found.edge_bytes is not None
    np.testing.assert_array_equal(again.edge_bytes, found.edge_bytes)
    np.testing.assert_array_equal(again.output_bytes, found.output_bytes)
    older = {name: value for name, value in found.to_json().items() if not name.endswith("_bytes")}
    assert StageTimes.from_json(older).edge_bytes is None
