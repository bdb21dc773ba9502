"""How long a stage takes in so many chunks, by Amdahl's law with the size of its data.

``T(s, gamma) = c + gamma^k T1 ((1 - p) + p / s)``: ``s`` chunks at once, data ``gamma`` times as large as
usual, ``c`` seconds of waiting and starting in which no chunk is at work, ``T1`` seconds in one chunk, of
which the share ``p`` can be divided. ARBO (Amdahl-Residual Bayesian Optimization) has the same law.

A stage with p = 0.8 and 100 s in one chunk takes, without a start, 100, 60, 40, 36 s in 1, 2, 4, 5 chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.transfer import FloatArray

MAX_SCALE = 1e6
"""Data so many times larger or smaller than usual are a mistake in what was counted."""


class StageTiming(NamedTuple):
    """One finished stage: its wall clock from the first start to the last end, over so many chunks.

    ``seconds`` holds ``startup_s``, the part in which chunks waited or started. ``data_scale`` is the volume
    of its data over the usual one. ``load`` is how busy the cluster was when it began, in any unit, the same
    in all runs; ``None`` where nobody knows.
    """

    chunks: int
    seconds: float
    data_scale: float = 1.0
    startup_s: float = 0.0
    load: float | None = None

    @property
    def possible(self) -> bool:
        """Whether the numbers can be those of a run; clocks that disagree make some that cannot."""
        numbers = (self.seconds, self.data_scale, self.startup_s, 0.0 if self.load is None else self.load)
        return (
            all(map(math.isfinite, numbers))
            and self.chunks >= 1
            and 1 / MAX_SCALE <= self.data_scale <= MAX_SCALE
            and 0 <= self.startup_s < self.seconds
        )


@dataclass(frozen=True)
class AmdahlLaw:
    """The law of one stage.

    ``single_s`` is T1, ``parallel`` p, ``exponent`` k and ``startup_s`` c of the formula.
    """

    single_s: float
    parallel: float
    exponent: float = 1.0
    startup_s: float = 0.0

    def seconds(self, chunks: FloatArray, data_scale: FloatArray | float = 1.0) -> FloatArray:
        """Return the seconds in so many chunks; arrays go together element by element."""
        return np.asarray(self.startup_s + self.work_s(chunks, data_scale), dtype=np.float64)

    def work_s(self, chunks: FloatArray, data_scale: FloatArray | float = 1.0) -> FloatArray:
        """Return the seconds without waiting and starting."""
        serial = 1.0 - self.parallel + self.parallel / chunks
        return np.asarray(data_scale**self.exponent * self.single_s * serial, dtype=np.float64)

    def log_gradient(
        self, chunks: FloatArray, data_scale: FloatArray, startup_s: FloatArray | float
    ) -> FloatArray:
        """Return the derivatives of the logarithm of the seconds by ln T1, p and k, as n x 3."""
        work_s = self.work_s(chunks, data_scale)
        share = work_s / (startup_s + work_s)
        serial = 1.0 - self.parallel + self.parallel / chunks
        by_parallel = share * (1.0 / chunks - 1.0) / np.maximum(serial, 1e-12)
        return np.column_stack([share, by_parallel, share * np.log(data_scale)])

    def to_json(self) -> dict[str, float]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AmdahlLaw:
        """Build a law from what :meth:`to_json` returned."""
        return cls(**value)
