"""What runs teach about a model: corrections, overhead, drift; and what must not teach."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.learn.drift import DriftState
from qosflow_airflow.learn.finished_run import FinishedRun, waiting_s
from qosflow_airflow.learn.lessons import Lesson, recommend_with
from qosflow_airflow.learn.teaching import learn
from tests.support.small_model import small_catalog, small_workflow, stage_times

WORKFLOW, CATALOG = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
MODEL = Model(WORKFLOW, CATALOG, COMPLETE, (ScaleModel(1, stage_times(WORKFLOW, CATALOG, 1)),))
RAM = {"split": "ram", "merge": "ram"}


def run(at: int, factor: float = 1.0, wait_s: float = 0.0, **fields: Any) -> FinishedRun:
    """A run on ``ram``, where 2 s are estimated for each stage, with copies of 0.5 s before and after."""
    values: dict[str, Any] = {
        "stage_s": {"split": 2.0 * factor, "merge": 2.0 * factor},
        "copies_s": {"split": (0.5, 0.0), "merge": (0.0, 0.5)},
        "measured_s": 1.0 + 4.0 * factor + wait_s,
    }
    return FinishedRun(f"r{at}", float(at), 1, RAM, **(values | fields))


def test_without_runs_the_answer_is_the_model_s_own() -> None:
    lesson = learn(MODEL, [])
    assert lesson.applied(MODEL) is MODEL
    assert lesson.words == []
    request = QoSRequest(deadline_s=10)
    plain, found = recommend(MODEL, request).answer, recommend_with(MODEL, request, lesson).answer
    assert {**found, "calibration": None} == {**plain, "calibration": None}
    assert found["calibration"]["runs"] == 0


def test_predictions_come_closer_with_every_run() -> None:
    errors = []
    for count in (0, 1, 2, 5, 20):
        lesson = learn(MODEL, [run(at, 1.6, 3.0) for at in range(count)])
        errors.append(abs(recommend_with(MODEL, QoSRequest(), lesson).answer["run_s"] - (1.0 + 6.4 + 3.0)))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.5 * errors[0]
    assert errors[-1] < 0.05 * errors[0]


def test_the_overhead_counts_against_the_deadline_and_in_what_would_help() -> None:
    lesson = learn(MODEL, [run(at, wait_s=4.0) for at in range(3)])
    assert lesson.overhead_s == pytest.approx(4.0)
    assert "On top come 4.0 s" in lesson.words[-1]
    kept = recommend_with(MODEL, QoSRequest(deadline_s=10), lesson).answer
    assert (kept["makespan_s"], kept["run_s"], kept["overhead_s"]) == (5.0, 9.0, pytest.approx(4.0))
    assert kept["slack"]["deadline_s"] == pytest.approx(1.0)
    assert kept["request"]["deadline_s"] == 10
    for deadline_s in (8.5, 3.0):  # between makespan and both together; below what comes on top alone
        missed = recommend_with(MODEL, QoSRequest(deadline_s=deadline_s), lesson).answer
        assert missed["binding"] == ["deadline_s"]
        assert missed["nearest"]["run_s"] == pytest.approx(9.0)
        (repair, *_) = missed["repairs"]
        assert repair["words"] == "a deadline of 9 s"
        again = QoSRequest(**{"deadline_s": deadline_s} | repair["changes"])
        assert recommend_with(MODEL, again, lesson).answer["status"] == "feasible"


def test_overhead_is_what_the_critical_path_does_not_explain() -> None:
    assert waiting_s(WORKFLOW, run(0, wait_s=2.5)) == pytest.approx(2.5)
    assert waiting_s(WORKFLOW, run(0, measured_s=1.0)) == 0.0
    assert waiting_s(WORKFLOW, run(0, measured_s=None)) is None
    assert waiting_s(WORKFLOW, run(0, stage_s={"split": 2.0})) is None
    assert waiting_s(WORKFLOW, run(0, stage_s={"split": math.nan, "merge": 2.0})) is None


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (run(9, 1000.0), "100 times off"),
        (run(9, stage_s={"split": math.nan, "merge": 2.0}), "not there"),
        (run(9, stage_s={"split": -5.0, "merge": 2.0}), "not there"),
        (run(9, stage_s={"split": 2.0, "merge": 0.0}), "not there"),
        (run(9)._replace(nodes=7), "7 nodes"),
        (run(9)._replace(tiers={"split": "tape", "merge": "ram"}), "configuration"),
        (run(9)._replace(tiers={}), "configuration"),
        (run(9, stage_s={}, left_out=("split had tasks that failed",)), "failed"),
    ],
)
def test_a_run_that_cannot_be_teaches_nothing_and_is_named(odd: FinishedRun, reason: str) -> None:
    good = [run(at, 1.5, 2.0) for at in range(3)]
    lesson, without = learn(MODEL, [*good, odd]), learn(MODEL, good)
    assert lesson.calibration.to_json()["corrections"] == without.calibration.to_json()["corrections"]
    assert lesson.overhead_s == without.overhead_s
    assert reason in lesson.left_out["r9"]
    assert f"Not all runs teach: r9 ({lesson.left_out['r9']})." in lesson.words


def test_stages_that_the_model_does_not_know_are_left_out_and_named() -> None:
    both = run(0, stage_s={"split": 3.0, "merge": 3.0, "shuffle": 99.0})
    lesson = learn(MODEL, [both])
    assert lesson.calibration.runs == 1
    assert "shuffle" in lesson.left_out["r0"]


def test_an_old_model_that_no_longer_holds_is_said_and_widens_intervals_only() -> None:
    rng = random.Random(3)
    runs = [run(at, (1.0 if at < 15 else 2.0) * math.exp(rng.gauss(0, 0.02))) for at in range(22)]
    lesson = learn(MODEL, runs)
    assert lesson.drift.state == DriftState.STALE
    assert lesson.added_log_sd == pytest.approx(math.log(2), abs=0.1)
    assert any("no longer holds" in words and "run 16" in words for words in lesson.words)
    before, after = MODEL.scales[0].times, lesson.applied(MODEL).scales[0].times
    steady = Lesson(lesson.calibration, lesson.overhead_s).applied(MODEL).scales[0].times
    assert (after.read.seconds == steady.read.seconds).all()
    assert (after.read.log_sd[:, 1] > steady.read.log_sd[:, 1]).all()
    assert before is MODEL.scales[0].times


def on_two_tiers(at: int, disk: float, ram: float, moved: float | None) -> FinishedRun:
    """``split`` runs on ``disk``, where 8 s are estimated, ``merge`` on ``ram``, where 2 s are."""
    noise = math.exp(random.Random(at).gauss(0, 0.02))
    stage_s = {"split": 8.0 * disk * noise, "merge": 2.0 * ram * noise}
    tiers = {"split": "disk", "merge": "ram"}
    return run(at, stage_s=stage_s, moved_bytes=moved)._replace(tiers=tiers)


@pytest.mark.parametrize(
    ("disk", "ram", "before", "after", "cause"),
    [
        (2.0, 2.0, 1e9, 2e9, "the data have changed: runs move 2 times as many bytes"),
        (2.0, 1.0, 1e9, 1e9, "the platform has changed: stages on disk have"),
        (2.0, 1.0, None, None, "the platform has changed: stages on disk have"),
        (2.0, 2.0, 1e9, 1.01e9, "the code has changed, or the platform as a whole"),
        (2.0, 2.0, None, 1e9, ""),
    ],
)
def test_what_a_drift_comes_from_is_said_as_far_as_runs_tell(
    disk: float, ram: float, before: float | None, after: float | None, cause: str
) -> None:
    runs = [on_two_tiers(at, 1.0, 1.0, before) for at in range(12)]
    runs += [on_two_tiers(at, disk, ram, after) for at in range(12, 18)]
    lesson = learn(MODEL, runs)
    assert lesson.drift.state == DriftState.STALE
    assert cause in lesson.cause
    assert bool(cause) == bool(lesson.cause)
    assert lesson.cause in " ".join(lesson.words)
    assert Lesson.from_json(lesson.to_json()).to_json() == lesson.to_json()


ONE, TWO = {"images": ("app:1",)}, {"images": ("app:2",)}
DAG, NEXT_DAG = {"dag_versions": ("a",)}, {"dag_versions": ("b",)}


@pytest.mark.parametrize(
    ("before", "after", "moved", "cause"),
    [
        (ONE, TWO, 1e9, "the code has changed: image app:2, which was app:1"),
        (ONE, ONE, 1e9, "from the same image: the platform has changed as a whole"),
        (ONE, ONE, None, "from the same image: the data have changed, or the platform"),
        (DAG, NEXT_DAG, None, "the code has changed: version of the Dag b, which was a"),
        (DAG, DAG, 1e9, "a program beside the Dag has changed, or the platform as a whole"),
        ({"dag_versions": ("a", "b")}, {}, 1e9, "the code has changed, or the platform as a whole"),
        ({}, TWO, None, ""),
    ],
)
def test_another_code_is_told_from_another_platform(
    before: dict[str, Any], after: dict[str, Any], moved: float | None, cause: str
) -> None:
    runs = [on_two_tiers(at, 1.0, 1.0, moved)._replace(**before) for at in range(12)]
    runs += [on_two_tiers(at, 2.0, 2.0, moved)._replace(**after) for at in range(12, 18)]
    found = learn(MODEL, runs).cause
    assert cause in found
    assert bool(cause) == bool(found)


def test_a_code_that_changed_at_another_time_is_not_the_cause() -> None:
    runs = [on_two_tiers(at, 1.0, 1.0, 1e9)._replace(images=(f"app:{at // 6}",)) for at in range(12)]
    runs += [on_two_tiers(at, 2.0, 2.0, 1e9)._replace(images=("app:1",)) for at in range(12, 18)]
    assert "image" not in learn(MODEL, runs).cause
    assert "the code has changed, or the platform as a whole" in learn(MODEL, runs).cause


def test_once_the_model_is_built_again_only_the_runs_since_the_drift_teach() -> None:
    rng = random.Random(3)
    runs = [run(at, (1.0 if at < 15 else 2.0) * math.exp(rng.gauss(0, 0.02))) for at in range(22)]
    lesson = learn(MODEL, runs, model_at_s=22.0)
    assert lesson.drift.state != DriftState.STALE
    assert lesson.calibration.runs == 7
    assert len(lesson.left_out) == 15
    assert lesson.calibration.corrections["split", "ram"].factor > 1.6
    # A model of before the drift stays what it was.
    assert learn(MODEL, runs, model_at_s=10.0).drift.state == DriftState.STALE


def test_an_answer_is_made_again_from_what_it_holds() -> None:
    rng = random.Random(5)
    runs = [run(at, math.exp(rng.gauss(0.3, 0.2)), rng.random()) for at in range(12)]
    for request in (QoSRequest(deadline_s=20.0), QoSRequest(deadline_s=1.5)):
        answer = recommend_with(MODEL, request, learn(MODEL, runs)).answer
        held = json.loads(json.dumps(answer))
        again = recommend_with(
            MODEL, QoSRequest.parse(held["request"]), Lesson.from_json(held["calibration"])
        ).answer
        assert json.dumps(again) == json.dumps(answer)
