"""The public workflows under the complete rules: a real answer, and never one that is not known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from qosflow_airflow.cli import main
from qosflow_airflow.cli.exit_codes import OK

pytestmark = pytest.mark.reference


@pytest.mark.parametrize(
    ("name", "scales", "space"),
    [("1kgenome", "2,5,10", 3 * 3**5), ("ddmd", "1,2,4", 3 * 3**4), ("pyflex_s9_48f", "8", 3**9)],
)
def test_the_best_configuration_is_known(
    name: str, scales: str, space: int, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    assert main(["build", str(reference / name), "--scales", scales, "--output", str(model)]) == OK
    capsys.readouterr()
    with (model / "configurations.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == space
    known = [row for row in rows if row["state"] != "unmeasured"]
    assert all(row["makespan_s"] == "" for row in rows if row["state"] == "unmeasured")
    assert all(float(row["makespan_s"]) > 0 for row in known)

    assert main(["recommend", "--model", str(model), "--format", "json"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["state"] in ("measured", "not_observed")
    assert answer["makespan_s"] == min(float(row["makespan_s"]) for row in known)
    assert "Compute time is not known" in answer["explanation"]
    chosen = {f"tier_{stage}": tier for stage, tier in answer["configuration"]["tiers"].items()}
    (row,) = [
        row
        for row in known
        if chosen.items() <= row.items() and row["nodes"] == str(answer["configuration"]["nodes"])
    ]
    assert row["state"] == answer["state"]
