"""From stored runs to answers: what finished tasks and outcomes teach, on both kinds of evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from qosflow_airflow.answers import answer_request, load_model, replay
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learned import lesson_for
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.similar_runs import known_runs
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.payload import encode
from tests.support.small_model import publish_model, small_catalog, small_workflow, stage_times

COUNTS = {"split": 3, "merge": 1}


@pytest.fixture
def store() -> Store:
    kept = MemoryStore()
    publish_model(kept, small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"}))
    return kept


def recommended(store: Store) -> str:
    return answer_request(store, "two", QoSRequest(max_nodes=1))[0].recommendation_id


def outcome(factor: float = 1.0, wait_s: float = 0.0) -> dict[str, Any]:
    measured = {"stage_in_s": 0.0, "stage_out_s": 0.5}
    stages = {stage: {"measured_s": 2.0 * factor, "measured": measured} for stage in COUNTS}
    return {"measured_s": 4.5 + 4.0 * (factor - 1) + wait_s, "stages": stages}


def observed(identifier: str, factor: float = 1.0, **fields: Any) -> list[Observation]:
    """All tasks of a run: the stage's wall clock is that of all its tasks together."""
    found = []
    for stage, count in COUNTS.items():
        for index in range(count):
            values: dict[str, Any] = {"try_number": 1, "state": "success", "count": count}
            values |= {"start_s": 10.0 + index * 0.1, "end_s": 10.0 + 2.0 * factor - index * 0.2}
            values["start_s"] = 10.0 if index == count - 1 else values["start_s"]
            found.append(Observation(identifier, stage, index, **(values | fields)))
    return found


def factors(store: Store) -> dict[tuple[str, str], float]:
    loaded = load_model(store, "two")
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    return {key: found.factor for key, found in lesson.calibration.corrections.items() if found.runs}


def test_outcomes_and_observations_teach_alike() -> None:
    found = []
    for tell in ("outcome", "observations"):
        kept = MemoryStore()
        publish_model(kept, small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"}))
        identifier = recommended(kept)
        if tell == "outcome":
            kept.add_outcome(identifier, outcome(1.5))
        else:
            kept.add_observations(observed(identifier, 1.5))
        found.append(factors(kept))
    assert found[0] == pytest.approx(found[1])
    assert found[0]["split", "ram"] > 1.15


def test_what_starting_pods_takes_is_overhead_and_makes_no_stage_slower(store: Store) -> None:
    identifier = recommended(store)
    # As Airflow sees tasks that are pods: each is 8 s older than the program in it.
    store.add_observations(observed(identifier, start_s=2.0))
    store.add_outcome(identifier, outcome(wait_s=16.0))
    assert list(factors(store).values()) == pytest.approx([1.0, 1.0])
    kept = answer_request(store, "two", QoSRequest(max_nodes=1, deadline_s=30.0))[0]
    assert kept.answer["overhead_s"] == pytest.approx(16.0)
    assert kept.answer["run_s"] == pytest.approx(kept.answer["makespan_s"] + 16.0)
    assert "On top come 16.0 s" in kept.answer["explanation"]
    # Compared with a deadline, it counts.
    assert kept.answer["makespan_s"] < 18.0
    assert answer_request(store, "two", QoSRequest(max_nodes=1, deadline_s=18.0))[0].status == "infeasible"


def test_the_second_answer_is_closer_and_says_why(store: Store) -> None:
    first = answer_request(store, "two", QoSRequest(max_nodes=1))[0]
    store.add_outcome(first.recommendation_id, outcome(1.5, wait_s=3.0))
    second = answer_request(store, "two", QoSRequest(max_nodes=1))[0]
    truth_s = outcome(1.5, wait_s=3.0)["measured_s"]
    assert abs(second.answer["run_s"] - truth_s) < 0.5 * abs(first.answer["run_s"] - truth_s)
    assert "Corrected by 1 run: split on ram takes 1.4 times its estimate" in second.answer["explanation"]
    assert second.answer["overhead_s"] == pytest.approx(3.0, abs=0.6)
    assert store.recommendation(second.recommendation_id).answer == second.answer


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"state": "failed"}, "failed"),
        ({"try_number": 2}, "tried again"),
        ({"source": "user"}, "set by somebody"),
    ],
)
def test_tries_that_did_not_go_as_planned_never_teach_even_where_the_outcome_looks_fine(
    store: Store, wrong: dict[str, Any], reason: str
) -> None:
    identifier = recommended(store)
    store.add_outcome(identifier, outcome(5.0))
    store.add_observations(observed(identifier, 5.0, **wrong))
    loaded = load_model(store, "two")
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    assert lesson.calibration.runs == 0
    assert lesson.overhead_s == 0
    assert reason in lesson.left_out[identifier]


def test_a_stage_of_which_tasks_are_missing_does_not_teach(store: Store) -> None:
    identifier = recommended(store)
    store.add_observations(observed(identifier, 1.5)[1:])
    assert set(factors(store)) == {("merge", "ram")}


@pytest.mark.parametrize("tell", ["outcome", "observations"])
def test_a_stage_in_another_number_of_tasks_is_not_held_against_the_estimate(store: Store, tell: str) -> None:
    identifier = recommended(store)
    if tell == "outcome":
        told = outcome(1.5)
        told["stages"]["split"]["tasks"], told["stages"]["merge"]["tasks"] = 6, 1
        store.add_outcome(identifier, told)
    else:
        merge = [one for one in observed(identifier, 1.5) if one.stage == "merge"]
        values = {"try_number": 1, "state": "success", "count": 6, "start_s": 10.0, "end_s": 13.0}
        split = [Observation(identifier, "split", index, **values) for index in range(6)]
        store.add_observations([*merge, *split])
    assert set(factors(store)) == {("merge", "ram")}
    loaded = load_model(store, "two")
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    assert lesson.left_out == {identifier: "split ran in 6 tasks, not 3"}


def in_six_tasks(store: Store, took_s: float, foretold_s: float, foretold_tasks: int = 6) -> str:
    """Tell a run with a stage in six tasks instead of three, that were foretold to take so long."""
    identifier = recommended(store)
    told = outcome()
    told["stages"]["split"] |= {"tasks": 6, "measured_s": took_s}
    told["stages"]["split"] |= {"predicted_tasks": foretold_tasks, "predicted_s": foretold_s}
    told["measured_s"] += took_s - 2.0
    store.add_outcome(identifier, told)
    return identifier


def test_a_number_of_tasks_is_held_against_what_was_foretold_of_it(store: Store) -> None:
    for took_s in (1.0, 1.1, 0.9):
        in_six_tasks(store, took_s, foretold_s=1.0)
    # It teaches nothing of three tasks, and yet the run is known as a whole.
    assert set(factors(store)) == {("merge", "ram")}
    loaded = load_model(store, "two")
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    assert lesson.left_out == {}
    # Of 4 s that are foretold, 1 s is the stage's; no copy was made before it, which was foretold as well.
    off = sorted(4.0 * math.exp(one.log_ratio) for one in lesson.errors.own)
    assert off == pytest.approx([3.4, 3.5, 3.6])


def test_what_was_foretold_of_another_number_than_ran_does_not_count(store: Store) -> None:
    identifier = in_six_tasks(store, 1.0, foretold_s=1.0, foretold_tasks=4)
    loaded = load_model(store, "two")
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    assert lesson.left_out == {identifier: "split ran in 6 tasks, not 3"}
    assert lesson.errors.own == ()


def test_similar_runs_are_held_against_their_numbers_of_tasks_too(store: Store) -> None:
    in_six_tasks(store, 1.0, foretold_s=1.0)
    (run,) = known_runs(PastRuns(store), "two").runs
    assert run.predicted_s == pytest.approx(4.0)
    assert {one.stage for one in run.residuals()} == {"merge"}


def test_a_clock_that_runs_backwards_is_said_and_teaches_nothing(store: Store) -> None:
    identifier = recommended(store)
    store.add_observations(observed(identifier, -3.0))
    answer = answer_request(store, "two", QoSRequest())[0].answer
    assert answer["calibration"]["runs"] == 0
    assert "end before they begin" in answer["calibration"]["left_out"][identifier]
    assert identifier in answer["explanation"]


@pytest.mark.parametrize(
    "bad",
    [
        {"stages": []},
        {"stages": {"split": None}},
        {"stages": {"split": {"measured_s": "long"}}},
        {"stages": {"split": {"measured_s": 1.0, "measured": []}}},
        {"measured_s": "x", "stages": {}},
    ],
)
def test_an_outcome_that_cannot_be_read_is_said_and_crashes_nothing(
    store: Store, bad: dict[str, Any]
) -> None:
    identifier = recommended(store)
    store.add_outcome(identifier, bad)
    answer = answer_request(store, "two", QoSRequest())[0].answer
    assert answer["calibration"]["runs"] == 0
    assert "cannot be read" in answer["calibration"]["left_out"][identifier]


def test_a_poisoned_run_moves_nothing(store: Store) -> None:
    for factor in (1.5, 1.5, 1.5):
        store.add_outcome(recommended(store), outcome(factor, wait_s=2.0))
    loaded = load_model(store, "two")
    before = lesson_for(PastRuns(store), loaded.version, loaded.model)
    store.add_outcome(recommended(store), outcome(1000.0, wait_s=9000.0))
    after = lesson_for(PastRuns(store), loaded.version, loaded.model)
    assert after.to_json()["corrections"] == before.to_json()["corrections"]
    assert after.overhead_s == before.overhead_s
    assert len(after.calibration.rejected) == 1


def told(store: Store, workflow: str, count: int, factor: float = 1.3) -> None:
    """Runs of a workflow that take some more than estimated, each another time."""
    for at in range(count):
        record = answer_request(store, workflow, QoSRequest(max_nodes=1))[0]
        noise = 1 + 0.1 * ((at * 7) % 5 - 2)
        store.add_outcome(record.recommendation_id, outcome(factor * noise, wait_s=1.0 + at % 3))


def test_an_interval_comes_from_past_runs_once_they_are_enough_and_the_answer_is_made_again(
    store: Store,
) -> None:
    told(store, "two", 9)
    record = answer_request(store, "two", QoSRequest(max_nodes=1, deadline_s=20))[0]
    interval = record.answer["interval"]
    assert interval["words"] == "from 9 past runs on 1 node"
    assert interval["p05_s"] < record.answer["makespan_s"] < interval["p95_s"]
    assert "In nine of ten runs the makespan is between" in record.answer["explanation"]
    assert len(record.answer["calibration"]["errors"]["own"]) == 9
    told(store, "two", 3, factor=2.0)  # what is learnt later changes nothing of what was said
    kept, again = replay(store, record.recommendation_id)
    assert encode(kept.answer, "answer") == encode(again, "answer")


def test_runs_of_workflows_with_the_same_stages_make_a_new_one_less_sure(store: Store) -> None:
    catalog = small_catalog({"disk": "/disk", "ram": "/ram"})
    times = stage_times(small_workflow(), catalog, 1)
    for name in ("read", "write", "compute", "stage_in", "stage_out"):
        getattr(times, name).log_sd[...] = 0.01
    for name in ("alike", "other", "third"):
        publish_model(store, replace(small_workflow(), name=name), catalog, {1: times})
    one_stage = replace(small_workflow(), name="single", stages=small_workflow().stages[:1])
    publish_model(store, one_stage, catalog)
    before = answer_request(store, "alike", QoSRequest())[0].answer["interval"]
    assert before["words"] == "from the model's rates"
    told(store, "two", 4)
    told(store, "other", 4)
    assert answer_request(store, "alike", QoSRequest())[0].answer["interval"] == before
    told(store, "single", 2)
    pooled = answer_request(store, "alike", QoSRequest())[0].answer["interval"]
    assert pooled["words"].endswith("10 past runs of other workflows were off")
    told(store, "third", 2)
    record = answer_request(store, "alike", QoSRequest())[0]
    after = record.answer["interval"]
    assert (after["source"], after["runs"]) == ("both", 10)
    assert after["words"].endswith(
        "at least as wide as 10 past runs of workflows with the same stages were off"
    )
    assert after["p95_s"] / after["p05_s"] > 1.5 * before["p95_s"] / before["p05_s"]
    kept, again = replay(store, record.recommendation_id)
    assert encode(kept.answer, "answer") == encode(again, "answer")


def test_each_layer_can_be_left_out(store: Store) -> None:
    told(store, "two", 12, factor=2.0)

    def answer(*names: str) -> dict[str, Any]:
        layers = Layers.parse(names)
        return dict(answer_request(store, "two", QoSRequest(max_nodes=1), layers=layers)[0].answer)

    nothing, everything = answer(), answer(*Layers._fields)
    assert (nothing["makespan_s"], nothing["overhead_s"], nothing["interval"]) == (5.0, 0.0, None)
    assert "cases" not in nothing
    assert everything["makespan_s"] > 5.5
    assert everything["cases"]
    assert answer("cases")["makespan_s"] == 5.0
    assert answer("calibration")["interval"] is None  # as the model knows none
    # Runs tell how far the plain model is off, too: further than the corrected one.
    plain, corrected = answer("intervals"), answer("intervals", "calibration")
    assert plain["makespan_s"] == 5.0
    widths = [one["interval"]["p95_s"] / one["interval"]["p05_s"] for one in (plain, corrected)]
    assert widths[0] > 1.2 * widths[1]


def test_answering_imports_neither_pandas_nor_scikit_learn() -> None:
    import subprocess
    import sys

    heavy = ("pandas", "sklearn", "scipy")
    code = f"import sys, qosflow_airflow.answers; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
