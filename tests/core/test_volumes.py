"""Each byte counts once, however often a trace says it."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.scaling import MAX_NODES, check_scale, project
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow
from qosflow_airflow.exceptions import MeasurementError
from tests.support.traces import MIB, io, trace

SURVEY = Workflow(
    "survey",
    (
        Stage("calibrate", 1, 2, {INITIAL_DATA: ()}),
        Stage("stack", 2, 1, {"calibrate": (), INITIAL_DATA: ()}),
        Stage("report", 3, 1, {"stack": ()}),
    ),
)
TRACE = trace(
    # Two tasks; each reads its own raw frame and the shared flat field, and writes one image and one log.
    io("read", "calibrate", "p1", "raw1", 30),
    io("read", "calibrate", "p1", "flat", 30),
    io("read", "calibrate", "p2", "raw2", 50),
    io("read", "calibrate", "p2", "flat", 50),
    io("write", "calibrate", "p1", "image1", 8),
    io("write", "calibrate", "p1", "log1", 8),
    io("write", "calibrate", "p2", "image2", 8),
    io("write", "calibrate", "p2", "log2", 8),
    # Only the images are read, and the flat field again.
    io("read", "stack", "p3", "image1", 12, producer="calibrate"),
    io("read", "stack", "p3", "image2", 12, producer="calibrate"),
    io("read", "stack", "p3", "flat", 12),
    io("write", "stack", "p3", "mosaic", 6, accesses=3),
)
VOLUMES = TracedVolumes(SURVEY, TRACE)


def mib(edge: tuple[str, str], volumes: TracedVolumes = VOLUMES) -> float | None:
    found = volumes.edge_bytes(Edge(*edge))
    return None if found is None else found / MIB


def test_a_tasks_volume_counts_once_although_it_stands_on_each_of_its_files() -> None:
    read = VOLUMES.volume("calibrate", "read")
    assert read is not None
    assert read.volume_bytes == 80 * MIB


def test_an_outside_file_is_read_first_by_the_earliest_stage() -> None:
    found = {stage: VOLUMES.first_read_bytes(stage) for stage in SURVEY.stage_names}
    assert found["calibrate"] == VOLUMES.edge_bytes(Edge(INITIAL_DATA, "calibrate"))
    # the flat field that `stack` reads too is in the cache by then
    assert (found["stack"], found["report"]) == (0, 0)


def test_mean_access_size_is_volume_over_accesses() -> None:
    written = VOLUMES.volume("stack", "write")
    assert written is not None
    assert written.access_bytes == 2 * MIB


def test_without_counted_accesses_the_typical_access_size_stands() -> None:
    found = TracedVolumes(SURVEY, trace(io("read", "stack", "p", "f", 5, accesses=0, access_bytes=777.0)))
    volume = found.volume("stack", "read")
    assert volume is not None
    assert volume.access_bytes == 777.0


def test_a_stage_without_such_rows_has_no_volume() -> None:
    assert VOLUMES.volume("report", "read") is None
    assert not VOLUMES.traced("report")
    assert VOLUMES.traced("stack")


def test_an_edge_carries_the_files_that_are_read_along_it_each_once() -> None:
    assert mib((INITIAL_DATA, "calibrate")) == 15 + 25 + 25  # the raw frames, and the flat field once
    assert mib(("calibrate", "stack")) == 4 + 4  # the images as they were written, not the logs
    assert mib((INITIAL_DATA, "stack")) == 25  # the flat field; the most that anyone says of its size
    assert mib(("stack", "report")) is None


def test_final_data_are_the_files_that_nobody_reads() -> None:
    assert mib(("calibrate", FINAL_DATA)) == 4 + 4  # the logs
    assert mib(("stack", FINAL_DATA)) == 6


def test_where_everything_is_read_again_all_of_it_is_final() -> None:
    rows = (io("write", "calibrate", "p", "f", 7), io("read", "stack", "q", "f", 7, producer="calibrate"))
    assert mib(("calibrate", FINAL_DATA), TracedVolumes(SURVEY, trace(*rows))) == 7


def test_bytes_per_file_are_taken_where_the_trace_says_them() -> None:
    rows = (
        io("read", "calibrate", "p1", "raw1", 30, file_bytes=20.0 * MIB),
        io("read", "calibrate", "p1", "flat", 30, file_bytes=10.0 * MIB),
    )
    found = TracedVolumes(SURVEY, trace(*rows))
    volume = found.volume("calibrate", "read")
    assert volume is not None
    assert volume.volume_bytes == 30 * MIB
    assert mib((INITIAL_DATA, "calibrate"), found) == 30


def test_a_file_read_in_part_moves_whole_where_its_size_is_known() -> None:
    rows = [io("read", "calibrate", f"p{i}", "raw", 5, file_size_bytes=100.0 * MIB) for i in range(3)]
    found = TracedVolumes(SURVEY, trace(*rows))
    volume = found.volume("calibrate", "read")
    assert volume is not None
    assert volume.volume_bytes == 15 * MIB
    assert mib((INITIAL_DATA, "calibrate"), found) == 100


def test_observed_pairs_are_those_between_which_files_flowed() -> None:
    assert VOLUMES.observed_pairs() == {("calibrate", "stack")}


def test_who_wrote_a_file_outweighs_who_is_said_to_have() -> None:
    rows = (io("write", "stack", "p", "f", 7), io("read", "report", "q", "f", 7, producer="calibrate"))
    found = TracedVolumes(SURVEY, trace(*rows))
    assert mib(("stack", "report"), found) == 7
    said = TracedVolumes(SURVEY, trace(io("read", "report", "q", "f", 7, producer="stack")))
    assert mib(("stack", "report"), said) == 7


@settings(max_examples=25)
@given(st.integers(0, 2**32).map(random.Random))
def test_repeated_rows_in_any_order_do_not_multiply(rng: random.Random) -> None:
    rows = TRACE.frame.to_dict("records")
    again = rows + [dict(rng.choice(rows), nodes=rng.choice((1, 2, 5))) for _ in range(rng.randint(0, 12))]
    rng.shuffle(again)
    found = TracedVolumes(SURVEY, IOObservations(pd.DataFrame(again)))
    for stage in SURVEY.stage_names:
        for operation in ("read", "write"):
            want, have = VOLUMES.volume(stage, operation), found.volume(stage, operation)
            assert (want is None) == (have is None)
            if want is not None and have is not None:
                assert have.volume_bytes == pytest.approx(want.volume_bytes)
                assert have.access_bytes == pytest.approx(want.access_bytes)
    for edge in SURVEY.edges:
        assert mib(edge, found) == pytest.approx(mib(edge))


class TestComputeTime:
    def test_none_where_the_trace_has_none(self) -> None:
        assert VOLUMES.compute("calibrate") is None

    def test_the_share_of_the_wall_clock_that_is_not_io(self) -> None:
        # Two tasks side by side: 10 s and 8 s long, 9 s of these 18 s computing. Wall clock 12 s.
        rows = (
            io("read", "calibrate", "p1", "a", 1, nodes=2, start_s=100.0, end_s=110.0, compute_s=5.0),
            io("write", "calibrate", "p1", "b", 1, nodes=2, start_s=100.0, end_s=110.0, compute_s=5.0),
            io("read", "calibrate", "p2", "a", 1, nodes=2, start_s=104.0, end_s=112.0, compute_s=4.0),
        )
        found = TracedVolumes(SURVEY, trace(*rows)).compute("calibrate")
        assert found is not None
        assert found.compute_s == pytest.approx(12.0 * 9 / 18)
        assert found.nodes == 2

    def test_without_start_and_end_the_mean_task_stands_for_the_stage(self) -> None:
        rows = [io("read", "calibrate", f"p{i}", "a", 1, compute_s=float(i)) for i in (1, 2, 6)]
        found = TracedVolumes(SURVEY, trace(*rows)).compute("calibrate")
        assert found is not None
        assert found.compute_s == pytest.approx(3.0)

    def test_more_computing_than_time_is_all_of_the_time(self) -> None:
        row = io("read", "calibrate", "p1", "a", 1, start_s=0.0, end_s=10.0, compute_s=25.0)
        found = TracedVolumes(SURVEY, trace(row)).compute("calibrate")
        assert found is not None
        assert found.compute_s == pytest.approx(10.0)


class TestScales:
    RUNS = trace(
        io("read", "calibrate", "p", "a", 1, nodes=2), io("read", "calibrate", "p", "a", 4, nodes=16)
    )

    @pytest.mark.parametrize(("nodes", "stands_for_it"), [(1, 2), (2, 2), (5, 2), (6, 16), (100, 16)])
    def test_the_nearest_traced_run_on_a_logarithmic_scale_stands_for_a_node_count(
        self, nodes: int, stands_for_it: int
    ) -> None:
        found = project(self.RUNS, nodes)
        assert set(found.frame["nodes"]) == {stands_for_it}
        assert found.scales == (nodes,)

    @pytest.mark.parametrize("nodes", [0, -1, MAX_NODES + 1])
    def test_a_node_count_that_nobody_has_is_refused(self, nodes: int) -> None:
        with pytest.raises(MeasurementError, match="whole numbers from 1 to 100,000"):
            check_scale(nodes)
        with pytest.raises(MeasurementError, match=f"a scale of {nodes} nodes"):
            project(self.RUNS, nodes)


def test_stages_are_those_of_the_trace() -> None:
    assert TRACE.stages == {"calibrate", "stack"}
    assert math.isnan(TRACE.frame["compute_s"].iloc[0])


def test_two_tasks_that_took_the_same_time_do_not_make_a_stage_certain() -> None:
    seconds = {"calibrate": (2.0, 2.0), "stack": (1.0, 4.0), "report": (3.0,)}
    rows = [
        io("read", stage, f"{stage}{number}", f"{stage}{number}", 1, compute_s=compute_s)
        for stage, tasks in seconds.items()
        for number, compute_s in enumerate(tasks)
    ]
    volumes = TracedVolumes(SURVEY, trace(*rows))
    even, uneven, single = (volumes.compute(stage) for stage in seconds)
    assert even is not None
    assert uneven is not None
    assert single is not None
    pooled = math.log(4) ** 2 / 2 / 2  # of two stages with two tasks, one of which spreads
    assert single.log_sd == pytest.approx(math.sqrt(pooled))
    assert even.log_sd == pytest.approx(math.sqrt(5 * pooled / 6))
    assert uneven.log_sd == pytest.approx(math.sqrt((2 * pooled + 5 * pooled) / 6))
