"""Both Dags, run for real: real programs on real folders, a real Postgres behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.dags.conftest import Installation, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.system]


def states(run: Any) -> dict[str, list[str]]:
    """Return the states of each task's instances."""
    found: dict[str, list[str]] = {}
    for ti in run.get_task_instances():
        found.setdefault(ti.task_id, []).append(str(ti.state))
    return found


def returned(run: Any, task_id: str, key: str = "return_value") -> Any:
    """Return what a task pushed."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = XComModel.get_many(run_id=run.run_id, key=key, task_ids=task_id, dag_ids=run.dag_id)
    with create_session() as session:
        value = session.scalars(query).first()
        return None if value is None else XComModel.deserialize_value(value)


@pytest.fixture(scope="module")
def model(installation: Installation) -> Any:
    """The run of the pipeline Dag that published a model of the genome workflow."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(Path(__file__).resolve().parents[2] / "dags"))
    conf = {"bundle": str(installation.bundle), "scales": "1,2"}
    return bag.dags["qosflow_pipeline"].test(run_conf=conf)


def test_the_pipeline_publishes_a_model_and_says_so(model: Any, installation: Installation) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    assert model.state == "success"
    assert states(model) == {
        "open_build": ["success"],
        **{f"scale.{step}": ["success"] * 2 for step in ("project", "estimate", "cost", "regions")},
        "publish": ["success"],
    }
    published = returned(model, "publish")
    with installation.store() as store:
        version = store.newest_model("genome")
    assert published == {
        "model_id": version.model_id,
        "workflow": "genome",
        "version": version.version,
        **version.summary,
    }
    assert version.summary["scales"] == [1, 2]
    with create_session() as session:
        (event,) = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == model.run_id))
        assert event.uri == "qosflow://models/genome"
        assert event.extra == {"workflow": "genome", "model_id": version.model_id, "version": version.version}


def test_between_tasks_go_identifiers_and_counts_only(model: Any) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        values = session.scalars(select(XComModel.value).where(XComModel.run_id == model.run_id)).all()
    assert len(values) == 2 + 4 * 2 + 1
    assert max(len(str(value)) for value in values) < 500


def test_a_registered_workflow_is_found_by_name(
    model: Any, installation: Installation, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__QOSFLOW__WORKFLOWS", f'{{"by name": "{installation.bundle}"}}')
    run = run_dag("qosflow_pipeline", bundle="by name", scales="1", name="renamed", tiers="disk")
    assert run.state == "success"
    with installation.store() as store:
        assert store.newest_model("renamed").summary["configurations"] == {"1": 1}


@pytest.mark.parametrize(
    "conf",
    [
        {"bundle": "/etc"},
        {"bundle": "{bundle}/../../../../../../../etc"},
        {"bundle": "nobody knows it"},
        {"bundle": "{bundle}", "transfer_times": "/etc/passwd"},
        {"bundle": "{bundle}", "transfer_times": "../../disk/initial_data/columns.txt"},
        {"bundle": "{bundle}", "tiers": "tape"},
        {"bundle": "{bundle}", "scales": "0"},
    ],
)
def test_what_must_not_or_cannot_be_read_fails_at_once_and_stores_nothing(
    conf: dict[str, str], installation: Installation, run_dag: RunDag, capsys: pytest.CaptureFixture[str]
) -> None:
    with installation.store() as store:
        before = store.models(), store.list_workflows()
    asked = {name: value.format(bundle=installation.bundle) for name, value in conf.items()}
    run = run_dag("qosflow_pipeline", **asked)
    assert run.state == "failed"
    assert states(run)["open_build"] == ["failed"]
    assert "root:" not in capsys.readouterr().out
    with installation.store() as store:
        assert (store.models(), store.list_workflows()) == before


def test_without_roots_no_bundle_is_read(
    installation: Installation,
    run_dag: RunDag,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AIRFLOW__QOSFLOW__BUNDLE_ROOTS")
    assert run_dag("qosflow_pipeline", bundle=str(installation.bundle)).state == "failed"
    assert "bundle_roots" in capsys.readouterr().out


def test_a_step_that_fails_publishes_nothing(
    model: Any, installation: Installation, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qosflow_airflow import pipeline
    from qosflow_airflow.exceptions import MeasurementError

    def broken(_store: Any, _build_id: str, nodes: int) -> dict[str, Any]:
        if nodes == 2:
            raise MeasurementError("The regions of 2 nodes fail.")
        return {}

    monkeypatch.setattr(pipeline, "regions", broken)
    with installation.store() as store:
        before = store.newest_model("genome")
    run = run_dag("qosflow_pipeline", bundle=str(installation.bundle), scales="1,2")
    assert run.state == "failed"
    assert sorted(states(run)["scale.regions"]) == ["failed", "success"]
    assert states(run)["publish"] == ["upstream_failed"]
    with installation.store() as store:
        assert store.newest_model("genome") == before


def test_the_genome_workflow_runs_on_the_chosen_tiers_and_is_compared(
    model: Any, installation: Installation, run_dag: RunDag
) -> None:
    run = run_dag("genome_local", deadline_s=600, max_nodes=1)
    assert run.state == "success"
    found = states(run)
    assert found["individuals.run"] == ["success"] * 10
    assert found["frequency.run"] == ["success"] * 2
    summary, comparison = returned(run, "recommend"), returned(run, "compare")
    assert summary["status"] == "feasible"
    assert summary["configuration"]["nodes"] == 1
    assert comparison["recommendation_id"] == summary["recommendation_id"]
    assert comparison["predicted_s"] == summary["run_s"]
    assert comparison["met_deadline"] is True
    assert set(comparison["stages"]) == set(summary["configuration"]["tiers"])
    assert all(stage["measured_s"] > 0 for stage in comparison["stages"].values())
    with installation.store() as store:
        record = store.recommendation(summary["recommendation_id"])
        (outcome,) = store.outcomes(summary["recommendation_id"])
    assert (record.dag_id, record.run_id, record.task_id) == ("genome_local", run.run_id, "recommend")
    assert outcome.outcome["measured_s"] == comparison["measured_s"]
    link = returned(run, "recommend", "_link_QoSRecommendationLink")
    assert link == f"/qosflow/recommendations/{summary['recommendation_id']}"
    check_folders(installation, summary)


def check_folders(installation: Installation, summary: dict[str, Any]) -> None:
    """Final outputs and records lie on the home tier; nothing else of the run is left."""
    home = installation.disk / summary["recommendation_id"]
    for stage in ("mutation_overlap", "frequency"):
        on_home = summary["configuration"]["tiers"][stage] == "disk"
        folder = home / "output" / stage if on_home else home / "final" / stage
        assert any(folder.iterdir())
    assert len(list((home / "records").glob("*.json"))) == 18
    assert not (home / "staged").exists()
    assert not (installation.memory / summary["recommendation_id"]).exists()


def test_a_deadline_that_cannot_be_met_fails_before_anything_runs(
    model: Any, installation: Installation, run_dag: RunDag
) -> None:
    run = run_dag("genome_local", deadline_s=0.001)
    assert run.state == "failed"
    found = states(run)
    assert found.pop("recommend") == found.pop("compare") == ["failed"]
    assert {state for several in found.values() for state in several} == {"upstream_failed"}
    summary = returned(run, "recommend")
    assert summary["status"] == "infeasible"
    assert summary["binding"] == ["deadline_s"]
    assert not (installation.disk / summary["recommendation_id"]).exists()


def test_a_run_with_a_failed_stage_fails_says_which_and_keeps_its_folders(
    model: Any, installation: Installation, run_dag: RunDag, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.with_name("broken").write_text("sifting")
    run = run_dag("genome_local", deadline_s=600)
    assert run.state == "failed"
    found = states(run)
    assert found["sifting.run"] == ["failed"] * 2
    assert found["individuals_merge.run"] == ["success"] * 2
    # No stage runs on what another failed to write, whether or not it would be copied.
    assert found["mutation_overlap.run"] == found["frequency.run"] == ["upstream_failed"]
    assert found["compare"] == ["failed"]
    assert found["clean"] == ["upstream_failed"]
    assert "sifting: 2 of 2 tasks" in capsys.readouterr().out
    summary = returned(run, "recommend")
    with installation.store() as store:
        assert store.outcomes(summary["recommendation_id"]) == ()
    assert (installation.disk / summary["recommendation_id"] / "records").is_dir()
