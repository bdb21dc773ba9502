"""A first run in a number of tasks that the I/O model chose, for real, and what is kept of it."""

from __future__ import annotations

import json

import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.answers import replay
from qosflow_airflow.core.build_options import BuildOptions
from tests.dags.conftest import Installation, RunDag
from tests.dags.test_runs import returned, states

pytestmark = [pytest.mark.airflow, pytest.mark.system]


def test_before_a_stage_has_run_the_io_model_chooses_its_number_of_tasks(
    installation: Installation, run_dag: RunDag
) -> None:
    # Ten tasks on four slots take three waves; four or eight tasks leave no slot empty.
    tiers = installation.bundle / "tiers.yaml"
    slots = next(line for line in tiers.read_text().splitlines() if "slots:" in line)
    tiers.write_text(tiers.read_text().replace(slots, slots.split(":")[0] + ": 4"))
    with installation.store() as store:
        pipeline.run(store, installation.bundle, BuildOptions(scales=(1,)), lambda _: None)
    run = run_dag("genome_local", deadline_s=600, max_chunks={"individuals": 9})
    assert run.state == "success", states(run)
    summary, outcome = returned(run, "recommend"), returned(run, "compare")
    chosen = summary["chunks"]["individuals"]
    assert (chosen["why"], chosen["by"], chosen["was"]) == ("cold", "model", 10)
    assert chosen["chunks"] in (4, 8)
    assert states(run)["individuals.run"] == ["success"] * chosen["chunks"]
    # What is compared is what was foretold of this number.
    with installation.store() as store:
        record, again = replay(store, summary["recommendation_id"])
        assert json.loads(json.dumps(again)) == record.answer
    parts = record.answer["stage_s"]["individuals"]
    stage = outcome["stages"]["individuals"]
    assert stage["predicted_s"] == pytest.approx(parts["read_s"] + parts["compute_s"] + parts["write_s"])
    assert stage["predicted_tasks"] == chosen["chunks"]
    assert stage["predicted_s"] < chosen["own_s"]
    # The next run knows of this one.
    later = returned(run_dag("genome_local", deadline_s=600, max_chunks={"individuals": 9}), "recommend")
    if later["configuration"] == summary["configuration"]:
        assert later["chunks"]["individuals"]["by"] == "runs"
    assert later["learned"]
