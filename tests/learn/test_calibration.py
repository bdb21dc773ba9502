"""Corrections by what runs took: towards the truth, slowly, and not because of one odd run."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.learn.calibration import Calibration, Residual, calibrate
from tests.support.instances import random_catalog, random_times, random_workflow

STAGES, TIERS = ("split", "merge"), ("pfs", "tmpfs")


def runs(count: int, factor: float, stage: str = "split", tier: str = "pfs") -> list[Residual]:
    return [Residual(f"r{at}", stage, tier, math.log(factor)) for at in range(count)]


def factor(found: Calibration, stage: str, tier: str) -> float:
    return found.corrections[stage, tier].factor


def test_without_runs_nothing_is_corrected() -> None:
    times = random_times(
        random.Random(1), random_workflow(random.Random(1)), random_catalog(random.Random(1)), 2
    )
    empty = calibrate([], STAGES, TIERS)
    assert empty.runs == 0
    assert empty.applied(times) is times


def test_a_correction_approaches_what_runs_take() -> None:
    found = [factor(calibrate(runs(n, 2.0), STAGES, TIERS), "split", "pfs") for n in (1, 2, 5, 20, 50)]
    assert found == sorted(found)
    assert 1.5 < found[0] < 1.9
    assert found[-1] == pytest.approx(2.0, rel=0.01)


def test_a_tier_that_was_never_tried_is_corrected_like_its_stage() -> None:
    found = calibrate(runs(20, 2.0), STAGES, TIERS)
    assert factor(found, "split", "tmpfs") > 1.8
    assert found.corrections["split", "tmpfs"].runs == 0
    assert 1.0 < factor(found, "merge", "pfs") < factor(found, "split", "tmpfs")


def test_tiers_of_a_stage_may_differ() -> None:
    both = [*runs(25, 3.0), *[r._replace(run=f"t{r.run}", tier="tmpfs") for r in runs(25, 1.0)]]
    found = calibrate(both, STAGES, TIERS)
    assert factor(found, "split", "pfs") > 2.5
    assert factor(found, "split", "tmpfs") < 1.2


@pytest.mark.parametrize("ratio", [1000.0, 1e-3, math.inf, 0.0, math.nan])
def test_a_run_that_cannot_be_is_left_out_and_named(ratio: float) -> None:
    odd = Residual("odd", "split", "pfs", math.log(ratio) if ratio > 0 else math.nan)
    found = calibrate([*runs(3, 1.5), odd], STAGES, TIERS)
    assert found.rejected == ("odd",)
    without = calibrate(runs(3, 1.5), STAGES, TIERS)
    assert found.to_json()["corrections"] == without.to_json()["corrections"]


def test_one_slow_run_among_several_moves_little() -> None:
    slow = Residual("slow", "split", "pfs", math.log(50))
    with_it = factor(calibrate([*runs(6, 1.5), slow], STAGES, TIERS), "split", "pfs")
    assert with_it == pytest.approx(factor(calibrate(runs(7, 1.5), STAGES, TIERS), "split", "pfs"))


def test_only_the_newest_runs_count() -> None:
    old = [r._replace(run=f"old{r.run}") for r in runs(50, 4.0)]
    found = calibrate([*old, *runs(50, 1.0)], STAGES, TIERS)
    assert found.to_json() == calibrate(runs(50, 1.0), STAGES, TIERS).to_json()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_what_a_stage_takes_on_a_tier_is_multiplied(seed: int) -> None:
    rng = random.Random(seed)
    workflow, catalog = random_workflow(rng), random_catalog(rng)
    times = random_times(rng, workflow, catalog, nodes=2, unknown=0.1)
    residuals = [
        Residual(f"r{run}", stage, tier, rng.gauss(0.3, 0.1))
        for run in range(8)
        for stage in times.stages
        for tier in times.tiers
    ]
    found = Calibration.from_json(
        json.loads(json.dumps(calibrate(residuals, times.stages, times.tiers).to_json()))
    )
    after = found.applied(times)

    def total(of: object) -> np.ndarray:
        return of.read.seconds + of.write.seconds + np.nan_to_num(of.compute.seconds)[:, None]  # type: ignore[attr-defined]

    factors = np.array([[factor(found, s, t) for t in times.tiers] for s in times.stages])
    unclipped = after.read.seconds > 0
    have, want = total(after), total(times) * factors
    np.testing.assert_allclose(have[unclipped], want[unclipped], rtol=1e-9)
    assert (np.isnan(have) == np.isnan(want)).all()
    np.testing.assert_array_equal(after.stage_in.seconds, times.stage_in.seconds)
