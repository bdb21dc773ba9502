from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from qosflow_airflow.operators.clean import QoSCleanOperator
from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import FakeTaskInstance, KeptStore

pytestmark = pytest.mark.airflow

BEGAN = datetime.now(UTC) - timedelta(seconds=60)


@pytest.fixture
def summary(ti: FakeTaskInstance, published: ModelVersion) -> dict[str, Any]:
    """The recommendation of one node, all in memory, for a deadline of 10 s: the estimate is 5 s."""
    context: Any = {"ti": ti}
    operator = QoSRecommendOperator(task_id="recommend", workflow="two", max_nodes=1, deadline_s=10)
    return operator.execute(context)


@pytest.fixture
def records(summary: dict[str, Any]) -> Path:
    """Tasks ran from 100 s to 103 s and from 104 s to 106 s, with copies before and after."""
    folder = Path(summary["records"])
    write(folder / "split-0.json", stage="split", index=0, start_s=100, end_s=102, read_s=0.5, write_s=1.0)
    write(folder / "split-1.json", stage="split", index=1, start_s=100.5, end_s=103, read_s=1.5, write_s=0.5)
    write(folder / "split-2.json", stage="split", index=2, start_s=101, end_s=103, read_s=0.5, write_s=0.5)
    write(folder / "merge-0.json", stage="merge", index=0, start_s=104, end_s=106, read_s=1, write_s=1)
    copies = folder / "copies"
    write(copies / "in.json", stage="split", data_of="initial_data", start_s=99, end_s=99.5, copy_s=0.25)
    write(copies / "out.json", stage="merge", data_of="merge", start_s=108, end_s=109, copy_s=0.75)
    return folder


def write(path: Path, **record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def compare(ti: FakeTaskInstance, recommendation: Any) -> dict[str, Any]:
    operator = QoSCompareOperator(task_id="compare", recommendation=recommendation)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(start_date=BEGAN)}
    return operator.execute(context)


def test_measured_seconds_stand_beside_the_predicted_ones(
    ti: FakeTaskInstance, summary: dict[str, Any], records: Path, store: KeptStore
) -> None:
    found = compare(ti, summary)
    assert found["recommendation_id"] == summary["recommendation_id"]
    assert found["predicted_s"] == summary["makespan_s"] == 5.0
    assert found["measured_s"] == 109 - 99
    assert found["busy_s"] == 0.5 + 3 + 2 + 1
    assert found["met_deadline"] is True
    assert found["stages"]["split"] == {
        "tier": "ram",
        "tasks": 3,
        "predicted_s": 2.0,
        "measured_s": 3.0,
        "busy_s": 3.0,
        "predicted": {
            "stage_in_s": 0.5,
            "read_s": 1.0,
            "compute_s": 0.0,
            "write_s": 1.0,
            "stage_out_s": 0.0,
        },
        "measured": {
            "stage_in_s": 0.25,
            "read_s": 1.5,
            "compute_s": 1.0,
            "write_s": 1.0,
            "stage_out_s": 0.0,
        },
    }
    assert found["stages"]["merge"]["measured"]["stage_out_s"] == 0.75
    assert list(found["stages"]) == ["split", "merge"]
    assert 60 <= found["run_s"] <= (datetime.now(UTC) - BEGAN).total_seconds()
    assert found["airflow_s"] == pytest.approx(found["run_s"] - found["busy_s"])
    (kept,) = store.outcomes(summary["recommendation_id"])
    assert {"recommendation_id": summary["recommendation_id"], **kept.outcome} == found


def test_the_log_says_it_in_a_table(
    ti: FakeTaskInstance, summary: dict[str, Any], records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(ti, summary)
    logged = capsys.readouterr().out
    assert "Predicted 5.0 s, measured 10.0 s (+100%). The deadline of 10 s was met." in logged
    rows = [line.split() for line in logged.splitlines()]
    assert ["split", "ram", "3", "2.00", "3.00", "3.00", "0.50", "->", "0.25"] in rows
    assert ["whole", "run", "5.00", "10.00", "6.50"] in [row[:5] for row in rows]


def test_a_missed_deadline_is_no_failure_but_said(
    ti: FakeTaskInstance, summary: dict[str, Any], records: Path
) -> None:
    write(records / "merge-0.json", stage="merge", index=0, start_s=104, end_s=120, read_s=1, write_s=1)
    assert compare(ti, summary)["met_deadline"] is False


def test_stages_that_did_not_finish_fail_the_comparison(
    ti: FakeTaskInstance, summary: dict[str, Any], records: Path, store: KeptStore
) -> None:
    (records / "split-1.json").unlink()
    (records / "merge-0.json").unlink()
    with pytest.raises(AirflowFailException, match=r"split: 1 of 3 tasks; merge: 1 of 1.*clear them"):
        compare(ti, summary)
    assert store.outcomes(summary["recommendation_id"]) == ()


def test_a_damaged_record_is_named(ti: FakeTaskInstance, summary: dict[str, Any], records: Path) -> None:
    (records / "split-1.json").write_text('{"stage": "split"')
    with pytest.raises(AirflowFailException, match=r"split-1\.json.*Delete it"):
        compare(ti, summary)


def test_a_copy_of_unknown_duration_is_unknown(
    ti: FakeTaskInstance, summary: dict[str, Any], records: Path
) -> None:
    write(
        records / "copies" / "in.json",
        stage="split",
        data_of="initial_data",
        start_s=99,
        end_s=99,
        copy_s=None,
    )
    assert compare(ti, summary)["stages"]["split"]["measured"]["stage_in_s"] is None


def test_without_a_recommendation_there_is_nothing_to_compare(ti: FakeTaskInstance) -> None:
    with pytest.raises(AirflowFailException, match="no recommendation"):
        compare(ti, None)
    with pytest.raises(AirflowFailException, match="too slow"):
        compare(ti, {"status": "infeasible", "explanation": "too slow"})
    with pytest.raises(AirflowSkipException, match="too slow"):
        compare(ti, {"status": "skipped", "explanation": "too slow"})


def clean(recommendation: Any) -> list[str]:
    context: Any = {}
    return QoSCleanOperator(task_id="clean", recommendation=recommendation).execute(context)


def test_what_a_run_no_longer_needs_is_removed_and_nothing_else(
    summary: dict[str, Any], records: Path, mounts: dict[str, str]
) -> None:
    run = summary["recommendation_id"]
    kept = [records / "split-0.json", Path(mounts["disk"], run, "final", "merge", "all.txt")]
    kept += [Path(mounts["ram"], "other", "output", "x"), Path(mounts["disk"], "initial_data", "part1.txt")]
    for path in (*kept, *(Path(folder, "deep", "file") for folder in summary["temporary"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert clean(summary) == summary["temporary"]
    assert all(path.exists() for path in kept)
    assert not Path(mounts["ram"], run).exists()
    assert clean(summary) == []


def test_a_folder_that_is_not_the_run_s_own_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    for folder in (tmp_path / "precious", tmp_path / "abc", tmp_path / "abc" / ".." / "precious"):
        with pytest.raises(AirflowException, match="not removed"):
            clean({"recommendation_id": "abc", "temporary": [str(folder)]})
    assert (tmp_path / "precious").is_dir()
    with pytest.raises(AirflowSkipException):
        clean({"status": "infeasible"})
