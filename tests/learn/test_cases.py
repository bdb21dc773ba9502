"""The most similar cases: the right ones, whatever is missing, and never a case that cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.learn.case_features import FEATURES, run_features, stage_features
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.cases import (
    PLATFORM_DIFFERENCE,
    WEIGHTS,
    Case,
    CaseBase,
    CaseSettings,
    run_case,
    stage_cases,
)

ALL = CaseSettings(neighbours=8, min_similarity=0.0)


def case(features: list[float], name: str = "r", **fields: object) -> Case:
    full = [*features, *[0.0] * (len(FEATURES) - len(features))]
    values = {
        "run": name,
        "workflow": "w",
        "platform": "here",
        "stage": None,
        "nodes": 2,
        "tiers": ("pfs", "ssd", "pfs"),
        "features": tuple(full),
        "predicted_s": 10.0,
        "observed_s": 12.0,
    }
    return Case(**(values | fields))  # type: ignore[arg-type]


def plain_distances(base: CaseBase, asked: np.ndarray, platform: str | None) -> list[float]:
    """The definition, case by case and feature by feature."""
    rows = np.array([one.features for one in base.cases])
    found = []
    for one in base.cases:
        total, weight = 0.0, 0.0
        for f in range(len(FEATURES)):
            known = rows[~np.isnan(rows[:, f]), f]
            if math.isnan(asked[f]) or not len(known):
                continue
            scale = known.std() if known.std() > 1e-9 else 1.0
            question = (asked[f] - known.mean()) / scale
            # What a case lacks is as far away as the cases that know it are in the mean.
            missing = question**2 + 1.0
            value = one.features[f]
            square = missing if math.isnan(value) else (question - (value - known.mean()) / scale) ** 2
            total += WEIGHTS[f] * square
            weight += WEIGHTS[f]
        if platform is not None and one.platform != platform:
            total += PLATFORM_DIFFERENCE
        found.append(math.sqrt(total / weight))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.4), st.booleans())
def test_neighbours_are_those_of_the_plain_definition(seed: int, missing: float, on_platform: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 3, (40, len(FEATURES)))
    rows[rng.random(rows.shape) < missing] = math.nan
    base = CaseBase(
        [
            case(row.tolist(), f"r{at}", platform=str(rng.choice(["here", "there"])))
            for at, row in enumerate(rows)
        ],
        ALL,
    )
    asked = rng.normal(0, 3, len(FEATURES))
    asked[rng.random(len(FEATURES)) < missing] = math.nan
    platform = "here" if on_platform else None
    if np.isnan(asked).all():
        return
    distances = plain_distances(base, asked, platform)
    found = base.nearest(asked, platform)
    want = sorted(distances)[: len(found.found)]
    assert len(found.found) == min(8, len(base))
    np.testing.assert_allclose([-math.log(one.similarity) for one in found.found], want, atol=1e-9)
    for neighbour in found.found:
        at = base.cases.index(neighbour.case)
        assert -math.log(neighbour.similarity) == pytest.approx(distances[at], abs=1e-9)


def test_the_same_run_is_as_similar_as_can_be_and_comes_first() -> None:
    runs = list(generated_runs(60, 3))
    base = CaseBase(map(run_case, runs))
    found = base.nearest(run_features(runs[7]), runs[7].platform).found
    assert found[0].similarity == pytest.approx(1.0)
    assert found[0].case.run == runs[7].run
    similar = [one.similarity for one in found]
    assert similar == sorted(similar, reverse=True)


def test_of_equally_similar_cases_the_newest_come_first() -> None:
    base = CaseBase([case([1.0], f"r{at}") for at in range(20)], CaseSettings(3, 0.0))
    assert [one.case.run for one in base.nearest(base.cases[0].features).found] == ["r19", "r18", "r17"]


def test_settings_bound_how_many_and_how_far() -> None:
    base = CaseBase([case([float(at)] * 17, f"r{at}") for at in range(10)], CaseSettings(4, 0.8))
    found = base.nearest([0.0] * len(FEATURES), "here").found
    assert 1 <= len(found) <= 4
    assert all(one.similarity >= 0.8 for one in found)
    assert not base.nearest([1e6] * len(FEATURES)).found
    for wrong in ((0, 0.5), (3, -0.1), (3, 1.5)):
        with pytest.raises(MeasurementError, match="at least one neighbour"):
            CaseSettings(*wrong)


def test_what_the_question_does_not_know_is_not_compared_and_said() -> None:
    base = CaseBase([case([1.0, 2.0]), case([3.0, 9.0])])
    asked = [1.0, math.nan, *[0.0] * (len(FEATURES) - 2)]
    found = base.nearest(asked)
    assert found.not_compared == (FEATURES[1], "platform")
    assert found.found[0].similarity == pytest.approx(1.0)


def test_a_case_of_which_less_is_known_is_never_nearer_than_one_that_agrees() -> None:
    load = FEATURES.index("load")
    features = [0.0] * len(FEATURES)
    unknown = [*features]
    unknown[load] = math.nan
    busy = [*features]
    busy[load] = 2.0
    base = CaseBase([case(unknown, "unknown"), case(features, "same"), case(busy, "busy")], ALL)
    order = [one.case.run for one in base.nearest(features).found]
    assert order[0] == "same"
    assert order.index("unknown") > 0


def test_another_platform_is_further_away() -> None:
    base = CaseBase([case([1.0], "other", platform="there"), case([1.3], "own")], ALL)
    assert [one.case.run for one in base.nearest(case([1.0]).features, "here").found] == ["own", "other"]
    assert base.nearest(case([1.0]).features).found[0].case.run == "other"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"observed_s": 10_000.0}, "off by more than 100 times"),
        ({"observed_s": 0.01}, "off by more than 100 times"),
        ({"observed_s": math.nan}, "no time"),
        ({"observed_s": -3.0}, "no time"),
        ({"predicted_s": 0.0}, "no time"),
        ({"features": (1.0, 2.0)}, "other features"),
        ({"features": (math.inf,) * len(FEATURES)}, "other features"),
        ({"features": (math.nan,) * 12 + (0.0,) * (len(FEATURES) - 12)}, "lacks most features"),
    ],
)
def test_a_case_that_cannot_be_is_left_out_and_named(wrong: dict[str, Any], reason: str) -> None:
    base = CaseBase([case([1.0], "good"), replace(case([1.0], "bad"), **wrong)])
    assert [one.run for one in base.cases] == ["good"]
    assert reason in base.rejected["bad"]


def test_an_empty_base_knows_nothing() -> None:
    assert CaseBase([]).nearest([0.0] * len(FEATURES)).found == ()


def test_workflows_can_be_left_out() -> None:
    base = CaseBase([case([1.0], "a", workflow="own"), case([2.0], "b", workflow="other")], ALL)
    assert [one.case.run for one in base.nearest([1.0, *[0.0] * 16], without_workflow="own").found] == ["b"]


def test_features_say_what_they_say() -> None:
    run = next(iter(generated_runs(1, 5)))
    workflow, nodes = run.makespans.workflow, run.makespans.times.nodes
    whole = dict(zip(FEATURES, run_features(run).tolist(), strict=True))
    assert whole["ln_nodes"] == math.log(nodes)
    assert whole["ln_tasks"] == pytest.approx(math.log(sum(stage.tasks for stage in workflow.stages)))
    assert whole["ln_predicted_s"] == pytest.approx(math.log(run.predicted_s))
    assert whole["load"] == run.load
    assert 0 <= whole["compute_share"] <= 1
    rows = stage_features(run)
    assert rows.shape == (len(workflow.stages), len(FEATURES))
    local = rows[:, FEATURES.index("local_share")]
    assert local.tolist() == [float(not run.makespans.catalog.tiers[t].shared) for t in run.layout]
    assert math.isnan(run_features(replace(run, load=None))[FEATURES.index("load")])
    assert {one.stage for one in stage_cases(run)} == set(workflow.stage_names)


def test_volumes_that_no_trace_tells_are_not_known() -> None:
    run = next(iter(generated_runs(1, 5)))
    times = replace(run.makespans.times, edge_bytes=None, output_bytes=None)
    blind = replace(run, makespans=replace(run.makespans, times=times))
    found = dict(zip(FEATURES, run_features(blind).tolist(), strict=True))
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "ln_read_bytes",
        "ln_written_bytes",
        "ln_io_rate",
    }
    assert run_case(blind).flaw is None
