"""What each layer is worth: nothing looks ahead, and the figures are those of the runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from qosflow_airflow.learn.ablation import INTERVALS, LAYERS, NEW_RUNS, Foretold, ablation, foretell
from qosflow_airflow.learn.case_families import FAMILIES, family_workflow
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.conformal import half_width


def row(found: dict[str, object], group: str, layer: str) -> dict[str, float]:
    rows = found["rows"]
    assert isinstance(rows, list)
    return next(one for one in rows if (one["runs_of"], one["layer"]) == (group, layer))


def test_calibration_makes_errors_of_known_workflows_smaller() -> None:
    found = ablation(
        foretell(generated_runs(150, 11, families=("montage", "blast"), platforms=1), answered=False)
    )
    model, calibrated = (row(found, "known", layer)["median_error"] for layer in LAYERS[:2])
    assert calibrated < 0.7 * model


def test_no_run_tells_anything_of_itself_or_of_those_before_it() -> None:
    runs = list(generated_runs(60, 5))
    slower = [*runs[:40], *(replace(run, observed_s=3 * run.observed_s) for run in runs[40:])]
    before, after = foretell(runs, answered=False), foretell(slower, answered=False)
    for one, other in zip(before[:40], after[:40], strict=True):
        np.testing.assert_array_equal(one.log_ratio, other.log_ratio)
    # The first of those that were slower is foretold as before, and off by what was added.
    np.testing.assert_allclose(after[40].log_ratio - before[40].log_ratio, math.log(3))


def test_errors_fall_as_a_workflow_s_own_runs_teach() -> None:
    made = [generated_runs(200, seed, platforms=1) for seed in (21, 22, 23)]
    foretold = [one for runs in made for one in foretell(runs, answered=False)]
    errors = [step["median_error"]["x calibration"] for step in ablation(foretold)["learning"]]
    assert len(errors) == 6
    assert errors[-1] < 0.6 * errors[0]
    assert errors[0] > errors[2] > errors[4]


def test_intervals_as_answered_hold_more_of_the_runs_than_a_spread_that_is_too_sure() -> None:
    runs = generated_runs(90, 31, families=("blast", "montage"), platforms=2)
    found = ablation(foretell(runs), judged_from=20)
    own, answered = (row(found, "all", name) for name in INTERVALS)
    assert own["coverage"] < 0.85
    assert abs(answered["coverage"] - 0.9) < abs(own["coverage"] - 0.9)
    assert answered["with_interval"] == 70


def test_runs_that_cannot_be_are_left_out() -> None:
    runs = list(generated_runs(6, 5))
    odd = [
        replace(runs[0], observed_s=math.nan),
        replace(runs[1], observed_s=1e6 * runs[1].observed_s),
        replace(runs[2], observed_s=-1.0),
    ]
    assert [one.run for one in foretell([*odd, *runs[3:]])] == [run.run for run in runs[3:]]


def test_figures_are_those_of_the_runs() -> None:
    ratios = np.array([[math.log(2.0), 0.0, 0.0, 0.0], [-math.log(1.5), 0.1, 0.1, 0.1]])
    halves = np.array([[1.0, math.nan, 0.1, 0.1, 0.2, 0.05], [0.1, math.nan, 0.2, 0.2, 0.2, 0.3]])
    foretold = [
        Foretold(f"r{at}", "w", 5 * at, log_ratio, np.column_stack([-half, half]))
        for at, (log_ratio, half) in enumerate(zip(ratios, halves, strict=True))
    ]
    found = ablation(foretold)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    model = row(found, "all", LAYERS[0])
    assert model["median_error"] == pytest.approx((1.0 + 0.5) / 2)
    assert model["coverage"] == 0.5
    assert row(found, "all", LAYERS[1])["coverage"] is None
    answered = row(found, "all", INTERVALS[1])
    assert (answered["coverage"], answered["width"]) == (1.0, pytest.approx(math.exp(0.35)))
    assert answered["median_error"] == row(found, "all", LAYERS[1])["median_error"]
    assert row(found, "new", LAYERS[0])["runs"] == 1
    assert ablation(foretold, judged_from=1)["taught_only"] == 1
    steps = found["learning"]
    assert [(step["earlier"], step["runs"]) for step in steps] == [(0, 1), (5, 1)]
    assert steps[1]["median_error"][LAYERS[0]] == pytest.approx(0.5)
    assert ablation([])["rows"][0]["median_error"] is None


def test_first_runs_are_new() -> None:
    foretold = foretell(generated_runs(12, 2, families=("cycles",), platforms=1))
    assert [one.is_new for one in foretold] == [True] * NEW_RUNS + [False] * (12 - NEW_RUNS)


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(400):
        earlier, later = rng.standard_t(3, 40), rng.standard_t(3)
        inside.append(abs(later) <= half_width(earlier.tolist()))
    assert 0.86 <= np.mean(inside) <= 0.96
    assert math.isnan(half_width([0.1] * 8))
    assert half_width([0.1] * 9) == 0.1


def test_generated_runs_are_the_same_each_time_and_of_all_families() -> None:
    once, again = (list(generated_runs(80, 9)) for _ in range(2))
    assert [(run.layout, run.observed_s) for run in once] == [(run.layout, run.observed_s) for run in again]
    assert {run.workflow for run in once} == set(FAMILIES)
    assert all(run.observed_s > 0 and run.predicted_s > 0 for run in once)
    first = next(iter(generated_runs(80, 9, arriving=True)))
    assert first.workflow == next(iter(FAMILIES))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_workflows_at_every_size(family: str) -> None:
    small, large = family_workflow(family, 10), family_workflow(family, 100)
    assert small.stage_names == large.stage_names
    assert sum(stage.tasks for stage in large.stages) > sum(stage.tasks for stage in small.stages)
