"""What readers of benchmark output share: rows of rates, why a result gives none, and where it ran."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pandas as pd

from qosflow_airflow.core.rates import COLUMNS, StorageRates
from qosflow_airflow.exceptions import MeasurementError, QoSFlowError
from qosflow_airflow.readers.csv_table import BYTES_PER_MIB
from qosflow_airflow.readers.document import Node

NO_BYTES = "nothing moved"
NO_TIME = "no duration"
FAILED = "the benchmark failed"
RANDOM = "random offsets"
"""Reasons of results that give no rate; others are said where they arise."""

Mounts = Mapping[str, str | None]
"""The folder of each tier, by the name that rates are to have; ``None`` where it is not known."""


@dataclass(frozen=True)
class Transfer:
    """What one result of a benchmark says: ``tasks`` on ``nodes`` moved ``volume_bytes`` in ``seconds``."""

    operation: str
    tier: str
    access_bytes: float
    volume_bytes: float
    tasks: int
    nodes: int
    seconds: float
    cached: bool
    direct: bool


@dataclass
class RateRows:
    """Collects rates, and counts the results that hold none by reason."""

    source: str
    rows: list[dict[str, object]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        """Count a result that gives no rate."""
        self.dropped[reason] += 1

    def add(self, line: int, transfer: Transfer) -> None:
        """Add the rate of a transfer; count it instead where nothing was moved, or in no time."""
        if not transfer.volume_bytes > 0 or not transfer.access_bytes > 0:
            self.drop(NO_BYTES)
        elif not 0 < transfer.seconds < math.inf:
            self.drop(NO_TIME)
        else:
            self.lines.append(line)
            self.rows.append(_row(transfer))

    def rates(self) -> StorageRates:
        """Return the rates.

        Raises
        ------
        MeasurementError
            When there are none; it says why.
        """
        if not self.rows:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.dropped.items())
            raise MeasurementError(
                f"holds no rates: {reasons or 'no results'}", source=self.source, cure="Measure again."
            )
        index = pd.Index(self.lines, name="line")
        return StorageRates(pd.DataFrame(self.rows, index=index)[list(COLUMNS)], dict(self.dropped))


def _row(transfer: Transfer) -> dict[str, object]:
    return {
        "operation": transfer.operation,
        "source_tier": transfer.tier,
        "destination_tier": transfer.tier,
        "access_bytes": float(transfer.access_bytes),
        "volume_bytes": float(transfer.volume_bytes),
        "tasks": transfer.tasks,
        "nodes": transfer.nodes,
        "tasks_per_node": transfer.tasks / transfer.nodes,
        "rate_mib_s": transfer.volume_bytes / BYTES_PER_MIB / transfer.seconds,
        "duration_s": float(transfer.seconds),
        "remote": False,
        "cached": transfer.cached,
        "direct": transfer.direct,
    }


def tier_of(path: str, mounts: Mounts, node: Node) -> str:
    """Return the tier whose folder ``path`` lies in: the innermost, where folders lie in one another.

    Raises
    ------
    QoSFlowError
        (of the kind of the document) when there is none.
    """
    tier = innermost(path, mounts)
    if tier is None:
        raise no_tier(f"was measured in {path!r}, which lies on no tier", mounts, node)
    return tier


def innermost(path: str, mounts: Mounts) -> str | None:
    """Return the tier whose folder ``path`` lies in, ``None`` where there is none or the path is relative."""
    if not path.startswith("/"):
        return None
    normal = PurePosixPath(os.path.normpath(path))
    found = {
        name: PurePosixPath(os.path.normpath(mount))
        for name, mount in mounts.items()
        if mount is not None and normal.is_relative_to(os.path.normpath(mount))
    }
    return max(found, key=lambda name: len(found[name].parts), default=None)


def no_tier(message: str, mounts: Mounts, node: Node) -> QoSFlowError:
    """Return the error that a result says of no tier that it was measured there."""
    known = ", ".join(f"{name} ({mount})" for name, mount in mounts.items()) or "none"
    return node.fail(message, f"Give the tier its `mount` in tiers.yaml; known are: {known}.")
