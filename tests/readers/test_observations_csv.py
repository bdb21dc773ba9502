from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from qosflow_airflow.core.observations import COLUMNS
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.observations_csv import read_observations_csv

NAN = float("nan")
MIB = 2**20


def test_golden_file(data: Path) -> None:
    observations = read_observations_csv(data / "survey" / "observations.csv")
    first = (4.0, 2, 1.25, 1700000000.5, 1700000003.0, "nfs")
    rows = [
        (
            "read",
            "calibrate",
            "11-a",
            "raw_0.fits",
            "initial_data",
            2.0 * MIB,
            1.5 * MIB,
            NAN,
            4096.0,
            512.0,
            0.5,
        ),
        (
            "read",
            "calibrate",
            "11-a",
            "flat.fits",
            "initial_data",
            2.0 * MIB,
            0.5 * MIB,
            NAN,
            4096.0,
            512.0,
            0.5,
        ),
        ("write", "calibrate", "11-a", "cal_0.fits", "", 1.0 * MIB, NAN, NAN, 1048576.0, 1.0, 0.125),
        ("read", "stack", "12-a", "cal_0.fits", "calibrate", 1.0 * MIB, 1.0 * MIB, NAN, 1048576.0, 1.0, 0.25),
        ("write", "search", "13-b", "found_0.txt", "", 0.5 * MIB, 0.5 * MIB, NAN, 512.0, 1024.0, 0.0),
    ]
    unknown = (NAN, NAN, NAN, "nfs")
    rest = [(4, *first[1:])] * 3 + [(1, 8, *unknown), (2, 8, *unknown)]
    expected = pd.DataFrame(
        [row + more for row, more in zip(rows, rest, strict=True)],
        columns=list(COLUMNS),
        index=pd.Index([2, 4, 6, 8, 9], name="line"),
    )
    pd.testing.assert_frame_equal(observations.frame, expected)
    assert observations.scales == (2, 4, 8)
    assert observations.stages == {"calibrate", "stack", "search"}


def test_columns_of_ours_may_be_absent(edit) -> None:
    path = edit("observations.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.drop(columns=["computeSeconds", "startTime", "endTime", "fileBytes"]).to_csv(path, index=False)
    frame = read_observations_csv(path).frame
    assert frame[["file_bytes", "file_size_bytes", "compute_s", "start_s", "end_s"]].isna().to_numpy().all()
    assert len(frame) == 5


def test_sizes_of_files(edit) -> None:
    path = edit("observations.csv", ("fileBytes", "fileSizeBytes"))
    frame = read_observations_csv(path).frame
    assert frame["file_size_bytes"].tolist()[:2] == [1572864, 524288]
    assert frame["file_bytes"].isna().all()


def test_two_observations_that_differ_anywhere_else_are_two(edit) -> None:
    path = edit("observations.csv", ('0.5,"[2, 4]",4,1', '0.5000001,"[2, 4]",4,1'))
    assert read_observations_csv(path).frame["io_s"].tolist()[:2] == [0.5, 0.5000001]


def test_numbers_are_exact(edit) -> None:
    path = edit("observations.csv", (",0.25,[8]", ",2.0719885826110840e-05,[8]"))
    assert read_observations_csv(path).frame["io_s"].tolist()[3] == 2.0719885826110840e-05


@pytest.mark.parametrize(
    "encode", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip()]
)
def test_ways_to_write_text(edit, encode) -> None:
    path = edit("observations.csv")
    plain = read_observations_csv(path)
    path.write_bytes(encode(path.read_text()).encode())
    again = read_observations_csv(path)
    pd.testing.assert_frame_equal(plain.frame, again.frame)


def test_lines_count_over_empty_lines_and_quoted_line_breaks(edit) -> None:
    path = edit("observations.csv", (",raw_0.fits,", ',"raw\n_0.fits",'), ("\nwrite", "\n\nwrite"))
    assert read_observations_csv(path).frame.index.tolist()[:4] == [2, 4, 5, 8]
    edit("observations.csv", ("13-b", ""))
    with pytest.raises(MeasurementError) as caught:
        read_observations_csv(path)
    assert (caught.value.line, caught.value.column) == (11, "taskPID")


# the first line with a wrong value, and what is said of it
WRONG = {
    "operation": ("write,0,512.0", "append,0,512.0", 9, "operation", "is 'append'", "Use one of read, write"),
    "blank operation": ("write,0,512.0", ",0,512.0", 9, "operation", "is blank", "Use one of read, write"),
    "negative volume": (",0.5,2,2,0.0", ",-0.5,2,2,0.0", 9, "aggregateFilesizeMB", "is -0.5", "from 0 to"),
    "NaN volume": (",0.5,2,2,0.0", ",nan,2,2,0.0", 9, "aggregateFilesizeMB", "is nan", "Give a number"),
    "blank volume": (",0.5,2,2,0.0", ",,2,2,0.0", 9, "aggregateFilesizeMB", "is blank", "Give a number"),
    "infinite volume": (",0.5,2,2,0.0", ",inf,2,2,0.0", 9, "aggregateFilesizeMB", "is inf", "Give a number"),
    "absurd volume": (",0.5,2,2,0.0", ",1e30,2,2,0.0", 9, "aggregateFilesizeMB", "is 1e30", "Give a number"),
    "text as volume": (
        ",0.5,2,2,0.0",
        ",half,2,2,0.0",
        9,
        "aggregateFilesizeMB",
        "is 'half', not a number",
        "",
    ),
    "negative access size": ("write,0,512.0", "write,0,-1", 9, "transferSize", "is -1", "Give a number"),
    "negative accesses": (",1024,search", ",-1024,search", 9, "opCount", "is -1024", "Give a number"),
    "negative time": (",2,2,0.0,", ",2,2,-1,", 9, "totalTime", "is -1", "Give a number"),
    "no task": (",0.5,2,2,", ",0.5,0,2,", 9, "numTasks", "is 0", "whole number from 1 to 1,000,000"),
    "part of a task": (",0.5,2,2,", ",0.5,1.5,2,", 9, "numTasks", "is 1.5", "whole number"),
    "absurd tasks": (",0.5,2,2,", ",0.5,2000000,2,", 9, "numTasks", "is 2000000", "to 1,000,000"),
    "no node": ("0.0,[8],8", "0.0,[8],0", 9, "numNodes", "is 0", "whole number"),
    "blank nodes": ("0.0,[8],8", "0.0,[8],", 9, "numNodes", "is blank", "whole number"),
    "no list": ("0.0,[8]", "0.0,8", 9, "numNodesList", "is '8'", '"[2, 5, 10]"'),
    "zero in list": ("0.0,[8]", "0.0,[0]", 9, "numNodesList", "is '[0]'", "node counts from 1"),
    "text in list": ("0.0,[8]", "0.0,[eight]", 9, "numNodesList", "is '[eight]'", "node counts"),
    "true in list": ("0.0,[8]", "0.0,[true]", 9, "numNodesList", "is '[true]'", "node counts"),
    "deep list": ("0.0,[8]", "0.0," + "[" * 4_000, 9, "numNodesList", "is '[[", "node counts"),
    "no stage": (",1024,search,", ",1024, ,", 9, "taskName", "is blank", "Fill it"),
    "no task id": (",13-b,", ",,", 9, "taskPID", "is blank", "Fill it"),
    "no file": (",found_0.txt,", ",,", 9, "fileName", "is blank", "Fill it"),
    "long file": (",found_0.txt,", f",{'x' * 5000},", 9, "fileName", "has 5,000 characters", "at most 4,096"),
    "negative file volume": (",,,,524288", ",,,,-1", 9, "fileBytes", "is -1", "Give a number"),
    "negative compute": (",1.25,", ",-1.25,", 2, "computeSeconds", "is -1.25", "Give a number"),
    "backwards": ("1700000003.0", "1600000003.0", 2, "endTime", "before startTime", "Correct it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_value(edit, case: str) -> None:
    old, new, line, column, message, cure = WRONG[case]
    path = edit("observations.csv", (old, new))
    with pytest.raises(MeasurementError) as caught:
        read_observations_csv(path)
    error = caught.value
    assert (error.source, error.line, error.column) == (str(path), line, column)
    assert message in error.message
    assert cure in (error.cure or "")


def test_a_wrong_value_in_a_repeated_line_is_seen(edit) -> None:
    path = edit("observations.csv", ('"[2, 4]",4,1,8.0', '"[2, 4]",none,1,8.0'))
    with pytest.raises(MeasurementError, match="line 7, column 'numNodes': is 'none', not a number"):
        read_observations_csv(path)


def test_the_final_outside_is_nobodys_producer(edit) -> None:
    path = edit("observations.csv", (",2,calibrate,", ",2,final_data,"))
    assert read_observations_csv(path).frame["producer"].tolist()[3] == ""


def test_a_blank_list_asks_for_no_scale(edit) -> None:
    path = edit("observations.csv", ("0.0,[8]", "0.0,"), ("0.25,[8]", "0.25,[]"))
    assert read_observations_csv(path).scales == (2, 4)
