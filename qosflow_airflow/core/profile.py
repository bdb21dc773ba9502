"""Measured storage: the rate to expect for an operation.

A *fitted* profile asks the model of :mod:`qosflow_airflow.core.rate_model` wherever enough was measured for
one, and gives an interval with each rate. Elsewhere, and in a profile that is not fitted, rates are
interpolated on a logarithmic scale, one axis after the other (nodes, tasks per node, access size, volume),
between the two measured levels around the asked one. A cell that was not measured is bridged by its
neighbours on the next axis, so the grid need not be full. Outside the measured range the nearest level
counts, and the estimate says that it is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.rate_law import RatePoints
from qosflow_airflow.core.rate_model import QueryClass, RateKey, RateModel, fit_rates
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.run_spread import NORMAL_HALF_WIDTH
from qosflow_airflow.core.transfer import FloatArray, Provenance

AXES = ("nodes", "tasks_per_node", "access_bytes", "volume_bytes")
"""What a rate depends on, in the order in which it is interpolated."""


class RateQuery(NamedTuple):
    """A transfer whose rate is asked for: what is moved, where, by how many, in which pieces.

    ``source`` and ``destination`` are names of the profile; they are equal for a read or a write.
    ``volume_bytes`` is what all tasks move together, and ``cold_bytes`` how much of it is not in the page
    cache of any node, so that it comes from the source's device. ``file_bytes`` is the mean size of a file, 0
    where it is not known.
    """

    operation: str
    source: str
    destination: str
    nodes: float
    tasks_per_node: float
    access_bytes: float
    volume_bytes: float
    cold_bytes: float = 0.0
    file_bytes: float = 0.0


class RateEstimate(NamedTuple):
    """A rate in MiB/s, and whether it lies between measured points; NaN where nothing was measured.

    ``low_mib_s`` and ``high_mib_s`` hold 90 of 100 single runs of such a query; NaN where they are not known.
    """

    mib_s: float
    provenance: Provenance
    low_mib_s: float = math.nan
    high_mib_s: float = math.nan
    query_class: QueryClass = QueryClass.UNCALIBRATED

    @property
    def log_sd(self) -> float:
        """The interval's half-width as a standard deviation of the natural logarithm; NaN where unknown."""
        return math.log(self.high_mib_s / self.low_mib_s) / (2 * NORMAL_HALF_WIDTH)


FILE_BYTES = 8 << 20
"""Benchmarks move more than this in files of this size (:mod:`qosflow_airflow.measure.points`)."""
INTERVAL = 0.9
MIN_POINTS_LEFT_OUT = 4
"""With fewer distinct points, how far interpolation goes wrong is not known."""
MAX_POINTS_LEFT_OUT = 60


@dataclass(frozen=True)
class StorageProfile:
    """Rates measured on a platform, and the model fitted to them, if one was.

    Read and write rates are those of all tasks together; a copy's rate is that of one node.
    """

    rates: StorageRates
    model: RateModel | None = None

    def fitted(self) -> StorageProfile:
        """Return this profile with a model fitted to it: up to a minute for tens of thousands of runs."""
        return replace(self, model=fit_rates(self.points()))

    def points(self) -> dict[RateKey, RatePoints]:
        """Return the design points per operation and tiers, as a model is fitted to them."""
        return {
            key: RatePoints.of_runs(points, log_rates) for key, (points, log_rates) in self._points.items()
        }

    @cached_property
    def _points(self) -> dict[tuple[str, str, str], tuple[FloatArray, FloatArray]]:
        """Per operation and tiers: points x axes and log rates, both natural logarithms."""
        frame = self.rates.frame
        points = {}
        for key, rows in frame.groupby(["operation", "source_tier", "destination_tier"], sort=True):
            operation, source, destination = (str(part) for part in key)
            # What an application sees goes through the page cache; direct I/O stands in where it is all there
            # is.
            rows = rows[~rows["direct"]] if not rows["direct"].all() else rows
            points[operation, source, destination] = (
                np.log(rows[list(AXES)].to_numpy(dtype=np.float64)),
                np.log(rows["rate_mib_s"].to_numpy(dtype=np.float64)),
            )
        return points

    @property
    def tiers(self) -> frozenset[str]:
        """Names of the tiers that were read or written."""
        return frozenset(source for _, source, destination in self._points if source == destination)

    def rate(self, query: RateQuery) -> RateEstimate:
        """Return the rate to expect; unknown when the operation was never measured on these tiers."""
        return self.rates_of([query])[0]

    def rates_of(self, queries: Sequence[RateQuery]) -> list[RateEstimate]:
        """Return the rate to expect for each query; each distinct one is computed once, a key's together.

        Where cold reads of a source were not measured, it is taken to be as fast cold as it is otherwise.
        """
        whole = [query._replace(cold_bytes=0.0, file_bytes=0.0) for query in queries]
        # A device that takes small transfers at once and makes larger ones wait does so with many small ones.
        pairs = zip(
            self._rates_of(whole), self._rates_of([_by_file(query) for query in queries]), strict=True
        )
        cached = [large if not small.mib_s < large.mib_s else small for large, small in pairs]
        cold = [_cold_read(query) for query in queries]
        known = [query for query in cold if query is not None and query[:3] in self._points]
        rates = dict(zip(known, self._rates_of(known), strict=True))
        warm = dict(zip(known, self._rates_of([q._replace(operation="read") for q in known]), strict=True))
        return [
            found if of is None or of not in rates else _slowed(found, query, rates[of], warm[of])
            for query, found, of in zip(queries, cached, cold, strict=True)
        ]

    def _rates_of(self, queries: Sequence[RateQuery]) -> list[RateEstimate]:
        by_key: dict[RateKey, list[RateQuery]] = {}
        for query in dict.fromkeys(queries):
            by_key.setdefault((query.operation, query.source, query.destination), []).append(query)
        found: dict[RateQuery, RateEstimate] = {}
        for key, asked in by_key.items():
            found.update(zip(asked, self._estimates(key, asked), strict=True))
        return [found[query] for query in queries]

    @cached_property
    def _interpolation_sds(self) -> dict[RateKey, tuple[float, float]]:
        fitted = self.model.rates if self.model is not None else {}
        found = {key: _left_out_sds(*known) for key, known in self._points.items() if key not in fitted}
        # What too few points cannot tell is taken to be as wrong as the others of the profile are, pooled.
        known = [outside for _, outside in found.values() if not math.isnan(outside)]
        pooled = math.sqrt(sum(sd**2 for sd in known) / len(known)) if known else math.nan
        return {key: (pooled, pooled) if math.isnan(sds[0]) else sds for key, sds in found.items()}

    def _estimates(self, key: RateKey, queries: list[RateQuery]) -> list[RateEstimate]:
        if key not in self._points:
            return [RateEstimate(math.nan, Provenance.UNKNOWN)] * len(queries)
        points, log_rates = self._points[key]
        low, high = points.min(axis=0), points.max(axis=0)
        asked = np.log([[max(float(getattr(query, axis)), 1e-9) for axis in AXES] for query in queries])
        inside = ((low - 1e-9 <= asked) & (asked <= high + 1e-9)).all(axis=1)
        provenances = [Provenance.MEASURED if known else Provenance.EXTRAPOLATED for known in inside]
        if self.model is None or key not in self.model.rates:
            found = np.array([_interpolate(points, log_rates, point) for point in asked])
            half = NORMAL_HALF_WIDTH * np.where(inside, *self._interpolation_sds[key])
            ends = (np.exp(found), provenances, np.exp(found - half), np.exp(found + half))
            return [
                RateEstimate(float(rate), provenance, float(least), float(most))
                for rate, provenance, least, most in zip(*ends, strict=True)
            ]
        log_rate, half, classes = self.model.estimate(key, asked, INTERVAL)
        columns = (np.exp(log_rate), provenances, np.exp(log_rate - half), np.exp(log_rate + half), classes)
        return [
            RateEstimate(float(rate), provenance, float(least), float(most), QueryClass(str(name)))
            for rate, provenance, least, most, name in zip(*columns, strict=True)
        ]


def _by_file(query: RateQuery) -> RateQuery:
    """Return the part of a transfer that moves one file of each task: a benchmark knows its rate.

    Each file is opened and, when it was written, synced. Tasks that move many small files pay that for each.
    """
    volume_bytes = query.volume_bytes
    if 0 < query.file_bytes < FILE_BYTES:
        at_once = 1.0 if query.operation == "copy" else query.nodes * query.tasks_per_node
        volume_bytes = min(volume_bytes, query.file_bytes * at_once)
    return query._replace(volume_bytes=volume_bytes, cold_bytes=0.0, file_bytes=0.0)


def _cold_read(query: RateQuery) -> RateQuery | None:
    """Return the read from the device that a query holds, ``None`` where it holds none."""
    if not query.cold_bytes > 0:
        return None
    return query._replace(
        operation="cold_read",
        destination=query.source,
        volume_bytes=query.cold_bytes,
        cold_bytes=0.0,
        file_bytes=0.0,
    )


def _slowed(found: RateEstimate, query: RateQuery, cold: RateEstimate, warm: RateEstimate) -> RateEstimate:
    """Return the rate of a query part of which is read at the ``cold`` rate and not at the ``warm`` one."""
    warm_s = query.volume_bytes / found.mib_s
    more_s = query.cold_bytes * max(0.0, 1 / cold.mib_s - 1 / warm.mib_s)
    total_s = warm_s + more_s
    if not total_s > 0:
        return found
    rate = query.volume_bytes / total_s
    half = NORMAL_HALF_WIDTH * (warm_s * found.log_sd + more_s * cold.log_sd) / total_s
    worst = max(found.provenance, cold.provenance)
    return RateEstimate(rate, worst, rate * math.exp(-half), rate * math.exp(half), found.query_class)


def _left_out_sds(points: FloatArray, log_rates: FloatArray) -> tuple[float, float]:
    """Return how far interpolation is off at points left out: inside the range of the others, and outside.

    NaN when there are too few points; where all left out lie on one side, both spreads are theirs.
    """
    distinct, point = np.unique(points, axis=0, return_inverse=True)
    if len(distinct) < MIN_POINTS_LEFT_OUT:
        return math.nan, math.nan
    squares: dict[bool, list[float]] = {True: [], False: []}
    for at in range(0, len(distinct), -(-len(distinct) // MAX_POINTS_LEFT_OUT)):
        asked, others = distinct[at], point != at
        low, high = points[others].min(axis=0), points[others].max(axis=0)
        error = log_rates[~others] - _interpolate(points[others], log_rates[others], asked)
        squares[bool(((low <= asked) & (asked <= high)).all())] += (error**2).tolist()
    within, outside = (math.sqrt(np.mean(found)) if found else math.nan for found in squares.values())
    return (outside, outside) if math.isnan(within) else (within, max(within, outside, key=_nan_first))


def _nan_first(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _interpolate(points: FloatArray, values: FloatArray, asked: FloatArray) -> float:
    """Interpolate linearly along the first axis, and recursively along the others at both levels around."""
    if points.shape[1] == 0:
        return float(np.median(values))
    levels = np.unique(points[:, 0])
    below = levels[max(np.searchsorted(levels, asked[0], side="right") - 1, 0)]
    above = levels[min(np.searchsorted(levels, asked[0], side="left"), len(levels) - 1)]
    low = _at_level(points, values, asked, below)
    if below >= above:
        return low
    weight = (asked[0] - below) / (above - below)
    return float((1 - weight) * low + weight * _at_level(points, values, asked, above))


def _at_level(points: FloatArray, values: FloatArray, asked: FloatArray, level: float) -> float:
    here: NDArray[np.bool_] = points[:, 0] == level
    return _interpolate(points[here, 1:], values[here], asked[1:])
