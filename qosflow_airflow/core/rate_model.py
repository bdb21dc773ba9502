"""All rates of a platform, fitted once: a law per operation and tiers, and what its doubts are worth.

Intervals are split conformal: points are left out, the law is fitted again without them, and the scores

    |log rate - log estimate| / doubt

of what was left out are kept. An interval of 90 % is as wide as 90 % of the scores were. Which scores count
depends on the query: at a measured node count, points left out at random; at a node count between measured
ones, whole node counts left out; outside the measured range, the ends of an axis left out. The last two are
pooled over operations and tiers: each has only a few.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qosflow_airflow.core.rate_law import RateLaw, RatePoints, fit_law
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import MeasurementError

RateKey = tuple[str, str, str]
"""Operation, source tier and destination tier."""

MIN_POINTS = 30
"""Below as many distinct points a law is not identified, and interpolation does as well."""
MIN_LEVELS = 2
FOLDS = 5
AXIS_COUNT = 4
MAX_SCORES = 400
FORMAT = 1
REACH = float(np.log(10.0))
"""A fitted rate is extrapolated one order of magnitude beyond the measured range of an axis, no further."""
_TOLERANCE = 1e-6


class QueryClass(StrEnum):
    """Where a query lies among the measured points; the calibration follows from it."""

    MEASURED_SCALE = "measured scale"
    """At a measured node count and within the measured range of all other axes."""
    UNSEEN_INTERIOR = "unseen interior"
    """At a node count between measured ones."""
    EXTRAPOLATED = "extrapolated"
    """Outside the measured range of an axis."""
    UNCALIBRATED = "uncalibrated"
    """Too few points to know how wrong an estimate is."""


@dataclass(frozen=True)
class FittedRate:
    """A law with the levels it was fitted on, and the scores of points left out at random (sorted)."""

    law: RateLaw
    nodes: FloatArray
    low: FloatArray
    high: FloatArray
    scores: FloatArray

    def near(self, queries: FloatArray) -> FloatArray:
        """Return queries moved to within reach, and to the only level of an axis that was not varied."""
        reach = np.where(self.high > self.low, REACH, 0.0)
        return np.clip(queries, self.low - reach, self.high + reach)

    def classes(self, queries: FloatArray) -> NDArray[np.str_]:
        """Return the :class:`QueryClass` of each query (n x 4, log)."""
        inside = ((queries >= self.low - _TOLERANCE) & (queries <= self.high + _TOLERANCE)).all(axis=1)
        seen = (np.abs(queries[:, :1] - self.nodes) < _TOLERANCE).any(axis=1)
        found: NDArray[np.str_] = np.where(
            ~inside,
            QueryClass.EXTRAPOLATED,
            np.where(seen, QueryClass.MEASURED_SCALE, QueryClass.UNSEEN_INTERIOR),
        )
        return found


@dataclass(frozen=True)
class RateModel:
    """Fitted rates per key, and the pooled scores (sorted) of the classes beyond the measured scales."""

    rates: Mapping[RateKey, FittedRate]
    pooled: Mapping[str, FloatArray]

    def estimate(
        self, key: RateKey, queries: FloatArray, level: float = 0.9
    ) -> tuple[FloatArray, FloatArray, NDArray[np.str_]]:
        """Return log MiB/s, the half-width of its interval (log) and the class, per query (n x 4, log)."""
        fitted = self.rates[key]
        log_rate, doubt = fitted.law(fitted.near(queries))
        classes = fitted.classes(queries)
        factor = np.empty(len(queries))
        for name in np.unique(classes):
            scores = fitted.scores if name == QueryClass.MEASURED_SCALE else self.pooled[str(name)]
            factor[classes == name] = conformal_quantile(scores, level)
        return log_rate, factor * doubt, classes

    def to_bytes(self) -> bytes:
        """Return the model as a compressed archive of arrays, without pickles."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for at, (_, fitted) in enumerate(self.rates.items()):
            own = {name: getattr(fitted, name) for name in ("nodes", "low", "high", "scores")}
            for name, array in {**own, **{f"law_{n}": a for n, a in fitted.law.to_arrays().items()}}.items():
                arrays[f"r{at}_{name}"] = array
        for name, scores in self.pooled.items():
            arrays[f"pooled_{name}"] = scores
        arrays["about"] = np.array(json.dumps({"format": FORMAT, "keys": [list(key) for key in self.rates]}))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> RateModel:
        """Build a model from what :meth:`to_bytes` returned; nothing is fitted."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != FORMAT:
            raise MeasurementError(
                f"a fitted profile has format {about['format']}, not {FORMAT}", cure="Build the model again."
            )
        rates = {}
        for at, key in enumerate(about["keys"]):
            own = _strip(arrays, f"r{at}_")
            law = RateLaw.from_arrays(_strip(own, "law_"))
            operation, source, destination = key
            rates[operation, source, destination] = FittedRate(
                law, own["nodes"], own["low"], own["high"], own["scores"]
            )
        return cls(rates, _strip(arrays, "pooled_"))


def fit_rates(points: Mapping[RateKey, RatePoints]) -> RateModel:
    """Fit and calibrate every key that has enough points; the others are left out.

    The result depends on the points alone.
    """
    # The matrices are small: more threads only wait for each other, and take the cores from other tasks.
    with threadpool_limits(1):
        return _fit_rates(points)


def _fit_rates(points: Mapping[RateKey, RatePoints]) -> RateModel:
    rates: dict[RateKey, FittedRate] = {}
    left_out: dict[str, list[FloatArray]] = {QueryClass.UNSEEN_INTERIOR: [], QueryClass.EXTRAPOLATED: []}
    for turn, (key, found) in enumerate(sorted(points.items())):
        if not identified(found):
            continue
        law = fit_law(found)
        rates[key] = FittedRate(
            law,
            np.unique(found.points[:, 0]),
            found.points.min(axis=0),
            found.points.max(axis=0),
            _thin(_random_scores(found, law)),
        )
        for name, held in _held_levels(found, turn):
            left_out[name].append(_scores(found, held, law))
    return RateModel(rates, {name: _thin(_pool(sets, rates)) for name, sets in left_out.items()})


def identified(found: RatePoints) -> bool:
    """Whether there are enough points, and more than one level of nodes or tasks and of volume, for a law."""
    levels = [len(np.unique(np.round(found.points[:, axis], 6))) for axis in range(AXIS_COUNT)]
    spread = max(levels[0], levels[1]) >= MIN_LEVELS and max(levels[2], levels[3]) >= MIN_LEVELS
    return len(found.log_rates) >= MIN_POINTS and spread


def conformal_quantile(scores: FloatArray, level: float) -> float:
    """Return the score that covers ``level`` of new ones, from sorted scores; the largest of few."""
    rank = int(np.ceil((len(scores) + 1) * level)) - 1
    return float(scores[min(rank, len(scores) - 1)])


def _random_scores(found: RatePoints, law: RateLaw) -> FloatArray:
    fold = np.random.default_rng(11).permutation(len(found.log_rates)) % FOLDS
    return np.concatenate([_scores(found, fold == turn, law) for turn in range(FOLDS)])


def _held_levels(found: RatePoints, turn: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the points of each inner node count, and of one end of each axis, low or high in turn."""
    for axis in range(AXIS_COUNT):
        values = np.round(found.points[:, axis], 6)
        levels = np.unique(values)
        if len(levels) <= MIN_LEVELS:
            continue
        for level in levels[1:-1] if axis == 0 else []:
            yield QueryClass.UNSEEN_INTERIOR, values == level
        yield QueryClass.EXTRAPOLATED, values == levels[-(turn % 2)]


def _scores(found: RatePoints, held: NDArray[np.bool_], law: RateLaw) -> FloatArray:
    """Return the scores of points that a law like ``law`` was fitted without."""
    refitted = fit_law(found.take(~held), like=law)
    left = found.take(held)
    log_rate, doubt = refitted(left.points)
    point = left.runs[:, 0].astype(np.intp)
    # Runs, not their medians: what is estimated next is one run.
    scores: FloatArray = np.abs(left.runs[:, 1] - log_rate[point]) / doubt[point]
    return scores


def _pool(sets: list[FloatArray], rates: Mapping[RateKey, FittedRate]) -> FloatArray:
    """Return all scores; where no level could be left out, four times the random ones: wide on purpose."""
    if sets:
        return np.concatenate(sets)
    return 4.0 * np.concatenate([fitted.scores for fitted in rates.values()] or [np.zeros(1)])


def _thin(scores: FloatArray) -> FloatArray:
    """Return scores sorted, and as many of their quantiles as an interval needs."""
    if len(scores) <= MAX_SCORES:
        return np.sort(scores)
    thinned: FloatArray = np.quantile(scores, (np.arange(MAX_SCORES) + 0.5) / MAX_SCORES)
    return thinned


def _strip(arrays: Mapping[str, FloatArray], prefix: str) -> dict[str, FloatArray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
