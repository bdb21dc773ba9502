from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from qosflow_airflow.core.transfer_table import COLUMNS
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.transfer_times_csv import read_transfer_times_csv

NAN = math.nan


def test_golden_file(data: Path) -> None:
    table = read_transfer_times_csv(data / "survey" / "spm.csv")
    expected = pd.DataFrame(
        [
            ("stage_in-calibrate", "calibrate", "nfs", "nfs", 1, 2, 0.0, 1.5),
            ("stage_in-calibrate", "calibrate", "nfs-ram", "ram", 1, 2, 2.0, 1.0),
            ("calibrate", "stack", "nfs", "nfs", 2, 1, 2.5, 1.5),
            ("calibrate", "stack", "disk", "disk", 2, 1, 0.5, 0.25),
            ("calibrate", "stack", "ram", "ram", 2, 1, 0.25, 0.25),
            ("calibrate", "stage_out-calibrate", "ram", "ram-ram", 2, 3, 0.25, 1.0),
            ("calibrate", "stage_out-calibrate", "disk", "disk-disk", 2, 3, 0.5, NAN),
        ],
        columns=list(COLUMNS),
        index=pd.Index(range(2, 9), name="line"),
    )
    pd.testing.assert_frame_equal(table.frame, expected)
    assert table.tiers == ("nfs", "disk", "ram")
    assert table.local_tiers == {"ram", "disk"}


def test_names_of_columns_in_any_case_and_order(edit) -> None:
    plain = read_transfer_times_csv(edit("spm.csv"))
    path = edit("spm.csv", ("producer,", "Producer,"), ("estT_prod,estT_cons", "ESTT_PROD, estt_cons"))
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[table.columns[::-1]].drop(columns="SPM").to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_transfer_times_csv(path).frame, plain.frame)


WRONG = {
    "blank producer": ("\ncalibrate,1.0,stack", "\n,1.0,stack", 4, "producer", "is blank"),
    "three tiers": (",nfs-ram,", ",nfs-ram-disk,", 3, "producerStorageType", "is 'nfs-ram-disk'"),
    "half a pair": (",disk-disk,", ",disk-,", 8, "consumerStorageType", "is 'disk-'"),
    "no tasks": (",nfs,2,nfs,1,", ",nfs,0,nfs,1,", 4, "producerTasksPerNode", "is 0"),
    "part of a task": (",nfs,2,nfs,1,", ",nfs,2,nfs,1.5,", 4, "consumerTasksPerNode", "is 1.5"),
    "infinite tasks": (",nfs,2,nfs,1,", ",nfs,inf,nfs,1,", 4, "producerTasksPerNode", "is inf"),
    "negative time": ("2.5,1.5", "-2.5,1.5", 4, "estT_prod", "is -2.5"),
    "infinite time": ("2.5,1.5", "2.5,inf", 4, "estT_cons", "is inf"),
    "text as time": ("2.5,1.5", "2.5,slow", 4, "estT_cons", "is 'slow', not a number"),
    "absurd time": ("2.5,1.5", "2.5,1e12", 4, "estT_cons", "is 1e12"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_value(edit, case: str) -> None:
    old, new, line, column, message = WRONG[case]
    path = edit("spm.csv", (old, new))
    with pytest.raises(MeasurementError) as caught:
        read_transfer_times_csv(path)
    error = caught.value
    assert (error.source, error.line, error.column) == (str(path), line, column)
    assert message in error.message
    assert error.cure
