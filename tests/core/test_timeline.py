"""When stages begin and end: worked examples, and what holds beside the makespan."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.describe import describe
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.timeline import StageSeconds, StageSpan, answered_seconds, end_s, timeline
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.support.instances import random_catalog, random_layouts, random_times, random_workflow

DIAMOND = Workflow(
    "diamond",
    (
        Stage("first", 1, 1, {INITIAL_DATA: ()}),
        Stage("left", 2, 1, {"first": ()}),
        Stage("right", 2, 1, {"first": ()}),
        Stage("last", 3, 1, {"left": (), "right": ()}),
    ),
)
SECONDS = {
    "first": StageSeconds(1.0, 4.0),
    "left": StageSeconds(0.0, 2.0),
    "right": StageSeconds(2.0, 3.0),
    "last": StageSeconds(0.5, 1.0, 0.25),
}


def test_a_stage_begins_when_the_last_of_its_inputs_is_written_and_copied() -> None:
    found = timeline(DIAMOND, SECONDS)
    assert found["first"] == StageSpan(0.0, 1.0, 5.0, 5.0)
    assert found["left"] == StageSpan(5.0, 5.0, 7.0, 7.0)
    assert found["right"] == StageSpan(5.0, 7.0, 10.0, 10.0)
    assert found["last"] == StageSpan(10.0, 10.5, 11.5, 11.75)
    assert end_s(found) == 11.75


def test_behind_a_barrier_a_level_waits_for_the_whole_level_before() -> None:
    found = timeline(DIAMOND, SECONDS, level_barrier=True)
    # All copies of the level are made before any of its stages works.
    assert found["left"] == StageSpan(5.0, 7.0, 9.0, 10.0)
    assert found["last"] == StageSpan(10.0, 10.5, 11.5, 11.75)


@pytest.mark.parametrize("level_barrier", [False, True])
def test_what_takes_an_unknown_time_is_left_out_with_all_that_waits_for_it(level_barrier: bool) -> None:
    seconds = {name: found for name, found in SECONDS.items() if name != "right"}
    found = timeline(DIAMOND, seconds, level_barrier=level_barrier)
    assert set(found) == ({"first"} if level_barrier else {"first", "left"})
    assert end_s({}) == 0.0


def test_an_unknown_part_of_a_stage_is_not_nothing() -> None:
    known = {"stage_in_s": 1.0, "read_s": 2.0, "compute_s": 3.0, "write_s": 4.0, "stage_out_s": 5.0}
    stage_s = {"whole": known, "lacks": known | {"read_s": None}, "old": {"read_s": 2.0}}
    assert answered_seconds(stage_s) == {"whole": StageSeconds(1.0, 9.0, 5.0)}


@settings(max_examples=40)
@given(st.integers(0, 2**32).map(random.Random))
def test_no_stage_begins_earlier_than_the_makespan_counts(rng: random.Random) -> None:
    workflow, catalog = random_workflow(rng), random_catalog(rng)
    model = Model(workflow, catalog, COMPLETE, (ScaleModel(2, random_times(rng, workflow, catalog, 2)),))
    (layout,) = random_layouts(rng, model.space, 1)
    described = describe(model, 2, np.asarray(layout, dtype=np.int8))
    spans = timeline(workflow, answered_seconds(described["stage_s"]))
    assert set(spans) == set(workflow.stage_names)
    assert end_s(spans) >= described["makespan_s"] - 1e-9
    if all(len(stage.predecessors) <= 1 for stage in workflow.stages):
        # With one input a stage, the longest copy is the only one.
        assert end_s(spans) == pytest.approx(described["makespan_s"])
