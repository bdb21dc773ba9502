"""The public bundles read, with the counts that are known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.core.workflow import INITIAL_DATA
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.rates_csv import read_rates_csv

pytestmark = pytest.mark.reference

# stages, levels, lines of observations, scales, lines of transfer times
BUNDLES = {
    "1kgenome": (5, (1, 2, 3), 5430, (2, 5, 10), 3231),
    "ddmd": (4, (0, 1, 2), 267, (1, 2, 4), 581),
    "pyflex_s9_48f": (9, tuple(range(1, 10)), 2766, (2, 4, 8), 3669),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bundles(reference: Path, name: str) -> None:
    stages, levels, lines, scales, times = BUNDLES[name]
    bundle = read_bundle(reference / name)
    assert bundle.workflow.name == name
    assert (len(bundle.workflow.stages), bundle.workflow.levels) == (stages, levels)
    assert bundle.observations is not None
    assert len(bundle.observations.frame) == lines / 3  # three node counts in each list
    assert bundle.observations.scales == scales
    assert not bundle.observations.frame.duplicated(["stage", "task", "operation", "file"]).any()
    assert bundle.transfer_table is not None
    assert len(bundle.transfer_table.frame) == times
    assert bundle.transfer_table.frame.notna().to_numpy().all()
    assert bundle.catalog is not None
    assert bundle.catalog.names == ("beegfs", "tmpfs", "ssd")
    assert bundle.catalog.shared == (True, False, False)


def test_volumes_once_per_task_agree_between_producer_and_consumer(reference: Path) -> None:
    observations = read_bundle(reference / "1kgenome").observations
    assert observations is not None
    once = observations.frame.drop_duplicates(["stage", "task", "operation"])
    volumes = once.groupby(["stage", "operation"])["volume_bytes"].sum()
    written, read = volumes["individuals", "write"], volumes["individuals_merge", "read"]
    assert written == pytest.approx(25.06 * 2**20, rel=1e-3)
    assert read == pytest.approx(written, rel=1e-9)


def test_producers_are_those_of_reads(reference: Path) -> None:
    observations = read_bundle(reference / "1kgenome").observations
    assert observations is not None
    frame = observations.frame
    assert set(frame.loc[frame["operation"] == "write", "producer"]) == {""}
    found = frame[frame["operation"] == "read"].groupby("producer").size().to_dict()
    assert found == {INITIAL_DATA: 770, "individuals": 300, "individuals_merge": 140, "sifting": 140}


def test_runs_at_other_scales(reference: Path) -> None:
    paths = sorted((reference / "scale-runs").glob("*.csv"))
    assert paths
    for path in paths:
        observations = read_observations_csv(path)
        # one node count each, so that no line repeats another
        assert len(observations.frame) == len(path.read_text().splitlines()) - 1
        assert len(observations.scales) == 1


def test_rates(reference: Path) -> None:
    rates = read_rates_csv(reference / "profile" / "ior.csv")
    frame = rates.frame
    assert len(frame) == 21_916
    assert rates.dropped == {"empty line": 1}
    assert rates.tiers == ("nfs", "ssd", "beegfs", "tmpfs")
    copies = frame["operation"] == "copy"
    assert copies.sum() == frame["duration_s"].isna().sum() == 2008
    assert set(frame.loc[frame["remote"], "source_tier"]) == {"ssd", "tmpfs"}
    assert (frame["tasks_per_node"] < 1).sum() == 525
    assert not frame[["cached", "direct"]].to_numpy().any()
