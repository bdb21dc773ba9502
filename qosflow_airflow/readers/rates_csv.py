"""Storage rates in the columns of SPM's benchmark collection (IOR reads and writes, ``cp`` and ``scp``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from qosflow_airflow.core.rates import COLUMNS, StorageRates
from qosflow_airflow.readers.csv_table import (
    BYTES_PER_MIB,
    MAX_BYTES,
    MAX_COUNT,
    MAX_SECONDS,
    CsvTable,
    FloatArray,
    read_csv,
)
from qosflow_airflow.readers.files import SourceFile

REQUIRED = (
    "operation",
    "transferSize",
    "aggregateFilesizeMB",
    "numTasks",
    "totalTime",
    "numNodes",
    "tasksPerNode",
    "trMiB",
    "storageType",
)
OPERATIONS = ("read", "cold_read", "write", "cp", "scp")
COPIES = ("cp", "scp")
MAX_RATE_MIB_S = 1e12
EMPTY_LINE = "empty line"
"""Reason of a dropped line: none of its cells holds anything."""

_NOT_TIMED = -1.0


def read_rates_csv(file: str | Path | SourceFile) -> StorageRates:
    """Read rates; the frame's index (``line``) holds the line of the file that each row comes from.

    ``numTasks`` counts all tasks of a run. A ``totalTime`` of -1 or blank is not known (NaN). A blank
    ``tasksPerNode``, or the 0 that fewer tasks than nodes were rounded to, becomes tasks / nodes. A copy's
    ``storageType`` is ``source-destination``; ``cp`` and ``scp`` are both copies, the second between nodes.
    ``cached`` and ``direct`` (true or false) may be absent, and are false then. Everything else stays as
    measured, repeats included.

    Raises
    ------
    BundleError
        When the file cannot be read, or columns are missing.
    MeasurementError
        When a value is not what its column holds: the first such line and value.
    """
    table = read_csv(file)
    table.require(REQUIRED)
    empty = table.blank_rows()
    dropped = {EMPTY_LINE: int(empty.sum())} if empty.any() else {}
    table = table.take(~empty)
    frame = pd.DataFrame(_columns(table), index=pd.Index(table.lines, name="line"))
    return StorageRates(frame[list(COLUMNS)], dropped)


def _columns(table: CsvTable) -> dict[str, object]:
    operations = table.choice("operation", OPERATIONS)
    pairs = _tiers(table, operations)
    tasks, nodes = table.whole("numTasks"), table.whole("numNodes")
    return {
        "operation": ["copy" if name in COPIES else name for name in operations],
        "source_tier": [source for source, _ in pairs],
        "destination_tier": [destination for _, destination in pairs],
        "access_bytes": table.numbers("transferSize", low=1, high=MAX_BYTES),
        "volume_bytes": BYTES_PER_MIB
        * table.numbers("aggregateFilesizeMB", low=1 / BYTES_PER_MIB, high=MAX_BYTES / BYTES_PER_MIB),
        "tasks": tasks,
        "nodes": nodes,
        "tasks_per_node": _tasks_per_node(table, tasks / nodes),
        "rate_mib_s": _rates(table),
        "duration_s": _durations(table),
        "remote": np.array([name == "scp" for name in operations]),
        "cached": table.flags("cached"),
        "direct": table.flags("direct"),
    }


def _tiers(table: CsvTable, operations: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for row, (operation, cell) in enumerate(zip(operations, table.text("storageType"), strict=True)):
        parts = cell.split("-")
        if len(parts) != (2 if operation in COPIES else 1) or not all(parts):
            cure = "Give source-destination." if operation in COPIES else "Give one tier, without a hyphen."
            raise table.error(row, "storageType", f"is {cell!r} in a line of {operation}", cure)
        pairs.append((parts[0], parts[-1]))
    return pairs


def _rates(table: CsvTable) -> FloatArray:
    rates = table.numbers("trMiB", low=0, high=MAX_RATE_MIB_S)
    if (rates == 0).any():
        row = int((rates == 0).argmax())
        raise table.error(row, "trMiB", "is 0", "Give the rate in MiB/s, or remove the line.")
    return rates


def _durations(table: CsvTable) -> FloatArray:
    given = table.numbers("totalTime", low=_NOT_TIMED, high=MAX_SECONDS, blank=True)
    wrong = (given < 0) & (given != _NOT_TIMED)
    if wrong.any():
        row = int(wrong.argmax())
        raise table.error(row, "totalTime", f"is {given[row]}", "Give seconds, or -1 where not known.")
    return np.where(given == _NOT_TIMED, np.nan, given)


def _tasks_per_node(table: CsvTable, mean: FloatArray) -> FloatArray:
    given = table.numbers("tasksPerNode", low=0, high=MAX_COUNT, blank=True)
    return np.where(np.isnan(given) | (given == 0), mean, given)
