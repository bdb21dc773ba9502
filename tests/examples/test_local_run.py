from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from genome import digests
from local_run import WorkflowRun, run_workflow

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "genome" / "workflow.yaml"
STAGES = ("individuals", "individuals_merge", "sifting", "mutation_overlap", "frequency")


@pytest.fixture
def workflow() -> Workflow:
    """The template with fewer tasks."""
    template = read_workflow_yaml(TEMPLATE)
    few = [replace(stage, tasks=3 if stage.name == "individuals" else 1) for stage in template.stages]
    return replace(template, stages=tuple(few))


@pytest.fixture
def catalog(tmp_path: Path) -> TierCatalog:
    return TierCatalog(
        (
            StorageTier("disk", shared=True, mount=str(tmp_path / "disk")),
            StorageTier("tmpfs", shared=False, mount=str(tmp_path / "tmpfs")),
            StorageTier("ssd", shared=False, mount=str(tmp_path / "ssd")),
        )
    )


def _outputs(run: WorkflowRun, tiers: dict[str, str], disk: Path) -> dict[str, dict[str, str]]:
    """Return the digests of the data that is kept: on the shared tier, wherever the stage ran."""
    kept = {}
    for stage in ("mutation_overlap", "frequency"):
        copied = disk / "final" / stage
        kept[stage] = digests(run.outputs[stage] if tiers[stage] == "disk" else copied)
    return kept


def test_any_tiers_and_any_parallelism_give_the_same_results(
    workflow: Workflow, catalog: TierCatalog, tmp_path: Path, initial_data: Path
) -> None:
    choices = [
        (dict.fromkeys(STAGES, "disk"), 1),
        (dict(zip(STAGES, ("tmpfs", "ssd", "disk", "tmpfs", "ssd"), strict=True)), 3),
    ]
    results = []
    for number, (tiers, processes) in enumerate(choices):
        said: list[str] = []
        run = run_workflow(
            workflow,
            catalog,
            tiers,
            run_id=f"run{number}",
            initial_data=initial_data,
            processes=processes,
            say=said.append,
        )
        for stage, folder in run.outputs.items():
            assert folder.is_relative_to(tmp_path / tiers[stage] / f"run{number}")
        copies = [line for line in said if " copied from " in line]
        _check_times(run)
        assert bool(copies) == (set(tiers.values()) != {"disk"})
        results.append(_outputs(run, tiers, tmp_path / "disk" / f"run{number}"))
        assert not list(tmp_path.rglob("*.part"))
    assert results[0] == results[1]
    assert len(results[0]["frequency"]) == 12


def _check_times(run: WorkflowRun) -> None:
    """A stage waits for its predecessors, and for them only."""
    times = run.stages
    assert times["individuals"].end_s <= times["individuals_merge"].begin_s
    assert times["individuals_merge"].end_s <= times["frequency"].begin_s
    assert times["sifting"].begin_s < times["individuals_merge"].begin_s
    assert max(stage.end_s for stage in times.values()) <= run.seconds


def test_a_failed_task_ends_the_run_and_says_why(
    workflow: Workflow, catalog: TierCatalog, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "columns.txt").write_text("HG1")
    tiers = dict.fromkeys(STAGES, "disk")
    # Both stages that read the outside input begin together; either may miss its files first.
    first = r"of stage (individuals|sifting) ended with code 2: .* no file matches"
    with pytest.raises(MeasurementError, match=first):
        run_workflow(workflow, catalog, tiers, run_id="run", initial_data=empty, processes=1)
    assert not (tmp_path / "disk" / "run" / "output" / "individuals_merge").exists()
