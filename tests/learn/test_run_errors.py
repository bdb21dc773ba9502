"""Intervals from how far past runs were off: right as often as they say, never narrower than runs allow."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.learn.finished_run import FinishedRun
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.lessons import Lesson, recommend_with
from qosflow_airflow.learn.run_errors import RunError, RunErrors, early_errors, left_out_errors
from qosflow_airflow.learn.teaching import learn, whole_runs
from tests.support.small_model import small_catalog, small_workflow, stage_times

WORKFLOW, CATALOG = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
STAGES = WORKFLOW.stage_names
ON_RAM = QoSRequest(pin={"split": "ram", "merge": "ram"}, max_nodes=1)


def model(claimed_log_sd: float = 0.05) -> Model:
    """Stages of 2 s in memory and 8 s on disk at one node, copies of 0.5 s, all said to be so sure."""
    spread = dict.fromkeys(("read", "write", "compute", "stage_in", "stage_out"), claimed_log_sd)
    scales = []
    for nodes in (1, 2):
        times = stage_times(WORKFLOW, CATALOG, nodes)
        for name in spread:
            getattr(times, name).log_sd[...] = claimed_log_sd
        scales.append(ScaleModel(nodes, times))
    return Model(WORKFLOW, CATALOG, COMPLETE, tuple(scales))


def runs_on_ram(rng: np.random.Generator, count: int, bias: float, noise: float) -> list[FinishedRun]:
    """Runs whose stages take other times than estimated, each run as a whole with some noise."""
    off = np.exp(rng.normal(0.0, bias, 2))
    found = []
    for at in range(count):
        whole = math.exp(rng.normal(0.0, noise))
        stage_s = dict(zip(STAGES, (2.0 * off * whole).tolist(), strict=True))
        found.append(
            FinishedRun(
                f"r{at}",
                float(at),
                1,
                dict.fromkeys(STAGES, "ram"),
                stage_s,
                {"split": (0.5, 0.0), "merge": (0.0, 0.5)},
                sum(stage_s.values()) + 1.0,
            )
        )
    return found


def interval(taught: Sequence[FinishedRun], layers: Layers, tier: str = "ram") -> dict[str, Any]:
    """The interval of both stages on a tier of one node."""
    layout = [CATALOG.index[tier]] * 2
    found = learn(model(), taught, layers=layers).search(model()).draws(1).interval(layout)
    assert found is not None
    return found


ALL, OWN = Layers(), Layers(intervals=False)


@pytest.mark.parametrize(
    ("bias", "noise", "taught"),
    [(0.6, 0.05, 12), (0.0, 0.3, 20), (0.3, 0.15, 16)],
    ids=["a biased model", "a model that is too sure", "both"],
)
def test_intervals_of_many_workflows_hold_nine_runs_of_ten(bias: float, noise: float, taught: int) -> None:
    rng = np.random.default_rng(7)
    held: dict[Layers, list[bool]] = {ALL: [], OWN: [], Layers(calibration=False, intervals=False): []}
    for _ in range(80):
        *past, last = runs_on_ram(rng, taught + 1, bias, noise)
        for layers, hits in held.items():
            found = interval(past, layers)
            hits.append(found["p05_s"] <= (last.measured_s or 0.0) <= found["p95_s"])
    with_all, own, alone = (float(np.mean(hits)) for hits in held.values())
    assert 0.83 <= with_all <= 0.97
    assert abs(with_all - 0.9) < abs(own - 0.9)
    assert abs(with_all - 0.9) < abs(alone - 0.9)


def test_an_answer_says_where_its_interval_comes_from() -> None:
    taught = runs_on_ram(np.random.default_rng(1), 12, 0.3, 0.1)
    for count, source, words in (
        (0, "model", "from the model's rates"),
        (8, "model", "from the model's rates"),
        (12, "past_runs", "from 12 past runs on 1 node"),
    ):
        answer = recommend_with(model(), ON_RAM, learn(model(), taught[:count])).answer
        assert (answer["interval"]["source"], answer["interval"]["words"]) == (source, words)
        assert answer["interval"]["runs"] == (12 if count == 12 else 0)
        assert words in answer["explanation"]


def test_an_interval_from_past_runs_is_as_wide_as_they_were_off() -> None:
    errors = RunErrors(
        tuple(RunError(1, off, 0.0) for off in np.linspace(-0.4, 0.5, 19)),
        tried={1: frozenset((stage, "ram") for stage in STAGES)},
    )
    found = recommend_with(model(), ON_RAM, Lesson(errors=errors)).answer
    # The 18th of 19 sizes: nine of ten, and one more run.
    ends = [found["interval"][name] / found["makespan_s"] for name in ("p05_s", "p50_s", "p95_s")]
    assert ends == pytest.approx([math.exp(-0.45), 1.0, math.exp(0.45)], rel=0.002)


def test_a_configuration_that_has_not_run_keeps_its_own_spread_and_may_only_become_less_sure() -> None:
    rng = np.random.default_rng(2)
    steady, restless = runs_on_ram(rng, 15, 0.0, 0.001), runs_on_ram(rng, 15, 0.0, 0.4)

    def width(taught: Sequence[FinishedRun], layers: Layers, tier: str) -> float:
        found = interval(taught, layers, tier)
        return float(found["p95_s"] / found["p05_s"])

    assert width(steady, ALL, "ram") < 1.02
    assert width(steady, ALL, "disk") == pytest.approx(width(steady, OWN, "disk"), rel=1e-6)
    assert width(restless, ALL, "disk") > 1.5 * width(restless, OWN, "disk")
    assert interval(restless, ALL, "disk")["source"] == "both"


def test_runs_on_other_node_counts_only_widen() -> None:
    errors = RunErrors(tuple(RunError(2, 0.001, 0.0) for _ in range(12)))
    spread = errors.spread(1)
    assert spread is not None
    assert (spread.runs, spread.whose, spread.tried) == (12, "on any number of nodes", frozenset())
    plain = recommend_with(model(), ON_RAM, Lesson()).answer["interval"]
    found = recommend_with(model(), ON_RAM, Lesson(errors=errors)).answer["interval"]
    assert found["p95_s"] == pytest.approx(plain["p95_s"])


def test_no_run_tells_anything_of_itself() -> None:
    taught = runs_on_ram(np.random.default_rng(4), 10, 0.2, 0.05)
    before = learn(model(), taught).errors.own
    slow = taught[3]._replace(
        stage_s={stage: 3 * seconds for stage, seconds in taught[3].stage_s.items()},
        measured_s=3 * (taught[3].measured_s or 0.0) - 2.0,
    )
    after = learn(model(), [*taught[:3], slow, *taught[4:]]).errors.own
    longer = (slow.measured_s or 0.0) / (taught[3].measured_s or 1.0)
    assert after[3].log_ratio - before[3].log_ratio == pytest.approx(math.log(longer))


def test_runs_of_other_workflows_count_as_they_were_foretold_when_as_few_had_taught() -> None:
    timed = whole_runs(model(), runs_on_ram(np.random.default_rng(5), 12, 0.8, 0.01))
    runs = [one.run for one in timed]
    none, five = (np.abs(early_errors(runs, taught)) for taught in (0, 5))
    assert (len(none), len(five)) == (12, 7)
    assert five.max() < 0.5 * none.max()
    assert early_errors(runs[:3], 3) == ()


def test_a_model_that_no_longer_holds_is_less_sure_than_its_runs_were() -> None:
    rng = np.random.default_rng(6)
    steady = runs_on_ram(rng, 16, 0.0, 0.03)
    slower = [
        run._replace(
            run=f"s{run.run}",
            stage_s={stage: 2 * seconds for stage, seconds in run.stage_s.items()},
            measured_s=2 * (run.measured_s or 0.0) - 1.0,
        )
        for run in runs_on_ram(rng, 6, 0.0, 0.03)
    ]
    lesson = learn(model(), [*steady, *slower])
    assert lesson.drift.state == "stale"
    stale = recommend_with(model(), ON_RAM, lesson).answer["interval"]
    assert stale["source"] == "both"
    assert stale["p95_s"] / stale["p05_s"] > 2 * 1.5


def test_what_airflow_takes_longer_at_times_counts_against_a_deadline() -> None:
    waits = [0.0, 4.0] * 10
    taught = [
        run._replace(measured_s=(run.measured_s or 0.0) + wait_s)
        for run, wait_s in zip(runs_on_ram(np.random.default_rng(8), 20, 0.0, 0.02), waits, strict=True)
    ]
    lesson = learn(model(), taught)
    assert lesson.overhead_s == pytest.approx(2.0)
    request = replace(ON_RAM, deadline_s=8.5)
    found = recommend_with(model(), request, lesson).answer
    assert found["interval"]["p95_s"] < 6.5  # of the makespan alone
    assert 0.5 < found["interval"]["p_deadline"] < 0.95
    sure = recommend_with(model(), replace(request, confidence=0.95), lesson).answer
    assert sure["status"] == "infeasible"


def test_runs_without_a_spread_of_the_model_tell_one() -> None:
    unknown = model(math.nan)
    taught = runs_on_ram(np.random.default_rng(9), 12, 0.2, 0.1)
    assert recommend_with(unknown, ON_RAM, learn(unknown, [])).answer["interval"] is None
    found = recommend_with(unknown, ON_RAM, learn(unknown, taught)).answer["interval"]
    assert found["source"] == "past_runs"
    kept = recommend_with(unknown, replace(ON_RAM, deadline_s=9.0, confidence=0.9), learn(unknown, taught))
    assert kept.answer["status"] == "feasible"


def test_errors_are_kept_in_an_answer_and_read_again() -> None:
    errors = left_out_errors([])
    assert RunErrors.from_json(json.loads(json.dumps(errors.to_json()))) == errors
    found = learn(model(), runs_on_ram(np.random.default_rng(3), 10, 0.1, 0.1)).errors
    assert len(found.own) == 10
    assert RunErrors.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_layers_are_named() -> None:
    assert Layers.parse("calibration,parallelism,cases,intervals") == Layers()
    assert Layers.parse(" cases ") == Layers(False, False, True, False)
    assert not any(Layers.parse("none"))
    with pytest.raises(RequestError, match="no layer magic"):
        Layers.parse("magic,cases")


def test_without_calibration_nothing_is_corrected_and_intervals_are_those_of_the_plain_model() -> None:
    taught = [
        run._replace(measured_s=(run.measured_s or 0.0) + 3.0)
        for run in runs_on_ram(np.random.default_rng(10), 12, 0.0, 0.01)
    ]
    lesson = learn(model(), taught, layers=Layers(calibration=False))
    answer = recommend_with(model(), ON_RAM, lesson).answer
    assert (answer["makespan_s"], answer["overhead_s"]) == (5.0, 0.0)
    assert all(one.overhead_s == pytest.approx(3.0) for one in lesson.errors.own)
