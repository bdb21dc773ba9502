"""Observed I/O (DataLife's columns): one line per task, file and operation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.core.workflow import FINAL_DATA
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
    "numNodesList",
    "numNodes",
    "storageType",
    "opCount",
    "taskName",
    "taskPID",
    "fileName",
    "prevTask",
)
OPERATIONS = ("read", "write")
MAX_ACCESSES = 1e15
MAX_EPOCH_S = 1e11

# A line is repeated once per node count to be projected to, with nothing else different.
_DIFFER_IN_REPEATS = ("numnodes", "taskspernode", "numnodeslist")


def read_observations_csv(file: str | Path | SourceFile) -> IOObservations:
    """Read observations; the frame's index (``line``) holds the line of the file that each row comes from.

    A line that repeats an earlier one but for the node counts is the same observation and is dropped; the
    node count that stays is the first one's. ``aggregateFilesizeMB`` (MiB) is what the task moved with the
    operation in all of its files, repeated on each of them: sum ``volume_bytes`` once per stage, task and
    operation. ``fileBytes`` (bytes moved in this file), ``fileSizeBytes`` (how large it is),
    ``computeSeconds``, ``startTime`` and ``endTime`` (seconds since the epoch) may be absent or blank.
    A blank ``totalTime`` is not known. ``prevTask`` of a write says nothing about its producer.

    Raises
    ------
    BundleError
        When the file cannot be read, or columns are missing.
    MeasurementError
        When a value is not what its column holds: the first such line and value.
    """
    table = read_csv(file)
    table.require(REQUIRED)
    scales = _scales(table)
    frame = pd.DataFrame(_columns(table), index=pd.Index(table.lines, name="line"))[list(COLUMNS)]
    cells = pd.DataFrame({name: c for name, c in table.columns.items() if name not in _DIFFER_IN_REPEATS})
    repeated = cells.duplicated().to_numpy()
    nodes = frame["nodes"].to_numpy()
    nodes_known = not repeated.any() or set(nodes[repeated]) <= set(nodes[~repeated])
    return IOObservations(frame[~repeated], scales, nodes_known)


def _columns(table: CsvTable) -> dict[str, object]:
    operations = table.choice("operation", OPERATIONS)
    previous = table.text("prevTask", blank=True)
    start_s = _optional(table, "startTime", MAX_EPOCH_S)
    end_s = _optional(table, "endTime", MAX_EPOCH_S)
    backwards = end_s < start_s
    if backwards.any():
        row = int(backwards.argmax())
        raise table.error(row, "endTime", f"is {end_s[row]}, before startTime {start_s[row]}", "Correct it.")
    return {
        "operation": operations,
        "stage": table.text("taskName"),
        "task": table.text("taskPID"),
        "file": table.text("fileName"),
        "producer": [
            name if operation == "read" and name != FINAL_DATA else ""
            for operation, name in zip(operations, previous, strict=True)
        ],
        "volume_bytes": BYTES_PER_MIB
        * table.numbers("aggregateFilesizeMB", low=0, high=MAX_BYTES / BYTES_PER_MIB),
        "file_bytes": _optional(table, "fileBytes", MAX_BYTES),
        "file_size_bytes": _optional(table, "fileSizeBytes", MAX_BYTES),
        "access_bytes": table.numbers("transferSize", low=0, high=MAX_BYTES),
        "accesses": table.numbers("opCount", low=0, high=MAX_ACCESSES),
        "io_s": table.numbers("totalTime", low=0, high=MAX_SECONDS, blank=True),
        "tasks": table.whole("numTasks"),
        "nodes": table.whole("numNodes"),
        "compute_s": _optional(table, "computeSeconds", MAX_SECONDS),
        "start_s": start_s,
        "end_s": end_s,
        "tier": table.text("storageType", blank=True),
    }


def _optional(table: CsvTable, name: str, high: float) -> FloatArray:
    if not table.has(name):
        return np.full(len(table), np.nan)
    return table.numbers(name, low=0, high=high, blank=True)


def _scales(table: CsvTable) -> tuple[int, ...]:
    """Return the union of the lists of node counts, ascending."""
    found: set[int] = set()
    cells = table.text("numNodesList", blank=True)
    for cell in set(cells) - {""}:
        try:
            counts = json.loads(cell)
        except (ValueError, RecursionError):
            counts = None
        if not isinstance(counts, list) or not all(_is_count(count) for count in counts):
            row = cells.index(cell)
            cure = f'Give node counts from 1 to {MAX_COUNT:,} as a list, "[2, 5, 10]".'
            raise table.error(row, "numNodesList", f"is {cell!r}", cure)
        found.update(counts)
    return tuple(sorted(found))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT
