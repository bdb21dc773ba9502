from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers.csv_table import CsvTable, read_csv
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.rates_csv import read_rates_csv
from qosflow_airflow.readers.transfer_times_csv import read_transfer_times_csv

READERS = {
    "observations.csv": read_observations_csv,
    "spm.csv": read_transfer_times_csv,
    "profile.csv": read_rates_csv,
}


def read(tmp_path: Path, content: str | bytes) -> CsvTable:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path)


def test_cells_lines_and_names(tmp_path: Path) -> None:
    table = read(tmp_path, 'Name , size\n a,1\n\n"b, c",2\n')
    assert table.names == {"name": "Name", "size": "size"}
    assert table.text("NAME") == ("a", "b, c")
    np.testing.assert_array_equal(table.lines, [2, 4])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(tmp_path: Path, end: str) -> None:
    table = read(tmp_path, f"\ufeffa,b{end}1,2{end}{end}3,4")
    assert table.text("a") == ("1", "3")
    np.testing.assert_array_equal(table.lines, [2, 4])


WRONG = {
    "empty": (b"", None, "is empty"),
    "blank": (b" \r\n\n", None, "is empty"),
    "header only": (b"a,b\n", None, "has a header but no rows"),
    "header and blanks": (b"a,b\n\n\n", None, "has a header but no rows"),
    "truncated": (b"a,b,c\n1,2,3\n4,5", 3, "has 2 of 3 columns"),
    "too many": (b"a,b\n1,2\n\n4,5,6\n", 4, "has 3 columns, not 2"),
    "repeated column": (b"a,b,A\n1,2,3\n", 1, "blank or repeated columns: 'A', 'a'"),
    "blank column": (b"a,,b\n1,2,3\n", 1, "blank or repeated columns: ''"),
    "open quote": (b'a,b\n1,2\n1,"2\n', 3, "is not valid CSV: unexpected end of data"),
    "text after quote": (b'a,b\n"1"x,2\n', 2, "is not valid CSV"),
    "huge cell": (b"a,b\n1," + b"x" * 200_000 + b"\n", 2, "is not valid CSV: field larger"),
    "latin 1": (b"a,b\n1,2\ncaf\xe9,3\n", 3, "byte 0xe9 at offset 11 is not UTF-8"),
    "cut character": (b"\xef\xbb\xbfa,b\n1,\xc3", 2, "byte 0xc3 at offset 9 is not UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), 1, "is UTF-16 text, not UTF-8"),
    "NUL": (b"a,b\n1,\x00\n", 2, "holds a NUL byte at offset 6"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(tmp_path: Path, case: str) -> None:
    content, line, message = WRONG[case]
    with pytest.raises(BundleError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert (caught.value.source, caught.value.line) == (str(tmp_path / "table.csv"), line)
    assert caught.value.cure


@pytest.mark.parametrize("name", READERS)
def test_all_missing_columns_are_named_with_those_found(survey: Path, name: str) -> None:
    path = survey / name
    path.write_text("operation,producer,x\n1,2,3\n")
    with pytest.raises(BundleError) as caught:
        READERS[name](path)
    text = str(caught.value)
    assert caught.value.line == 1
    assert "are missing; found operation, producer, x" in text
    for column in {
        "observations.csv": ("transferSize", "taskName", "fileName", "prevTask"),
        "spm.csv": ("consumer", "producerStorageType", "estT_prod", "estT_cons"),
        "profile.csv": ("numTasks", "trMiB", "storageType"),
    }[name]:
        assert column in text
    assert "computeSeconds" not in text
