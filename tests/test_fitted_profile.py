"""A build checks its rates and fits them once; later steps only ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.rate_model import RateModel
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.store.memory import MemoryStore
from tests.support.bundles import profile, write_bundle
from tests.support.rate_runs import benchmark_rows

SCALES = BuildOptions(scales=(2, 4))


def benchmarks_of_disk() -> str:
    """The bundle's own rates, those of reading the disk replaced by a whole grid."""
    lines = [
        line for line in profile().splitlines() if not (line.startswith("read") and line.endswith("disk"))
    ]
    names = lines[0].split(",")
    for row in benchmark_rows(tiers="disk"):
        cells = {
            "operation": "read",
            "randomOffset": "0",
            "transferSize": str(row["access_bytes"]),
            "aggregateFilesizeMB": str(row["volume_bytes"] / 2**20),
            "numTasks": str(row["tasks"]),
            "totalTime": "-1",
            "numNodes": str(row["nodes"]),
            "tasksPerNode": str(row["tasks_per_node"]),
            "parallelism": "1",
            "trMiB": str(row["rate_mib_s"]),
            "storageType": "disk",
        }
        lines.append(",".join(cells[name] for name in names))
    return "\n".join(lines) + "\n"


def test_the_law_is_fitted_when_a_build_is_opened_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MemoryStore() as store:
        opened = pipeline.open_build(
            store, write_bundle(tmp_path / "line", profile=benchmarks_of_disk()), SCALES
        )
        model = RateModel.from_bytes(store.part(opened.build_id, "profile"))
        assert list(model.rates) == [("read", "disk", "disk")]
        report = json.loads(store.part(opened.build_id, "rate_checks"))
        assert report["measured"] == report["kept"] > 200
        assert "write disk" in report["few_points"]
        monkeypatch.setattr(pipeline, "fit_rates", lambda *_: pytest.fail("fitted again"))
        for nodes in opened.scales:
            pipeline.project(store, opened.build_id, nodes)
            pipeline.estimate(store, opened.build_id, nodes)
        times = json.loads(store.part(opened.build_id, "stage_times", "2"))
        assert all(row[0] > 0 for row in times["read"]["seconds"])


def test_rates_that_the_rules_leave_nothing_of_leave_no_build(tmp_path: Path) -> None:
    header, *lines = profile().splitlines()
    at = header.split(",").index("tasksPerNode")
    wrong = []
    for line in lines:
        cells = line.split(",")
        if cells[0] in ("read", "write"):
            cells[at] = "7"
            wrong.append(",".join(cells))
    bundle = write_bundle(tmp_path / "line", profile="\n".join([header, *wrong]) + "\n")
    with MemoryStore() as store:
        with pytest.raises(MeasurementError, match="the rules leave no rates"):
            pipeline.open_build(store, bundle, SCALES)
        assert not store.list_workflows()
