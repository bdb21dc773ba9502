"""What finished runs tell of a stage's parallelism: how long it takes in so many chunks, and how surely.

Amdahl's law (:mod:`~qosflow_airflow.learn.amdahl`), and what it leaves over as a process over the number of
chunks, the size of the data and, where it helps, the load of the cluster. Fitting is in
:mod:`~qosflow_airflow.learn.parallelism_fit`; here is what a task needs that plans a run: numpy alone, from
plain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.learn.amdahl import AmdahlLaw
from qosflow_airflow.learn.matern import MaternProcess


class Estimate(NamedTuple):
    """Seconds per number of chunks, and the standard deviation of their logarithm for one more run."""

    seconds: FloatArray
    log_sd: FloatArray


@dataclass(frozen=True)
class StageParallelism:
    """A stage's law as fitted to ``runs`` runs; ``rejected`` more had a time that cannot be, or is far off.

    Attributes
    ----------
    covariance:
        Of (ln T1, p, k), 3 x 3.
    noise_log_sd:
        By how much one run differs from the next.
    process:
        What the law leaves over, ``None`` where nothing speaks for it or runs are too few.
    usual_load:
        The median load where the process depends on it, else ``None``.
    seen:
        Numbers of chunks that were run, each with how many runs.
    newest:
        The numbers of chunks of the newest runs, oldest first.
    """

    law: AmdahlLaw
    covariance: FloatArray
    noise_log_sd: float
    runs: int
    rejected: int = 0
    process: MaternProcess | None = None
    usual_load: float | None = None
    seen: Mapping[int, int] = field(default_factory=dict)
    newest: tuple[int, ...] = ()

    def estimate(self, chunks: FloatArray, data_scale: float = 1.0, load: float | None = None) -> Estimate:
        """Return what so many chunks take, with data so many times as large as usual, under such a load."""
        scale = np.full(len(chunks), data_scale)
        seconds = self.law.seconds(chunks, scale)
        gradient = self.law.log_gradient(chunks, scale, self.law.startup_s)
        variance = self.noise_log_sd**2 + np.einsum("ij,jk,ik->i", gradient, self.covariance, gradient)
        if self.process is not None:
            axes = [np.log(chunks), np.log(scale)]
            if self.usual_load is not None:
                axes.append(np.full(len(chunks), self.usual_load if load is None else load))
            left_over, doubt = self.process(np.column_stack(axes))
            seconds, variance = seconds * np.exp(left_over), variance + doubt
        return Estimate(seconds, np.sqrt(variance))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "law": self.law.to_json(),
            "covariance": self.covariance.tolist(),
            "noise_log_sd": self.noise_log_sd,
            "runs": self.runs,
            "rejected": self.rejected,
            "process": None if self.process is None else self.process.to_json(),
            "usual_load": self.usual_load,
            "seen": {str(chunks): runs for chunks, runs in sorted(self.seen.items())},
            "newest": list(self.newest),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageParallelism:
        """Build it from what :meth:`to_json` returned."""
        process = value["process"]
        return cls(
            law=AmdahlLaw.from_json(value["law"]),
            covariance=np.array(value["covariance"], dtype=np.float64),
            noise_log_sd=value["noise_log_sd"],
            runs=value["runs"],
            rejected=value["rejected"],
            process=None if process is None else MaternProcess.from_json(process),
            usual_load=value["usual_load"],
            seen={int(chunks): runs for chunks, runs in value["seen"].items()},
            newest=tuple(value["newest"]),
        )
