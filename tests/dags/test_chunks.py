"""A stage in another number of tasks, for real: finished runs ask for it, and the results stay the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.core.build_options import BuildOptions
from tests.dags.conftest import Installation, RunDag
from tests.dags.test_runs import returned, states

pytestmark = [pytest.mark.airflow, pytest.mark.system]


def digests(run_folder: Path) -> dict[str, str]:
    """The final outputs of a run: those of the last stages on the home tier."""
    found = {}
    for stage in ("mutation_overlap", "frequency"):
        for path in sorted(run_folder.glob(f"*/{stage}/*")):
            found[f"{stage}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_a_stage_that_has_run_is_tried_in_another_number_of_tasks(
    installation: Installation, run_dag: RunDag
) -> None:
    with installation.store() as store:
        pipeline.run(store, installation.bundle, BuildOptions(scales=(1,)), lambda _: None)
    first = run_dag("genome_local", deadline_s=600)
    assert first.state == "success", states(first)
    assert len(states(first)["individuals.run"]) == 10
    second = run_dag("genome_local", deadline_s=600, max_chunks={"individuals": 14})
    assert second.state == "success", states(second)
    before, summary = returned(first, "recommend"), returned(second, "recommend")
    assert "chunks" not in before
    chosen = summary["chunks"]["individuals"]
    if summary["configuration"] == before["configuration"]:
        assert chosen["why"] == "probe"
        assert 10 < chosen["chunks"] <= 14
    assert states(second)["individuals.run"] == ["success"] * chosen["chunks"]
    assert returned(second, "compare")["stages"]["individuals"]["tasks"] == chosen["chunks"]
    results = [digests(installation.disk / one["recommendation_id"]) for one in (before, summary)]
    assert results[0]
    assert results[0] == results[1]
