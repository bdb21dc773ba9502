"""SPM's table: seconds per producer, consumer, storage and tasks per node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from qosflow_airflow.core.transfer_table import COLUMNS, TransferTable
from qosflow_airflow.readers.csv_table import MAX_SECONDS, CsvTable, read_csv
from qosflow_airflow.readers.files import SourceFile

REQUIRED = (
    "producer",
    "consumer",
    "producerStorageType",
    "consumerStorageType",
    "producerTasksPerNode",
    "consumerTasksPerNode",
    "estT_prod",
    "estT_cons",
)
"""The file's columns, in the order of :data:`qosflow_airflow.core.transfer_table.COLUMNS`."""


def read_transfer_times_csv(file: str | Path | SourceFile) -> TransferTable:
    """Read transfer times; the frame's index (``line``) holds the line of the file that each row comes from.

    A storage type is a tier, or ``source-destination`` for a copy. A blank time is not known (NaN). Other
    columns, ``SPM`` among them, are not needed.

    Raises
    ------
    BundleError
        When the file cannot be read, or columns are missing.
    MeasurementError
        When a value is not what its column holds: the first such line and value.
    """
    table = read_csv(file)
    table.require(REQUIRED)
    columns = [
        table.text("producer"),
        table.text("consumer"),
        _storage(table, "producerStorageType"),
        _storage(table, "consumerStorageType"),
        table.whole("producerTasksPerNode"),
        table.whole("consumerTasksPerNode"),
        table.numbers("estT_prod", low=0, high=MAX_SECONDS, blank=True),
        table.numbers("estT_cons", low=0, high=MAX_SECONDS, blank=True),
    ]
    index = pd.Index(np.asarray(table.lines), name="line")
    return TransferTable(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=index))


def _storage(table: CsvTable, name: str) -> tuple[str, ...]:
    cells = table.text(name)
    wrong = {cell for cell in cells if not 1 <= len(parts := cell.split("-")) <= 2 or not all(parts)}
    for row, cell in enumerate(cells):
        if cell in wrong:
            raise table.error(row, name, f"is {cell!r}", "Give a tier, or source-destination for a copy.")
    return cells
