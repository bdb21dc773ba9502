"""Drift: found soon when it is there, seldom when it is not."""

from __future__ import annotations

import numpy as np
import pytest

from qosflow_airflow.learn.drift import BASELINE_RUNS, Drift, DriftState, detect_drift


def noisy(seed: int, count: int, level: float = 0.0, sd: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, sd, count)


@pytest.mark.parametrize("count", range(BASELINE_RUNS + 1))
def test_few_runs_tell_nothing(count: int) -> None:
    assert detect_drift([5.0] * count) == Drift(DriftState.UNKNOWN)


def test_a_model_that_was_always_off_by_the_same_does_not_drift() -> None:
    assert detect_drift((noisy(1, 40) + 0.7).tolist()).state == DriftState.OK


def test_false_alarms_are_seldom() -> None:
    stale = [detect_drift(noisy(seed, 30).tolist()).state == DriftState.STALE for seed in range(300)]
    assert np.mean(stale) < 0.1


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_tier_twice_as_slow_or_fast_is_found_within_four_runs(factor: float) -> None:
    found = []
    for seed in range(100):
        drift = detect_drift([*noisy(seed, 15), *noisy(seed + 1000, 4, np.log(factor))])
        found.append(drift.state == DriftState.STALE)
        if found[-1]:
            assert np.exp(drift.shift) == pytest.approx(factor, rel=0.35)
    assert np.mean(found) > 0.95


def test_one_odd_run_is_not_a_drift() -> None:
    series = noisy(3, 20)
    series[12] = 6.0
    assert detect_drift(series.tolist()).state == DriftState.OK


def test_a_drift_says_since_when_and_how_much() -> None:
    drift = detect_drift([0.0, 0.01, -0.01, 0.02, -0.02, 0.0, 0.01, 0.7, 0.69, 0.71])
    assert drift.state == DriftState.STALE
    assert drift.since == 7
    assert drift.words == "runs take 2 times what they took, since run 8"


def test_what_is_not_a_number_is_left_out() -> None:
    series = [0.0, 0.01, np.nan, -0.01, 0.02, np.inf, -0.02, 0.0]
    assert detect_drift(series).state == DriftState.OK
