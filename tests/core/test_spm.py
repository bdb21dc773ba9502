"""SPM's interpolation and its table, on examples small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.core.rates import COLUMNS as RATE_COLUMNS
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.spm_estimate import spm_transfer_table
from qosflow_airflow.core.spm_rates import MIB, SpmRates
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.core.workflow import Stage, Workflow

NFS = ("read", "nfs", "nfs", False)


def rates(*points: tuple[int, float, float, float, float], operation: str = "read") -> pd.DataFrame:
    """Rates of nfs at (nodes, tasks per node, access bytes, MiB, MiB/s)."""
    given_columns = ["nodes", "tasks_per_node", "access_bytes", "volume_mib", "rate_mib_s"]
    frame = pd.DataFrame(points, columns=given_columns)
    frame = frame.assign(
        operation=operation,
        source_tier="nfs",
        destination_tier="nfs",
        volume_bytes=frame["volume_mib"] * MIB,
        tasks=1,
        duration_s=math.nan,
        remote=False,
        cached=False,
        direct=False,
    )
    return frame[list(RATE_COLUMNS)]


def test_the_rate_is_the_median_of_one_interpolation_per_axis() -> None:
    # Nodes 1 -> 2: 100 -> 300. The other axes have one level: the mean, 200. Median of 250, 200, 200, 200.
    profile = SpmRates(StorageRates(rates((1, 1, 4096, 10, 100), (2, 1, 4096, 10, 300))))
    assert profile.seconds(NFS, 2, 1, 4096, 400.0) == pytest.approx(400 / 200)


def test_a_negative_extrapolation_gives_the_smaller_mean() -> None:
    slower = [(n, t, 4096, 10, 100 / (n * t)) for n in (1, 2) for t in (1, 2)]
    profile = SpmRates(StorageRates(rates(*slower)))
    # Far outside, both axes with a slope fall below 0; the smaller mean is 37.5, the mean of all 56.25.
    assert profile.seconds(NFS, 90, 90, 4096, 1.0) == pytest.approx(1 / ((37.5 + 56.25) / 2))


def test_what_was_not_measured_has_no_time() -> None:
    profile = SpmRates(StorageRates(rates((1, 1, 4096, 10, 100))))
    assert profile.seconds(("write", "nfs", "nfs", False), 1, 1, 4096, 1.0) is None


@given(
    st.lists(
        st.tuples(
            st.integers(1, 8),
            st.integers(1, 8).map(float),
            st.sampled_from([64.0, 4096.0]),
            st.sampled_from([1.0, 10.0]),
            st.floats(1, 1e4),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_a_measured_storage_always_has_a_time(
    points: list[tuple[int, float, float, float, float]], nodes: int, tasks_per_node: int
) -> None:
    seconds = SpmRates(StorageRates(rates(*points))).seconds(NFS, nodes, tasks_per_node, 1024.0, 5.0)
    assert seconds is not None
    assert seconds >= 0


def observed(*rows: tuple[str, str, str, str, float], scales: tuple[int, ...]) -> IOObservations:
    """Rows of (operation, stage, task, file, MiB)."""
    frame = pd.DataFrame(rows, columns=["operation", "stage", "task", "file", "mib"])
    frame = frame.assign(volume_bytes=frame["mib"] * MIB, access_bytes=4096.0, tasks=1, nodes=1)
    return IOObservations(frame.reindex(columns=list(COLUMNS)), scales)


WORKFLOW = Workflow("pair", (Stage("make", 1, 1, {"initial_data": ()}), Stage("use", 2, 1, {"make": ()})))
CATALOG = TierCatalog((StorageTier("nfs", shared=True),))
ONE_RATE = StorageRates(
    pd.concat([rates((1, 1, 4096, 10, 10.0)), rates((1, 1, 4096, 10, 10.0), operation="write")])
)


def times(table: TransferTable, producer: str, consumer: str) -> tuple[float, float]:
    """The largest times of a pair."""
    rows = table.frame[(table.frame["producer"] == producer) & (table.frame["consumer"] == consumer)]
    return float(rows["producer_s"].max()), float(rows["consumer_s"].max())


def test_a_volume_counts_once_per_file_and_per_node_count() -> None:
    trace = observed(
        ("read", "make", "m", "in", 5),
        ("write", "make", "m", "a", 3),
        ("write", "make", "m", "b", 3),
        ("read", "use", "u", "a", 2),
        scales=(1, 2),
    )
    table = spm_transfer_table(WORKFLOW, CATALOG, trace, ONE_RATE)
    assert times(table, "make", "use") == pytest.approx((2 * 2 * 3 / 10, 2 * 2 / 10))
    assert times(table, "stage_in-make", "make") == pytest.approx((0.0, 12 / 10))


def test_the_last_line_of_a_task_and_file_counts() -> None:
    lines = [("write", "make", "m", "a", 3), ("read", "make", "m", "a", 8), ("read", "use", "u", "a", 2)]
    for rows, seconds in ((lines, 0.8), ([lines[1], lines[0], lines[2]], 0.3)):
        table = spm_transfer_table(WORKFLOW, CATALOG, observed(*rows, scales=(1,)), ONE_RATE)
        assert times(table, "make", "use")[0] == pytest.approx(seconds)


def test_a_tier_without_rates_has_no_rows() -> None:
    catalog = TierCatalog((StorageTier("nfs", shared=True), StorageTier("ssd", shared=False)))
    trace = observed(("write", "make", "m", "a", 3), ("read", "use", "u", "a", 2), scales=(1,))
    table = spm_transfer_table(WORKFLOW, catalog, trace, ONE_RATE)
    assert table.has("make", "use")
    assert table.rows("make", "use", "ssd", "ssd") is None
    assert np.isfinite(table.frame[["producer_s", "consumer_s"]].to_numpy()).all()
