"""``qosflow import``: from a trace to files that a bundle may hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.cli.import_traces import stages_of_logs
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers import darshan_observations
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.darshan_log import DarshanLog, DarshanRecord
from qosflow_airflow.readers.observations_csv import read_observations_csv
from tests.readers.test_wfformat import INSTANCE

RECORD = DarshanRecord("POSIX", "/data/in/a", 0, 4, 2, 400, 200, 1.0, 0.5, 0.25, 5.0)
LOG = DarshanLog(Path("one.darshan"), 7, 1, 1e9, 1e9 + 10, {"POSIX": False}, (RECORD,))


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    path = tmp_path / "instance.json"
    path.write_text(json.dumps(INSTANCE))
    return path


def test_an_instance_becomes_a_bundle(
    instance: Path, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "bundle"
    assert main(["import", "wfformat", str(instance), "--output", str(output)]) == OK
    assert "not told: storage tiers" in capsys.readouterr().out
    shutil.copy(data / "survey" / "profile.csv", output)
    bundle = read_bundle(output, tiers=["nfs", "tmpfs"])
    assert bundle.workflow.stage_names == ("part", "merge")
    assert bundle.observations is not None
    assert bundle.observations.stages == {"part", "merge"}


def test_what_is_there_is_kept_unless_forced(
    instance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = tmp_path / "workflow.yaml"
    edited.write_text("edited")
    command = ["import", "wfformat", str(instance), "--output", str(tmp_path)]
    assert main(command) == BAD_INPUT
    assert "workflow.yaml: is there already. Give another folder, or --force." in capsys.readouterr().err
    assert edited.read_text() == "edited"
    assert not (tmp_path / "observations.csv").exists()
    assert main([*command, "--force"]) == OK
    assert edited.read_text().startswith("name: survey")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "0"], "the nodes is '0'. Give a whole number"),
        (["--access-kib", "1.5"], "the access size is '1.5'"),
        (["--output", "{instance}"], "cannot be made: File exists"),
    ],
)
def test_wrong_options_are_said_and_nothing_is_written(
    arguments: list[str], message: str, instance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.replace("{instance}", str(instance)) for argument in arguments]
    output = tmp_path / "bundle"
    assert main(["import", "wfformat", str(instance), "--output", str(output), *given]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_logs_become_observations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(darshan_observations, "read_darshan_logs", lambda paths: [LOG for _ in paths])
    (tmp_path / "tiers.yaml").write_text("tiers: {disk: {shared: true, mount: /data/in}}\n")
    command = ["import", "darshan", "a.darshan", "merge=b.darshan", "--stage", "part", "--nodes", "3"]
    command += ["--tiers", str(tmp_path / "tiers.yaml"), "--output", str(tmp_path / "bundle")]
    assert main(command) == OK
    assert "not told: nodes; what the caller says counts" in capsys.readouterr().out
    frame = read_observations_csv(tmp_path / "bundle" / "observations.csv").frame
    assert set(zip(frame["stage"], frame["operation"], strict=True)) == {
        (stage, operation) for stage in ("part", "merge") for operation in ("read", "write")
    }
    assert set(frame["tier"]) == {"disk"}
    assert set(frame["nodes"]) == {3}
    assert set(frame["compute_s"]) == {8.25}


def test_every_log_has_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "run=1.darshan"
    odd.write_text("x")
    assert stages_of_logs([str(odd), "b=c"], "a") == {"a": [str(odd)], "b": ["c"]}
    with pytest.raises(MeasurementError, match="has no stage"):
        stages_of_logs([str(odd)], None)
    assert main(["import", "darshan", "x", "--nodes", "1", "--output", str(tmp_path / "b")]) == BAD_INPUT
    assert "x: has no stage. Give --stage NAME, or write NAME=LOG." in capsys.readouterr().err
