from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from qosflow_airflow.core.rates import COLUMNS, StorageRates
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.rates_csv import read_rates_csv

NAN = math.nan
GIB = 2.0**30


def test_golden_file(data: Path) -> None:
    rates = read_rates_csv(data / "survey" / "profile.csv")
    expected = pd.DataFrame(
        [
            ("write", "nfs", "nfs", 1048576.0, GIB, 8, 4, 2.0, 256.0, 4.0, False, False, True),
            ("read", "tmpfs", "tmpfs", 1048576.0, GIB, 8, 4, 2.0, 2048.0, 0.5, False, True, False),
            ("copy", "nfs", "tmpfs", 4096.0, GIB, 2, 4, 0.5, 100.5, NAN, False, False, False),
            ("copy", "tmpfs", "tmpfs", 4096.0, GIB, 8, 4, 2.0, 50.25, NAN, True, False, False),
        ],
        columns=list(COLUMNS),
        index=pd.Index([2, 3, 5, 6], name="line"),
    )
    pd.testing.assert_frame_equal(rates.frame, expected)
    assert rates.dropped == {"empty line": 1}
    assert rates.tiers == ("nfs", "tmpfs")


def test_flags_may_be_absent_and_times_blank(edit) -> None:
    path = edit("profile.csv", (",-1,4,0,", ",,4,,"))
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.drop(columns=["cached", "direct", "randomOffset", "parallelism"]).to_csv(path, index=False)
    frame = read_rates_csv(path).frame
    assert not frame[["cached", "direct"]].to_numpy().any()
    assert frame["tasks_per_node"].tolist() == [2, 2, 0.5, 2]
    assert math.isnan(frame["duration_s"].iloc[2])


WRONG = {
    "operation": ("write,0", "mv,0", 2, "operation", "is 'mv'"),
    "pair for a write": (
        ",256.0,nfs,",
        ",256.0,nfs-ssd,",
        2,
        "storageType",
        "is 'nfs-ssd' in a line of write",
    ),
    "tier for a copy": (",nfs-tmpfs,", ",tmpfs,", 5, "storageType", "is 'tmpfs' in a line of cp"),
    "half a pair": (",nfs-tmpfs,", ",nfs-,", 5, "storageType", "is 'nfs-' in a line of cp"),
    "no rate": (",256.0,", ",0,", 2, "trMiB", "is 0"),
    "negative rate": (",256.0,", ",-1,", 2, "trMiB", "is -1"),
    "blank rate": (",256.0,", ",,", 2, "trMiB", "is blank"),
    "infinite rate": (",256.0,", ",inf,", 2, "trMiB", "is inf"),
    "negative time": (",4.0,4,", ",-0.5,4,", 2, "totalTime", "is -0.5"),
    "less than not timed": (",4.0,4,", ",-2,4,", 2, "totalTime", "is -2"),
    "no access size": ("write,0,1048576", "write,0,0", 2, "transferSize", "is 0"),
    "NaN volume": (",1024,8,4.0", ",NaN,8,4.0", 2, "aggregateFilesizeMB", "is NaN"),
    "no volume": (",1024,8,4.0", ",0,8,4.0", 2, "aggregateFilesizeMB", "is 0"),
    "no node": (",4.0,4,", ",4.0,0,", 2, "numNodes", "is 0"),
    "no tasks": (",1024,8,4.0", ",1024,0,4.0", 2, "numTasks", "is 0"),
    "flag": (",nfs,0,1", ",nfs,0,yes", 2, "direct", "is 'yes'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_value(edit, case: str) -> None:
    old, new, line, column, message = WRONG[case]
    path = edit("profile.csv", (old, new))
    with pytest.raises(MeasurementError) as caught:
        read_rates_csv(path)
    error = caught.value
    assert (error.source, error.line, error.column) == (str(path), line, column)
    assert message in error.message
    assert error.cure


def test_nothing_but_empty_lines(survey: Path) -> None:
    path = survey / "profile.csv"
    header = path.read_text().splitlines()[0]
    path.write_text(f"{header}\n{',' * header.count(',')}\n")
    with pytest.raises(MeasurementError, match="there are no rates"):
        read_rates_csv(path)


def test_rates_need_their_columns(data: Path) -> None:
    frame = read_rates_csv(data / "survey" / "profile.csv").frame
    with pytest.raises(MeasurementError, match="rates lack remote, cached"):
        StorageRates(frame.drop(columns=["remote", "cached"]))
