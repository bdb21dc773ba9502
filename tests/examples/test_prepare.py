from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import prepare
import pytest
from collector import FileAccess, TaskTrace
from generate import SIZES
from local_run import StageRun, WorkflowRun

from qosflow_airflow.core.estimate import estimate_stage_times
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.rates_csv import read_rates_csv
from qosflow_airflow.readers.tiers_yaml import read_tiers_yaml
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

PRODUCTS = {"workflow.yaml", "tiers.yaml", "profile.csv", "observations.csv", "run.json", "prepared.json"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> prepare.Settings:
    template = prepare.TEMPLATE.read_text().replace("tasks: 10", "tasks: 3").replace("tasks: 2", "tasks: 1")
    (tmp_path / "template.yaml").write_text(template)
    monkeypatch.setattr(prepare, "TEMPLATE", tmp_path / "template.yaml")
    tiers = {"disk": tmp_path / "disk", "tmpfs": tmp_path / "tmpfs"}
    return prepare.Settings(tmp_path / "bundle", tiers, SIZES["tests"], processes=2, budget_s=0.1)


def test_a_bundle_has_all_that_an_estimate_needs(settings: prepare.Settings) -> None:
    prepare.prepare(settings)
    assert {path.name for path in settings.bundle.iterdir()} == PRODUCTS
    workflow = read_workflow_yaml(settings.bundle / "workflow.yaml")
    catalog = read_tiers_yaml(settings.bundle / "tiers.yaml")
    observations = read_observations_csv(settings.bundle / "observations.csv")
    profile = StorageProfile(read_rates_csv(settings.bundle / "profile.csv"))
    assert catalog.names == ("disk", "tmpfs")
    assert catalog.shared == (True, False)
    assert catalog.home == "disk"
    assert catalog.node.slots == 2
    times = estimate_stage_times(workflow, catalog, TracedVolumes(workflow, observations), profile, 1)
    for table in (times.read, times.write):
        assert (table.seconds > 0).all()
        assert (table.provenance <= Provenance.EXTRAPOLATED).all()
    assert (times.compute.seconds > 0).all()
    summary = json.loads((settings.bundle / "run.json").read_text())
    assert Path(summary["initial_data"]) == settings.initial_data
    assert summary["stages"]["individuals_merge"]["tasks"] == 1
    pieces = summary["stages"]["individuals"]["write_mib"]
    assert summary["stages"]["individuals_merge"]["read_mib"] == pieces > 0
    # nothing but the input stays on the tiers
    assert [path.name for path in settings.tiers["disk"].iterdir()] == ["initial_data"]
    assert list(settings.tiers["tmpfs"].iterdir()) == []


def quick_run(*arguments: object, initial_data: Path, **options: object) -> WorkflowRun:
    """Stand in for the traced run where the test is not about it."""
    records = initial_data.parent / "records"
    TaskTrace("sifting", 0, 1, accesses={("read", "a", ""): FileAccess("read", "a", "initial_data")}).save(
        records
    )
    return WorkflowRun(1.0, {"sifting": StageRun(0.0, 1.0)}, (), {}, records)


def test_what_is_there_is_kept_and_what_changed_is_made(
    settings: prepare.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "run_workflow", quick_run)

    def made(changed: prepare.Settings) -> set[str]:
        prepare.prepare(changed)
        lines = capsys.readouterr().out.splitlines()
        return {line.removesuffix(": written") for line in lines if line.endswith(": written")}

    everything = {"workflow.yaml", "tiers.yaml", "profile.csv", "observations.csv"}
    assert made(settings) == everything
    edited = settings.bundle / "tiers.yaml"
    edited.write_text(edited.read_text().replace("node:\n", "node:\n  price_per_hour: 3.5\n"))
    assert made(settings) == set()
    assert read_tiers_yaml(edited).node.price_per_hour == 3.5
    (settings.bundle / "profile.csv").unlink()
    assert made(settings) == {"profile.csv"}
    (settings.bundle / "run.json").unlink()
    assert made(settings) == {"observations.csv"}
    assert made(replace(settings, size=replace(settings.size, variants=50))) == {"observations.csv"}
    assert made(replace(settings, force=True)) == everything


def test_a_failed_trace_keeps_what_was_made_and_leaves_nothing_else(
    settings: prepare.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "run_workflow", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(settings)
    assert {path.name for path in settings.bundle.iterdir()} == PRODUCTS - {"observations.csv", "run.json"}
    assert [path.name for path in settings.tiers["disk"].iterdir()] == ["initial_data"]
    profile = (settings.bundle / "profile.csv").read_bytes()
    monkeypatch.setattr(prepare, "run_workflow", quick_run)
    prepare.prepare(settings)
    assert (settings.bundle / "profile.csv").read_bytes() == profile


def test_too_little_space_is_said_before_anything_is_written(
    settings: prepare.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "usable_bytes", lambda folder: 1 << 20)
    tiers = [f"--tier={name}={folder}" for name, folder in settings.tiers.items()]
    assert prepare.main(["--output", str(settings.bundle), *tiers, "--size=large"]) == 2
    assert "choose a smaller --size" in capsys.readouterr().err
    assert not settings.initial_data.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tier", "disk"], "'disk' is not NAME=FOLDER"),
        (["--tier", "a=x", "--tier", "a=y"], "two tiers have the same name or folder"),
        (["--tier", "a=x", "--tier", "b=x"], "two tiers have the same name or folder"),
        (["--tier", "a=x", "--size", "huge"], "size 'huge' is neither"),
        (["--tier", "a=x", "--processes", "0"], "'0' is not a number from 1 to 1024"),
    ],
)
def test_wrong_arguments_are_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        prepare.main(["--output", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


def test_a_tier_with_a_hyphen_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        prepare.main(["--output", str(tmp_path / "b"), f"--tier=my-disk={tmp_path}/t", "--size=tests"]) == 2
    )
    assert "a hyphen separates the two tiers of a copy" in capsys.readouterr().err
