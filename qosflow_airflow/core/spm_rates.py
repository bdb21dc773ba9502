"""SPM's rates: interpolation between marginal means, one axis at a time, and the median of the axes.

Source: the description of SPM's four-dimensional interpolation and its published tables, for comparison with
them. Measured points are narrowed, axis after axis, to the two levels around the asked value; along each axis
the mean rates at its two levels are interpolated, or extrapolated, linearly; the rate is the median of the
four. A value that was measured counts as the upper of two levels, so that a rate is not the measured one
even where there is one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.transfer import FloatArray, IntArray

AXES = ("nodes", "tasks_per_node", "access_bytes", "volume_mib")
"""The axes, in the order in which points are narrowed."""
MIB = 1 << 20

Storage = tuple[str, str, str, bool]
"""Operation, source and destination tier, and whether a copy goes to another node."""


class _Segment(NamedTuple):
    """Two levels of an axis and the mean rates there, MiB/s; equal where only one level is measured."""

    low: float
    high: float
    low_mib_s: float
    high_mib_s: float

    def at(self, value: float) -> float:
        if self.low == self.high:
            return self.low_mib_s
        share = (value - self.low) / (self.high - self.low)
        rate = self.low_mib_s + (self.high_mib_s - self.low_mib_s) * share
        return rate if rate >= 0 else min(self.low_mib_s, self.high_mib_s)


@dataclass(frozen=True)
class SpmRates:
    """Rates as SPM looks them up among measurements."""

    rates: StorageRates

    @cached_property
    def _points(self) -> dict[Storage, tuple[FloatArray, FloatArray]]:
        frame = self.rates.frame
        # SPM knows 0 tasks per node where fewer tasks than nodes took part.
        whole = frame["tasks_per_node"].where(frame["tasks_per_node"] >= 1, 0.0)
        frame = frame.assign(tasks_per_node=whole, volume_mib=frame["volume_bytes"] / MIB)
        keys = ["operation", "source_tier", "destination_tier", "remote"]
        return {
            (str(operation), str(source), str(destination), bool(remote)): (
                rows[list(AXES)].to_numpy(dtype=np.float64),
                rows["rate_mib_s"].to_numpy(dtype=np.float64),
            )
            for (operation, source, destination, remote), rows in frame.groupby(keys, sort=False)
        }

    @cached_property
    def _segments(self) -> dict[tuple[Storage, tuple[tuple[float, float], ...]], tuple[_Segment, ...]]:
        return {}

    def seconds(
        self, storage: Storage, nodes: int, tasks_per_node: int, access_bytes: float, volume_mib: float
    ) -> float | None:
        """Return volume over rate, or ``None`` when the storage was never measured."""
        if storage not in self._points:
            return None
        asked = (nodes, tasks_per_node, access_bytes, volume_mib)
        segments = self._around(storage, asked)
        rate = median(part.at(value) for part, value in zip(segments, asked, strict=True))
        return volume_mib / rate if rate > 0 else math.inf

    @cached_property
    def _narrowed(self) -> dict[tuple[Storage, tuple[tuple[float, float], ...]], tuple[IntArray, FloatArray]]:
        """Points left and levels of the next axis, per levels of the axes before; filled as asked for."""
        return {}

    def _around(self, storage: Storage, asked: tuple[float, ...]) -> tuple[_Segment, ...]:
        points, rates = self._points[storage]
        levels: tuple[tuple[float, float], ...] = ()
        kept = np.arange(len(rates))
        for axis, value in enumerate(asked):
            if (storage, levels) not in self._narrowed:
                if levels:
                    low, high = levels[-1]
                    column = points[kept, axis - 1]
                    kept = kept[(column == low) | (column == high)]
                self._narrowed[storage, levels] = (kept, np.unique(points[kept, axis]))
            kept, known = self._narrowed[storage, levels]
            levels = (*levels, _levels(known, value))
        key = (storage, levels)
        if key not in self._segments:
            low, high = levels[-1]
            kept = kept[(points[kept, -1] == low) | (points[kept, -1] == high)]
            self._segments[key] = tuple(
                _segment(points[kept, axis], rates[kept], low, high)
                for axis, (low, high) in enumerate(levels)
            )
        return self._segments[key]


def _levels(levels: FloatArray, value: float) -> tuple[float, float]:
    """Return the nearest level below ``value`` and the next one; the outermost two beyond the ends."""
    upper = min(max(bisect_left(levels, value), 1), len(levels) - 1)
    return float(levels[max(upper - 1, 0)]), float(levels[upper])


def _segment(column: FloatArray, rates: FloatArray, low: float, high: float) -> _Segment:
    """Return the mean rates at two levels; later axes may have left points at only one of them."""
    at_low, at_high = rates[column == low], rates[column == high]
    low_mib_s = float((at_low if len(at_low) else at_high).mean())
    return _Segment(low, high, low_mib_s, float(at_high.mean()) if len(at_high) else low_mib_s)
