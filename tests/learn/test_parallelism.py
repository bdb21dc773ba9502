"""Parallelism: numbers come back from what they made, odd runs do not matter, and nothing locks itself in."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.learn.amdahl import AmdahlLaw, StageTiming
from qosflow_airflow.learn.chunk_choice import (
    PROBE_LIMIT,
    REVISIT_RUNS,
    ChunkGoal,
    choose_chunks,
    next_chunks,
)
from qosflow_airflow.learn.parallelism import StageParallelism
from qosflow_airflow.learn.parallelism_fit import WINDOW_RUNS, fit_parallelism

LAW = AmdahlLaw(single_s=100.0, parallel=0.8, exponent=1.2, startup_s=5.0)
MOST = 16


def timing(law: AmdahlLaw, chunks: int, scale: float = 1.0, factor: float = 1.0) -> StageTiming:
    took_s = float(law.seconds(np.array([float(chunks)]), scale)[0]) * factor
    return StageTiming(chunks, took_s, scale, law.startup_s)


def spread_runs(law: AmdahlLaw, count: int, noise: float = 0.0, seed: int = 1) -> list[StageTiming]:
    rng = np.random.default_rng(seed)
    return [
        timing(law, (1, 5, 3, 8, 2)[at % 5], (1.0, 2.0, 0.5)[at % 3], math.exp(noise * rng.normal()))
        for at in range(count)
    ]


def fit(runs: list[StageTiming]) -> StageParallelism:
    found = fit_parallelism(runs)
    assert found is not None
    return found


def test_the_law_in_numbers() -> None:
    law = AmdahlLaw(100.0, 0.8)
    np.testing.assert_allclose(law.seconds(np.array([1.0, 2.0, 4.0, 5.0])), [100.0, 60.0, 40.0, 36.0])
    assert LAW.seconds(np.array([1.0]), 2.0)[0] == pytest.approx(5 + 2**1.2 * 100)


@settings(max_examples=25, deadline=None)
@given(
    single_s=st.floats(5, 2000),
    parallel=st.floats(0.05, 0.98),
    exponent=st.floats(0.5, 2.0),
    startup_s=st.floats(0, 20),
)
def test_more_runs_without_noise_bring_the_law_back(
    single_s: float, parallel: float, exponent: float, startup_s: float
) -> None:
    law = AmdahlLaw(single_s, parallel, exponent, startup_s)
    error = []
    for count in (6, 45):
        found = fit(spread_runs(law, count)).law
        error.append(abs(found.parallel - parallel))
        assert found.startup_s == pytest.approx(startup_s)
    assert error[1] <= error[0] + 1e-4
    assert found.single_s == pytest.approx(single_s, rel=0.02)
    assert found.parallel == pytest.approx(parallel, abs=0.02)
    assert found.exponent == pytest.approx(exponent, abs=0.06)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            StageTiming,
            chunks=st.integers(-2, 64),
            seconds=st.floats(allow_nan=True, width=32),
            data_scale=st.floats(-1, 8),
            startup_s=st.floats(-1, 50),
        ),
        max_size=12,
    )
)
def test_whatever_runs_say_the_law_stays_within_bounds(runs: list[StageTiming]) -> None:
    found = fit_parallelism(runs)
    if found is None:
        assert not any(run.possible for run in runs)
        return
    assert 0 <= found.law.parallel <= 1
    assert 0.25 <= found.law.exponent <= 3
    assert found.runs + found.rejected == len(runs)
    estimate = found.estimate(np.arange(1.0, 9.0))
    assert np.isfinite(estimate.seconds).all()
    assert (estimate.seconds > 0).all()
    assert (estimate.log_sd > 0).all()


@pytest.mark.parametrize("factor", [1000.0, 1e-3])
def test_a_run_a_thousand_times_off_is_left_out(factor: float) -> None:
    runs = spread_runs(LAW, 20, noise=0.05)
    runs[7] = runs[7]._replace(seconds=max(runs[7].seconds * factor, runs[7].startup_s * 1.0001))
    poisoned, clean = fit(runs), fit([*runs[:7], *runs[8:]])
    assert poisoned.law.parallel == pytest.approx(clean.law.parallel, abs=0.02)
    assert poisoned.law.single_s == pytest.approx(clean.law.single_s, rel=0.03)
    if factor > 1:
        assert poisoned.rejected == 1
        assert poisoned.law == clean.law


def test_clocks_that_disagree_teach_nothing() -> None:
    runs = spread_runs(LAW, 6)
    wrong = [StageTiming(4, -3.0), StageTiming(0, 10.0), StageTiming(4, 10.0, startup_s=11.0)]
    found = fit([*runs, *wrong])
    assert found.law == fit(runs).law
    assert found.rejected == 3


def test_only_the_newest_runs_count() -> None:
    other = AmdahlLaw(700.0, 0.3, 1.0, 1.0)
    runs = spread_runs(LAW, WINDOW_RUNS, noise=0.03)
    assert fit([*spread_runs(other, 30), *runs]).law == fit(runs).law


def test_spread_shrinks_with_runs_and_grows_away_from_them() -> None:
    few, many = (fit(spread_runs(LAW, count, noise=0.08)) for count in (5, 50))
    at = np.array([2.0, 64.0])
    assert (many.estimate(at).log_sd < few.estimate(at).log_sd).all()
    known = fit([timing(LAW, chunks) for chunks in (1, 2) * 4])
    near, far = known.estimate(at).log_sd
    assert far > near


def test_intervals_hold_about_as_often_as_they_say() -> None:
    inside = []
    for seed in range(60):
        found = fit(spread_runs(LAW, 12, noise=0.08, seed=seed))
        one = timing(LAW, 4, factor=math.exp(0.08 * np.random.default_rng(seed + 999).normal()))
        estimate = found.estimate(np.array([4.0]))
        inside.append(abs(math.log(one.seconds / estimate.seconds[0])) <= 1.645 * estimate.log_sd[0])
    assert np.mean(inside) >= 0.8


def contended(chunks: int) -> float:
    """More chunks than four get in each other's way, which Amdahl's law does not know."""
    return 1.0 if chunks <= 4 else 1.0 + 0.15 * (chunks - 4)


def test_what_the_law_does_not_know_is_learnt_from_eight_points_on() -> None:
    rng = np.random.default_rng(3)
    runs = [
        timing(AmdahlLaw(100, 0.9), chunks, factor=contended(chunks) * math.exp(0.03 * rng.normal()))
        for chunks in (1, 2, 3, 4, 6, 8, 10, 12) * 3
    ]
    found = fit(runs)
    assert fit([run for run in runs if run.chunks != 12]).process is None
    assert found.process is not None
    truth = np.array(
        [timing(AmdahlLaw(100, 0.9), chunks, factor=contended(chunks)).seconds for chunks in (4, 10)]
    )
    off = np.abs(np.log(found.estimate(np.array([4.0, 10.0])).seconds / truth))
    law_off = np.abs(np.log(found.law.seconds(np.array([4.0, 10.0])) / truth))
    assert off.max() < 0.08
    assert off.sum() < law_off.sum()
    assert 3 <= int(choose_chunks(found, 12).chunks or 0) <= 6


def test_noise_alone_is_no_process() -> None:
    learnt = [fit(spread_runs(LAW, 30, noise=0.08, seed=seed)).process is not None for seed in range(40)]
    assert np.mean(learnt) <= 0.1


@pytest.mark.parametrize(("by_load", "used"), [(0.6, True), (0.0, False)])
def test_load_counts_only_where_it_predicts(by_load: float, used: bool) -> None:
    rng = np.random.default_rng(4)
    runs = []
    for run in spread_runs(LAW, 40, noise=0.05):
        load = float(rng.uniform(0, 1))
        runs.append(run._replace(seconds=run.seconds * math.exp(by_load * load), load=load))
    found = fit(runs)
    assert (found.usual_load is not None) == used
    if used:
        idle, busy = (found.estimate(np.array([3.0]), load=load).seconds[0] for load in (0.1, 0.9))
        assert busy / idle == pytest.approx(math.exp(0.6 * 0.8), rel=0.15)


def test_it_is_plain_json() -> None:
    rng = np.random.default_rng(3)
    contended_runs = [
        timing(AmdahlLaw(100, 0.9), chunks, factor=contended(chunks) * math.exp(0.03 * rng.normal()))
        for chunks in (1, 2, 3, 4, 6, 8, 10, 12) * 3
    ]
    for found in (fit(spread_runs(LAW, 4)), fit(contended_runs)):
        again = StageParallelism.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
        at = np.arange(1.0, 20.0)
        np.testing.assert_array_equal(again.estimate(at, 1.5).seconds, found.estimate(at, 1.5).seconds)
        assert next_chunks(again, MOST) == next_chunks(found, MOST)


def known() -> StageParallelism:
    return fit(spread_runs(LAW, 30))


def test_each_objective_has_its_number() -> None:
    found = known()
    chosen = {
        name: choose_chunks(found, MOST, ChunkGoal(name, node_price_per_hour=1.0)).chunks  # type: ignore[arg-type]
        for name in ("time", "node_hours", "cost", "knee", "published")
    }
    # T sqrt(s) is least at p T1 / (c + (1 - p) T1) = 80 / 25.
    assert chosen["published"] == 3
    assert chosen["node_hours"] == chosen["cost"] == 1
    assert 1 < int(chosen["knee"] or 0) < int(chosen["time"] or 0) <= MOST
    shared = ChunkGoal("node_hours", chunks_per_node=4)
    assert choose_chunks(found, MOST, shared).chunks == 4
    dear = ChunkGoal("cost", chunks_per_node=4, node_price_per_hour=1.0, price_per_chunk=0.05)
    assert choose_chunks(found, MOST, dear).chunks == 1


def test_constraints_are_met_or_said_to_be_impossible() -> None:
    found = known()
    met = choose_chunks(found, MOST, ChunkGoal("node_hours", deadline_s=46.0))
    assert met.chunks == 4
    sure = choose_chunks(found, MOST, ChunkGoal("node_hours", deadline_s=46.0, confidence=0.99))
    assert int(sure.chunks or 0) > 4
    late = choose_chunks(found, MOST, ChunkGoal(deadline_s=10.0))
    assert (late.chunks, late.why, late.binding) == (None, "infeasible", ("deadline_s",))
    assert "the nearest is 16 with 30 s" in late.words
    both = choose_chunks(found, MOST, ChunkGoal(deadline_s=40.0, max_node_hours=110 / 3600))
    assert (both.chunks, both.binding) == (None, ("deadline_s", "max_node_hours"))
    assert next_chunks(found, MOST, ChunkGoal(deadline_s=10.0)).chunks is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "speed"},
        {"deadline_s": 0.0},
        {"max_cost": math.nan},
        {"confidence": 1.0},
        {"chunks_per_node": 0},
    ],
)
def test_goals_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        ChunkGoal(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["time", "knee", "published"])
@pytest.mark.parametrize("runs", [1, 10, 50])
def test_one_chunk_does_not_hold_a_stage_for_ever(objective: str, runs: int) -> None:
    half = AmdahlLaw(100.0, 0.5, 1.0, 2.0)
    goal = ChunkGoal(objective)  # type: ignore[arg-type]
    timings = [timing(half, 1) for _ in range(runs)]
    first = next_chunks(fit(timings), MOST, goal)
    assert first.why == "probe"
    assert int(first.chunks or 0) > 1
    chosen = []
    for _ in range(2 * REVISIT_RUNS):
        chosen.append(int(next_chunks(fit(timings), MOST, goal).chunks or 0))
        timings.append(timing(half, chosen[-1]))
    assert set(chosen[-REVISIT_RUNS - 1 :]) != {1}
    if objective == "time":
        assert min(chosen) > 1


def test_nothing_is_tried_where_no_share_could_change_the_choice() -> None:
    """More chunks than one never take fewer node-hours, by the law, where each has a node of its own."""
    timings = [timing(LAW, 1) for _ in range(2 * REVISIT_RUNS)]
    alone, shared = (ChunkGoal("node_hours", chunks_per_node=count) for count in (1, 4))
    assert next_chunks(fit(timings), MOST, alone)[0::3] == (1, "best")
    assert next_chunks(fit(timings), MOST, shared).why == "probe"


def test_what_is_tried_is_not_far_from_what_ran() -> None:
    """Far away something else than the law may hold: fifty tasks on two nodes teach nothing about three."""
    once = next_chunks(fit([timing(LAW, 1)]), 64, ChunkGoal("published"))
    assert once.why == "probe"
    assert 2 <= int(once.chunks or 0) <= 4
    many = next_chunks(fit([timing(LAW, 40)]), 64, ChunkGoal("published"))
    assert int(many.chunks or 0) >= 10


def test_a_stage_that_was_taken_for_serial_is_found_out_when_it_is_not() -> None:
    """A poor run makes p look small, and then the stage runs in one chunk, where nothing shows the error."""
    law = AmdahlLaw(200.0, 0.95, 1.0, 1.0)
    goal = ChunkGoal("published")
    timings = [timing(law, 1), timing(law, 5, factor=4.5)]
    for _ in range(40):
        timings.append(timing(law, int(next_chunks(fit(timings), MOST, goal).chunks or 0)))
    assert int(choose_chunks(fit(timings), MOST, goal).chunks or 0) >= 10


@settings(max_examples=30, deadline=None)
@given(
    parallel=st.floats(0.3, 0.99), seed=st.integers(0, 1000), tried=st.sampled_from([(2, 3), (1, 2), (4, 5)])
)
def test_what_is_only_tried_costs_little_and_keeps_to_the_goal(
    parallel: float, seed: int, tried: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    law = AmdahlLaw(100.0, parallel)
    found = fit([timing(law, chunks, factor=math.exp(0.08 * rng.normal())) for chunks in tried])
    goal = ChunkGoal("published", deadline_s=80.0)
    best, following = choose_chunks(found, MOST, goal), next_chunks(found, MOST, goal)
    assert (best.chunks is None) == (following.chunks is None)
    if best.chunks and following.chunks:
        assert following.seconds <= 80.0
        scores = [one.seconds * math.sqrt(one.chunks or 0) for one in (best, following)]
        assert scores[1] <= PROBE_LIMIT * scores[0] + 1e-9


def test_a_choice_needs_numpy_alone() -> None:
    said = json.dumps(known().to_json())
    program = (
        "import json, sys\n"
        "from qosflow_airflow.learn.chunk_choice import next_chunks\n"
        "from qosflow_airflow.learn.parallelism import StageParallelism\n"
        f"print(next_chunks(StageParallelism.from_json(json.loads({said!r})), 16).chunks)\n"
        "print(sorted({'scipy', 'pandas', 'sklearn'} & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(next_chunks(known(), 16).chunks), "[]"]
