"""Measured storage rates: what benchmarks of a platform's tiers and of the copies between them gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from qosflow_airflow.exceptions import MeasurementError

COLUMNS: dict[str, str] = {
    "operation": "str",
    "source_tier": "str",
    "destination_tier": "str",
    "access_bytes": "float",
    "volume_bytes": "float",
    "tasks": "int",
    "nodes": "int",
    "tasks_per_node": "float",
    "rate_mib_s": "float",
    "duration_s": "float",
    "remote": "bool",
    "cached": "bool",
    "direct": "bool",
}
"""The columns of :attr:`StorageRates.frame` and their kinds.

``operation`` is ``read``, ``cold_read``, ``write`` or ``copy``; a cold read is one through the page cache of
files that it did not hold, beside reads that found them there. The two tiers are equal but for a copy, and
are the names under which the measurements know them; ``access_bytes`` is the size of one access;
``volume_bytes`` what all ``tasks`` moved together (nominal, as asked for); ``tasks_per_node`` need not be
whole: fewer tasks than nodes can take part in a copy; ``rate_mib_s`` is the rate as measured; ``duration_s``
NaN where not known. ``remote`` says that a copy went from one node to another; ``cached`` that the data came
from memory and not from the device; ``direct`` that the page cache was bypassed.
"""

OPERATIONS = ("read", "cold_read", "write", "copy")


@dataclass(frozen=True)
class StorageRates:
    """Measurements with the columns of :data:`COLUMNS`, one row per run; repeats are rows of their own.

    ``dropped`` counts the lines of the file that hold no measurement, by reason.

    Raises
    ------
    MeasurementError
        When the frame lacks a column or has no rows.
    """

    frame: pd.DataFrame
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.frame]
        if missing:
            raise MeasurementError(f"rates lack {', '.join(missing)}", cure="Add these columns.")
        if self.frame.empty:
            raise MeasurementError("there are no rates", cure="Measure at least one tier.")

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers that were measured, alone or in a copy, in the order of their first row."""
        names = pd.concat([self.frame["source_tier"], self.frame["destination_tier"]])
        return tuple(str(name) for name in names.unique())
