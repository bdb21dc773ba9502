"""Rules of growth: applied to observations, and found from runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.core.scaling import (
    DataScale,
    ScalingRule,
    ScalingRules,
    project,
    scaled,
    scaled_workflow,
)
from qosflow_airflow.core.scaling_inference import (
    Run,
    held_out_errors,
    infer_rules,
    quantities,
    sentence,
)
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import INITIAL_DATA, Edge, Stage, Workflow
from qosflow_airflow.exceptions import MeasurementError

FLOW = Workflow("flow", (Stage("count", 1, 3, {INITIAL_DATA: ()}),))


def observed(
    read: float = 1000.0, write: float = 10.0, access: float = 100.0, tasks: int = 3, files: int = 2
) -> IOObservations:
    """A stage whose first task reads ``read`` bytes in all from its files, and writes one file."""
    rows = [("read", "t0", f"in{n}", read) for n in range(files)] + [("write", "t0", "out", write)]
    frame = pd.DataFrame(rows, columns=["operation", "task", "file", "volume_bytes"])
    frame = frame.assign(
        stage="count",
        producer="",
        access_bytes=access,
        accesses=frame["volume_bytes"] / access,
        tasks=tasks,
        nodes=1,
        compute_s=4.0,
        start_s=100.0,
        end_s=110.0,
    )
    return IOObservations(frame.reindex(columns=list(COLUMNS)), (1,))


RULES = ScalingRules(
    {
        ("count", "tasks"): ScalingRule(tasks=1.0),
        ("count", "read_bytes"): ScalingRule(data=1.0, tasks=1.0),
        ("count", "read_access_bytes"): ScalingRule(data=0.5),
        ("count", "compute_s"): ScalingRule(data=2.0),
    },
    (1.0, 3.0),
    (1.0, 2.0),
)


def test_observations_grow_by_their_rules_and_stay_without_one() -> None:
    grown = scaled(observed(), DataScale(4.0, 2.0), RULES)
    volumes = TracedVolumes(FLOW, grown)
    read, write = volumes.volume("count", "read"), volumes.volume("count", "write")
    assert read is not None
    assert write is not None
    assert (read.volume_bytes, read.access_bytes) == pytest.approx((8000.0, 200.0))
    assert (write.volume_bytes, write.access_bytes) == pytest.approx((10.0, 100.0))
    assert volumes.edge_bytes(Edge(INITIAL_DATA, "count")) == pytest.approx(8000.0)
    assert set(grown.frame["tasks"]) == {6}
    compute = volumes.compute("count")
    assert compute is not None
    assert compute.compute_s == pytest.approx(16 * 4.0)


def test_counts_are_whole_and_at_least_one() -> None:
    for factor, tasks in ((1.5, 5), (0.1, 1), (1 / 3, 1), (2.0, 6)):
        assert scaled_workflow(FLOW, DataScale(tasks=factor), RULES).stage("count").tasks == tasks
        assert set(scaled(observed(), DataScale(tasks=factor), RULES).frame["tasks"]) == {tasks}


def test_the_observed_scale_changes_nothing() -> None:
    given_run = observed()
    assert scaled(given_run, DataScale(), RULES) is given_run
    assert scaled_workflow(FLOW, DataScale(), RULES) == FLOW
    assert len(project(given_run, 7).frame) == 3


@pytest.mark.parametrize(
    ("data", "tasks", "beyond"),
    [(1, 1, False), (6, 4, False), (6.01, 1, True), (1, 4.01, True), (0.5, 0.5, False), (0.49, 1, True)],
)
def test_beyond_twice_the_observed_range_is_extrapolated(data: float, tasks: float, beyond: bool) -> None:
    assert RULES.extrapolated(DataScale(data, tasks)) is beyond


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_impossible_scales_are_refused(value: float) -> None:
    with pytest.raises(MeasurementError, match="data scale"):
        DataScale(value)


def runs(laws: Mapping[str, tuple[float, float]], scales: list[tuple[float, float]]) -> list[Run]:
    """Runs that follow exponents exactly."""
    found = []
    for data, tasks in scales:
        grown = {name: data**a * tasks**b for name, (a, b) in laws.items()}
        found.append(
            Run(
                DataScale(data, tasks),
                observed(
                    read=1e6 * grown.get("read", 1.0),
                    write=1e5 * grown.get("write", 1.0),
                    access=1e3 * grown.get("access", 1.0),
                    tasks=round(4 * grown.get("tasks", 1.0)),
                ),
            )
        )
    return found


SCALES = [(1.0, 1.0), (2.0, 1.0), (4.0, 2.0), (4.0, 4.0)]
EXPONENT = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])


@given(EXPONENT, EXPONENT)
def test_exact_laws_are_found_whatever_they_are(data: float, tasks: float) -> None:
    rule = infer_rules(runs({"read": (data, tasks)}, SCALES)).rules["count", "read_bytes"]
    assert (rule.data, rule.tasks) == (data, tasks)
    assert rule.error < 1e-9
    assert rule.inferred


@given(st.lists(st.floats(0.5, 2.0), min_size=4, max_size=4))
def test_the_chosen_exponents_leave_out_no_worse_than_constant(noise: list[float]) -> None:
    found = runs({}, SCALES)
    noisy = [Run(run.scale, observed(read=1e6 * factor)) for run, factor in zip(found, noise, strict=True)]
    rule = infer_rules(noisy).rules["count", "read_bytes"]
    logs = np.log(noise)
    constant = np.mean(((logs - logs.mean()) * 4 / 3) ** 2)
    rest = logs - np.log(np.array(SCALES)) @ np.array([rule.data, rule.tasks])
    if rule.runs and {rule.data, rule.tasks} <= {-1.0, 0.0, 0.5, 1.0, 2.0}:
        assert np.mean(((rest - rest.mean()) * 4 / 3) ** 2) <= constant + 1e-9


def test_a_constant_is_constant_and_says_so() -> None:
    rules = infer_rules(runs({"read": (1.0, 0.0), "tasks": (0.0, 1.0)}, SCALES))
    kinds = {quantity: rule.kind for (_, quantity), rule in rules.rules.items()}
    assert kinds["write_bytes"] == "constant"
    assert kinds["read_bytes"] == "linear"
    assert kinds["tasks"] == "broadcast"
    told = sentence("count", "read_bytes", rules.rules["count", "read_bytes"])
    assert told == "count: read linear (k_d); from 4 runs, leave-one-out error 0.0%"
    assert ScalingRule(data=1.0, tasks=-1.0).kind == "split"
    assert ScalingRule(data=0.7).kind == "power"
    assert (rules.data_range, rules.task_range) == ((1.0, 4.0), (1.0, 4.0))


def test_a_free_exponent_is_taken_where_no_plain_one_fits() -> None:
    rule = infer_rules(runs({"read": (1.3, 0.0)}, [(k, 1.0) for k in (1.0, 2.0, 4.0, 8.0)])).rules[
        "count", "read_bytes"
    ]
    assert rule.data == pytest.approx(1.3)
    assert rule.tasks == 0.0


def test_a_volume_counts_once_per_task() -> None:
    assert quantities(observed(read=500.0, files=5))["count", "read_bytes"] == 500.0


def test_held_out_runs_are_predicted_by_the_others() -> None:
    exact = runs({"read": (1.0, 0.0)}, SCALES)
    assert max(max(errors) for errors in held_out_errors(exact).values()) < 1e-9
    spoilt = [*exact[:3], Run(exact[3].scale, observed(read=8e6))]
    # 4 times the data would have been 4e6.
    assert held_out_errors(spoilt)["count", "read_bytes"][3] == pytest.approx(0.5)


def test_too_few_or_equal_runs_are_refused() -> None:
    with pytest.raises(MeasurementError, match="2 runs"):
        infer_rules(runs({}, SCALES[:2]))
    with pytest.raises(MeasurementError, match="same scale"):
        infer_rules(runs({}, [(1.0, 1.0)] * 3))
