"""Tables as bytes and back."""

from __future__ import annotations

import io
import math
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.frames import frame_from_bytes, frame_to_bytes
from tests.support.traces import io as io_row
from tests.support.traces import trace

printable = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(printable, st.floats(), st.integers(-(2**62), 2**62), st.booleans()),
        min_size=1,
        max_size=10,
    )
)
def test_nothing_is_lost(rows: list[tuple[str, float, int, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=["text", "number", "count", "flag"])
    again = frame_from_bytes(frame_to_bytes(frame))
    assert list(again.columns) == list(frame.columns)
    assert again["text"].tolist() == frame["text"].tolist()
    np.testing.assert_array_equal(again["number"].to_numpy(), frame["number"].to_numpy())
    assert again["count"].tolist() == frame["count"].tolist()
    assert again["flag"].tolist() == frame["flag"].tolist()
    assert again["flag"].dtype == bool
    assert again["count"].dtype == np.int64


def test_a_trace_survives_with_its_gaps_and_the_kinds_of_its_columns() -> None:
    frame = trace(io_row("read", "a", "p1", "Ångström–ß.vcf", 1.5, producer="")).frame
    again = frame_from_bytes(frame_to_bytes(frame))
    assert again.iloc[0].drop(
        labels=["file_bytes", "file_size_bytes", "compute_s", "start_s", "end_s"]
    ).to_dict() == (
        frame.iloc[0]
        .drop(labels=["file_bytes", "file_size_bytes", "compute_s", "start_s", "end_s"])
        .to_dict()
    )
    assert math.isnan(again["compute_s"].iloc[0])
    assert again["producer"].iloc[0] == ""
    assert again["volume_bytes"].dtype == np.float64


def test_the_index_is_dropped() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[7, 9])
    assert frame_from_bytes(frame_to_bytes(frame)).index.tolist() == [0, 1]


def test_bytes_that_hold_a_pickle_are_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(["a"]), c0=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        frame_from_bytes(buffer.getvalue())
    with pytest.raises((ValueError, zipfile.BadZipFile, pickle.UnpicklingError)):
        frame_from_bytes(b"no archive")
