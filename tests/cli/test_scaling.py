"""``qosflow scaling infer`` and builds at another scale."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from qosflow_airflow.cli import main
from qosflow_airflow.cli.exit_codes import BAD_INPUT, OK
from qosflow_airflow.readers.scaling_yaml import read_scaling_yaml
from tests.support.bundles import observations, write_bundle


def grown(factor: float) -> str:
    """The bundle's trace with ``factor`` times the volumes."""
    lines = list(csv.reader(observations().splitlines()))
    volume, count = lines[0].index("aggregateFilesizeMB"), lines[0].index("opCount")
    rows = [",".join(lines[0])]
    for line in lines[1:]:
        line[volume], line[count] = (str(float(line[at]) * factor) for at in (volume, count))
        rows.append(",".join(f'"{cell}"' for cell in line))
    return "\n".join(rows) + "\n"


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three runs whose volumes grow with the data."""
    names = []
    for factor in (1, 2, 3):
        path = tmp_path / f"run{factor}.csv"
        path.write_text(grown(factor), encoding="utf-8")
        names.append(f"{path}@data={factor}" if factor > 1 else str(path))
    return names


def test_rules_are_printed_and_written(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scaling.yaml"
    assert main(["scaling", "infer", *runs, "--output", str(output)]) == OK
    told = capsys.readouterr().out.splitlines()
    assert "split: read linear (k_d); from 3 runs, leave-one-out error 0.0%" in told
    assert "merge: tasks constant; from 3 runs, leave-one-out error 0.0%" in told
    rules = read_scaling_yaml(output)
    assert rules.rules["split", "read_bytes"].data == 1.0
    assert rules.rules["split", "read_bytes"].inferred
    assert rules.data_range == (1.0, 3.0)


def test_a_persons_rule_stays_and_is_told(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scaling.yaml"
    output.write_text("stages: {split: {read_bytes: {data: 0.5}}}", encoding="utf-8")
    assert main(["scaling", "infer", *runs, "--output", str(output), "--format", "json"]) == OK
    captured = capsys.readouterr()
    assert "split: read_bytes stays as a person wrote it" in captured.err
    (told,) = [
        rule
        for rule in json.loads(captured.out)
        if (rule["stage"], rule["quantity"]) == ("split", "read_bytes")
    ]
    assert (told["data"], told["inferred"], told["error"]) == (0.5, False, None)
    assert read_scaling_yaml(output).rules["split", "read_bytes"].data == 0.5
    assert read_scaling_yaml(output).rules["merge", "read_bytes"].data == 1.0


@pytest.mark.parametrize("scale", ["size=2", "data=2,data=3", "data=two", "data=0"])
def test_a_scale_that_is_none_is_refused(
    scale: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = f"{tmp_path / 'run2.csv'}@{scale}"
    assert main(["scaling", "infer", *runs, wrong, "--output", str(tmp_path / "s.yaml")]) == BAD_INPUT
    assert "scale" in capsys.readouterr().err
    assert not (tmp_path / "s.yaml").exists()


def best(model: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert main(["recommend", "--model", str(model), "--format", "json"]) == OK
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_a_build_at_another_scale_is_that_of_a_run_at_that_scale(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    assert main(["scaling", "infer", *runs, "--output", str(bundle / "scaling.yaml")]) == OK
    really = write_bundle(tmp_path / "really", observations=grown(2))
    # What grows are the volumes of the runs; the times in their traces do not.
    common = ["--scales", "2", "--no-anchoring", "--output"]
    assert main(["build", str(bundle), "--data-scale", "2", *common, str(tmp_path / "projected")]) == OK
    assert main(["build", str(really), *common, str(tmp_path / "observed")]) == OK
    projected, observed = best(tmp_path / "projected", capsys), best(tmp_path / "observed", capsys)
    assert projected["configuration"] == observed["configuration"]
    assert projected["makespan_s"] == pytest.approx(observed["makespan_s"])
    assert main(["build", str(bundle), "--data-scale", "7", *common, str(tmp_path / "far")]) == OK
    assert best(tmp_path / "far", capsys)["state"] == "extrapolated"


def test_more_tasks_make_a_workflow_of_more_tasks(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "scaling.yaml").write_text("stages: {split: {tasks: {tasks: 1}}}", encoding="utf-8")
    model = tmp_path / "model"
    options = ["--scales", "2", "--task-scale", "1.6", "--output", str(model)]
    assert main(["build", str(bundle), *options]) == OK
    stages = json.loads((model / "model.json").read_text())["workflow"]["stages"]
    assert {stage["name"]: stage["tasks"] for stage in stages} == {"split": 7, "merge": 2, "report": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--data-scale", "2"], "no scaling rules"), (["--data-scale", "-2"], "data scale of -2")],
)
def test_a_scale_without_rules_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    assert main(["build", str(bundle), *options, "--output", str(tmp_path / "m")]) == BAD_INPUT
    assert message in capsys.readouterr().err
