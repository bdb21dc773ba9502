"""`qosflow evaluate --ablation` on the runs of a real database, and answers that look into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from qosflow_airflow.answers import answer_request, replay
from qosflow_airflow.cli import OK, main
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.payload import encode
from qosflow_airflow.store.postgres import PostgresStore
from tests.support.small_model import publish_model, small_catalog, small_workflow

NAMES = ("two", "four", "six", "eight")


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    upgrade(database_url)
    monkeypatch.setenv("QOSFLOW_DATABASE_URL", database_url)
    with PostgresStore(database_url) as found:
        for name in NAMES:
            publish_model(
                found, replace(small_workflow(), name=name), small_catalog({"disk": "/disk", "ram": "/ram"})
            )
        yield found


def run(store: PostgresStore, workflow: str, factor: float = 1.5) -> None:
    record = answer_request(store, workflow, QoSRequest(max_nodes=1))[0]
    copies = {"split": (0.5, 0.0), "merge": (0.0, 0.5)}
    stages = {
        stage: {
            "measured_s": 2.0 * factor,
            "measured": {"stage_in_s": before_s * factor, "stage_out_s": after_s * factor},
        }
        for stage, (before_s, after_s) in copies.items()
    }
    store.add_outcome(record.recommendation_id, {"measured_s": 5.0 * factor, "stages": stages})


def test_layers_are_judged_on_stored_runs(store: PostgresStore, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES * 3:
        run(store, name)
    assert main(["evaluate", "--ablation", "--workflow", "two", "--format", "json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["left_out"]) == (3, {})
    rows = {(row["runs_of"], row["layer"]): row for row in found["rows"]}
    assert rows["all", "I/O model"]["median_error"] == pytest.approx(0.5)
    assert rows["all", "x calibration"]["mean_error"] < 0.45
    assert main(["evaluate", "--ablation", "--workflow", "two"]) == OK
    assert "finished runs of two; those of all workflows teach: 3 runs" in capsys.readouterr().out


def test_a_workflow_that_never_ran_has_no_table(
    store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--ablation", "--workflow", "two"]) == OK
    assert "there is nothing to judge yet" in capsys.readouterr().out
    assert main(["evaluate", "--ablation", "--workflow", "nobody"]) != OK
    assert "nobody" in capsys.readouterr().err


def test_an_answer_cites_stored_runs_and_is_made_again(store: PostgresStore) -> None:
    for name in NAMES:
        run(store, name)
    record = answer_request(store, "two", QoSRequest(max_nodes=1))[0]
    assert {one["workflow"] for one in record.answer["cases"]["similar"]} == set(NAMES)
    kept, again = replay(store, record.recommendation_id)
    assert encode(kept.answer, "answer") == encode(again, "answer")
