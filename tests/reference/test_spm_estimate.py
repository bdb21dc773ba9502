"""The SPM-compatible estimate against SPM's published tables, in whole and through the command line."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from qosflow_airflow.cli import main
from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.core.spm_estimate import spm_transfer_table
from qosflow_airflow.core.transfer_table import COLUMNS
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.rates_csv import read_rates_csv

pytestmark = pytest.mark.reference

TIERS = "beegfs,tmpfs,ssd"


@pytest.mark.parametrize(("name", "rows"), [("1kgenome", 3231), ("ddmd", 581)])
def test_every_published_row_is_reproduced(name: str, rows: int, reference: Path) -> None:
    bundle = read_bundle(reference / name, tiers=TIERS.split(","))
    assert bundle.observations is not None
    assert bundle.transfer_table is not None
    assert bundle.catalog is not None
    rates = read_rates_csv(reference / "profile" / "ior.csv")
    table = spm_transfer_table(bundle.workflow, bundle.catalog, bundle.observations, rates)
    keys = list(COLUMNS[:6])
    published = bundle.transfer_table.frame.set_index(keys).sort_index()
    ours = table.frame.set_index(keys).sort_index()
    assert len(published) == rows
    assert ours.index.equals(published.index)
    np.testing.assert_allclose(ours.to_numpy(), published.to_numpy(), rtol=1e-6, atol=0)


def test_a_build_with_it_gives_the_published_makespans(reference: Path, tmp_path: Path) -> None:
    bundle, model = tmp_path / "ddmd", tmp_path / "model"
    bundle.mkdir()
    for file in ("stages.json", "observations.csv"):
        shutil.copy(reference / "ddmd" / file, bundle)
    shutil.copy(reference / "profile" / "ior.csv", bundle / "profile.csv")
    arguments = ["build", str(bundle), "--rules", "reference", "--tiers", TIERS, "--estimator", "spm"]
    assert main([*arguments, "--output", str(model)]) == OK
    with (model / "configurations.csv").open(encoding="utf-8") as file:
        built = [float(row["makespan_s"]) for row in csv.DictReader(file)]
    with (reference / "ddmd" / "expected_makespan.csv").open(encoding="utf-8") as file:
        published = [float(row["total"]) for row in csv.DictReader(file)]
    assert sorted(built) == pytest.approx(sorted(published), rel=1e-6)
