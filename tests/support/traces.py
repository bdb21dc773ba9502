"""Small traces and rate tables, written as a few words a row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from qosflow_airflow.core import observations as observations_module
from qosflow_airflow.core import rates as rates_module
from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.rates import StorageRates

MIB = 2**20


def io(operation: str, stage: str, task: str, file: str, volume_mib: float, **more: Any) -> dict[str, Any]:
    """A row of a trace: ``task`` of ``stage`` moved ``volume_mib`` in all its files, ``file`` among them."""
    return {
        "operation": operation,
        "stage": stage,
        "task": task,
        "file": file,
        "producer": "",
        "volume_bytes": volume_mib * MIB,
        "file_bytes": math.nan,
        "file_size_bytes": math.nan,
        "access_bytes": float(MIB),
        "accesses": volume_mib,
        "io_s": 1.0,
        "tasks": 1,
        "nodes": 1,
        "compute_s": math.nan,
        "start_s": math.nan,
        "end_s": math.nan,
        "tier": "disk",
        **more,
    }


def trace(*rows: dict[str, Any]) -> IOObservations:
    frame = pd.DataFrame(list(rows), columns=list(observations_module.COLUMNS))
    return IOObservations(frame, tuple(sorted(set(frame["nodes"]))))


def rate(operation: str, tiers: str, mib_s: float, **more: Any) -> dict[str, Any]:
    """A measured rate; ``tiers`` is a tier, or ``source-destination`` for a copy."""
    source, _, destination = tiers.partition("-")
    return {
        "operation": operation,
        "source_tier": source,
        "destination_tier": destination or source,
        "access_bytes": float(MIB),
        "volume_bytes": 100.0 * MIB,
        "tasks": 1,
        "nodes": 1,
        "tasks_per_node": 1.0,
        "rate_mib_s": mib_s,
        "duration_s": math.nan,
        "remote": False,
        "cached": False,
        "direct": False,
        **more,
    }


def profile(rows: Iterable[dict[str, Any]]) -> StorageProfile:
    return StorageProfile(StorageRates(pd.DataFrame(list(rows), columns=list(rates_module.COLUMNS))))
