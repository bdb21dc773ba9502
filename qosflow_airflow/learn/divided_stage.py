"""A stage on a tier in any number of tasks, as the I/O model has it.

Reads and writes take as much longer as the model says of so many tasks
(:mod:`~qosflow_airflow.core.chunk_times`). Computing goes in waves: as many tasks at once as there are slots,
and all of it together stays the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qosflow_airflow.core.chunk_times import computing, waves
from qosflow_airflow.core.tiers import NodePool
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes
from qosflow_airflow.learn.parallelism import Estimate


@dataclass(frozen=True)
class DividedStage:
    """The stage at position ``stage`` of ``times`` on the tier at ``tier``.

    ``own`` is its workflow's number of tasks, ``startup_s`` what a task takes to start, seconds.
    """

    times: StageTimes
    stage: int
    tier: int
    own: int
    node: NodePool
    startup_s: float = 0.0

    @property
    def unknown(self) -> str:
        """Why the model cannot tell of other numbers of tasks, in words; empty where it can."""
        if self.node.slots is None:
            return "how many tasks run at once on a node is not known (slots in tiers.yaml)"
        if self.times.chunks is None:
            return "its model was built without rates for other numbers of tasks"
        if self.times.compute.provenance[self.stage] >= Provenance.NOT_OBSERVED:
            return "how long it computes is not known"
        if not self.own_parts.sum() > 0:
            return "how long it takes on this tier is not known"
        return ""

    @property
    def own_parts(self) -> FloatArray:
        """Seconds of reading, computing and writing (3) in its own number of tasks."""
        times, at = self.times, (self.stage, self.tier)
        compute_s = np.nan_to_num(times.compute.seconds[self.stage])
        return np.array([times.read.seconds[at], compute_s, times.write.seconds[at]])

    def parts(self, tasks: FloatArray) -> FloatArray:
        """Return seconds of reading, computing and writing (3 x n) in ``tasks`` (n).

        Where other numbers are not known, they take as long as its own.
        """
        if self.unknown or self.times.chunks is None:
            return np.repeat(self.own_parts[:, None], len(tasks), axis=1)
        read, write = self.times.chunks.factors(self.stage, self.tier, self.own, tasks)
        factors = [read, computing(self.node, self.times.nodes, self.own, tasks), write]
        return np.asarray(self.own_parts[:, None] * np.stack(factors))

    def seconds(self, tasks: int) -> float:
        """Return the seconds of all three in so many tasks, without starting."""
        return float(self.parts(np.array([float(tasks)])).sum())

    def estimate(self, chunks: FloatArray, data_scale: float = 1.0, load: float | None = None) -> Estimate:
        """Return what so many tasks take with starting, as what runs tell does; spread: that of the model.

        Size and load are the usual ones, whatever is given.
        """
        seconds = self.parts(chunks).sum(axis=0)
        if self.node.slots is not None:
            seconds = seconds + self.startup_s * waves(self.node, self.times.nodes, chunks)
        spread = np.nan_to_num(self.times.read.log_sd[self.stage, self.tier])
        return Estimate(seconds, np.full(len(chunks), math.hypot(spread, OTHER_NUMBER_LOG_SD)))


OTHER_NUMBER_LOG_SD = 0.8
"""How far another number of tasks lies from what the I/O model makes of it: standard deviation of ln time.

From real runs (docs/parallelism.md): what every task takes whatever its share the model does not know.
"""
