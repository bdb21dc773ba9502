"""The storage profile as a CSV file, in the columns of the public measurements and two of our own."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.points import MIB, ProfileRow

COLUMNS = (
    *(
        "operation",
        "randomOffset",
        "transferSize",
        "aggregateFilesizeMB",
        "numTasks",
        "totalTime",
        "numNodes",
    ),
    *("tasksPerNode", "parallelism", "trMiB", "storageType"),
    # 1 where the data came from the page cache; 1 where it went around it
    *("cached", "direct"),
)


def write_profile(rows: Iterable[ProfileRow], path: Path) -> None:
    """Write ``rows`` to ``path``, whole or not at all."""
    lines = [_line(row) for row in rows]
    if not lines:
        raise MeasurementError("no rates were measured", source=path, cure="Measure at least one tier.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _line(row: ProfileRow) -> dict[str, object]:
    point = row.point
    return {
        "operation": "cold_read" if point.cold else point.operation,
        "randomOffset": 0,
        "transferSize": point.access_bytes,
        "aggregateFilesizeMB": row.volume_bytes / MIB,
        "numTasks": point.jobs,
        "totalTime": row.seconds,
        "numNodes": 1,
        "tasksPerNode": point.jobs,
        "parallelism": point.jobs,
        "trMiB": row.mib_s,
        "storageType": point.where,
        "cached": int(row.cached),
        "direct": int(point.direct),
    }
