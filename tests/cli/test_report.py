"""How recommendations fared, and the same answer again, from a real database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from qosflow_airflow.answers import answer_again, answer_request
from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.payload import encode
from qosflow_airflow.store.postgres import PostgresStore
from tests.support.small_model import publish_model, small_catalog, small_workflow


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    upgrade(database_url)
    monkeypatch.setenv("QOSFLOW_DATABASE_URL", database_url)
    with PostgresStore(database_url) as found:
        publish_model(found, small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"}))
        yield found


def ask(store: PostgresStore, **request: Any) -> RecommendationRecord:
    return answer_request(store, "two", QoSRequest(max_nodes=1, **request))[0]


def tell(store: PostgresStore, record: RecommendationRecord, factor: float, wait_s: float = 0.0) -> None:
    measured = {"stage_in_s": 0.5, "stage_out_s": 0.5}
    stages = {stage: {"measured_s": 2.0 * factor, "measured": measured} for stage in ("split", "merge")}
    measured_s = 1.0 + 4.0 * factor + wait_s
    deadline_s = record.request["deadline_s"]
    store.add_outcome(
        record.recommendation_id,
        {
            "predicted_s": record.answer["run_s"],
            "measured_s": measured_s,
            "met_deadline": None if deadline_s is None else measured_s <= deadline_s,
            "stages": stages,
        },
    )


def test_a_report_says_how_predictions_held_and_what_they_are_corrected_by(
    store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for deadline_s in (30.0, 8.9, None):
        tell(store, ask(store, deadline_s=deadline_s), 1.5, wait_s=2.0)
    ask(store)
    ask(store, deadline_s=0.1)
    unfinished = ask(store)
    store.add_observations([Observation(unfinished.recommendation_id, "split", 0, 1, "failed")])
    assert main(["report", "--workflow", "two", "--format", "json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert found["recommendations"] == {"made": 6, "infeasible": 1}
    assert (found["runs"], found["not_compared"]) == (3, 1)
    assert found["deadlines"] == {"met": 1, "missed": 1}
    errors = [abs(run["predicted_s"] / run["observed_s"] - 1) for run in found["compared"]]
    assert errors == sorted(errors)  # newest first: every run made the next prediction better
    assert found["error"]["median_error"] == pytest.approx(errors[1])
    assert found["calibration"]["runs"] == 3
    assert found["calibration"]["drift"]["state"] == "unknown"
    assert main(["report", "--workflow", "two"]) == OK
    said = capsys.readouterr().out
    assert "6 recommendations, of which 1 found nothing feasible, and 3 were run and compared" in said
    assert "Deadlines: 1 met, 1 missed." in said
    assert "Corrected by 3 runs" in said
    assert "MISSED" in said


def test_a_report_of_nothing(store: PostgresStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--workflow", "two"]) == OK
    assert "0 recommendations" in capsys.readouterr().out
    assert main(["report", "--workflow", "nobody"]) == BAD_INPUT
    assert main(["report", "--workflow", "two", "--limit", "many"]) == BAD_INPUT
    assert main(["report", "--workflow", "two", "--limit", "0"]) == BAD_INPUT


@pytest.mark.parametrize(
    "request_fields", [{}, {"deadline_s": 40}, {"deadline_s": 0.5}, {"pin": {"split": "disk"}}]
)
def test_an_answer_is_made_again_byte_for_byte_whatever_was_learnt_since(
    store: PostgresStore, capsys: pytest.CaptureFixture[str], request_fields: dict[str, Any]
) -> None:
    for factor in (1.5, 1.7, 1.4):
        tell(store, ask(store), factor, wait_s=1.3)
    record = ask(store, **request_fields)
    assert record.answer["calibration"]["runs"] == 3
    tell(store, ask(store), 3.0)
    assert main(["replay", record.recommendation_id]) == OK
    assert "the same answer" in capsys.readouterr().out
    assert main(["replay", record.recommendation_id, "--format", "json"]) == OK
    assert capsys.readouterr().out == encode(store.recommendation(record.recommendation_id).answer, "") + "\n"


def test_a_plan_that_was_made_again_is_replayed_too(
    store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(store, ask(store), 1.5)
    first = ask(store)
    again, _, _ = answer_again(store, first, 1, {"split": "ram"}, {"ram": "full"}, dag_id="dag")
    assert again.answer["calibration"] == first.answer["calibration"]
    assert main(["replay", again.recommendation_id]) == OK
    assert "the same answer" in capsys.readouterr().out


def test_another_answer_is_noticed(store: PostgresStore, capsys: pytest.CaptureFixture[str]) -> None:
    record = ask(store)
    changed = {**record.answer, "makespan_s": 1.0}
    other = RecommendationRecord(record.model_id, "two", record.request, changed, "feasible")
    store.add_recommendation(other)
    assert main(["replay", other.recommendation_id]) == BAD_INPUT
    said = capsys.readouterr().out
    assert "ANOTHER ANSWER" in said
    assert "Differs: makespan_s." in said
    assert main(["replay", "nothing"]) == BAD_INPUT


def test_an_answer_with_an_interval_from_past_runs_is_made_again_from_the_database(
    store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in range(10):
        tell(store, ask(store), 1.3 + at % 4 / 17, wait_s=at % 3 / 7)
    record = ask(store, deadline_s=20.0)
    assert record.answer["interval"]["words"] == "from 10 past runs on 1 node"
    assert main(["replay", record.recommendation_id]) == OK
    assert "the same answer" in capsys.readouterr().out
    asked = ["recommend", "--workflow", "two", "--deadline-s", "20", "--max-nodes", "1"]
    assert main(asked) == OK
    assert "from 10 past runs on 1 node" in capsys.readouterr().out
    assert main([*asked, "--layers", "none"]) == OK
    plain = capsys.readouterr().out
    assert "Corrected by" not in plain
    assert "past runs" not in plain
