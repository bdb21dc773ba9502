"""What a traced run moved: volumes per stage and edge, each byte counted once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Workflow

POOLED_TASKS = 5
"""How many tasks the spread of the whole workflow counts as, in that of one stage."""


@dataclass(frozen=True)
class IOVolume:
    """Bytes moved by all tasks of a stage in one operation, and the mean size of an access.

    ``file_bytes`` is the mean of what a task moves in one file; 0 where the trace does not say it.
    """

    volume_bytes: float
    access_bytes: float
    file_bytes: float = 0.0


@dataclass(frozen=True)
class ComputeTime:
    """The part of a stage's wall clock that is not I/O, seconds, on the nodes of the trace.

    ``log_sd`` is the spread of the natural logarithm of the tasks' own compute times, those of the whole
    workflow where a stage has one task; NaN when no stage has two.
    """

    compute_s: float
    nodes: int
    log_sd: float = math.nan


@dataclass(frozen=True)
class TracedVolumes:
    """Volumes and compute times of a workflow's stages and edges, from one traced run.

    The trace repeats a task's volume on each file it touches; here it counts once per task and operation.
    """

    workflow: Workflow
    observations: IOObservations

    @cached_property
    def _frame(self) -> pd.DataFrame:
        """One row per task, file and operation; ``bytes`` is the file's share of the task's volume."""
        keys = ["stage", "task", "operation", "file"]
        frame = self.observations.frame.drop_duplicates(keys)
        # Where the trace does not say how much of a task's volume each file took, every file takes the same.
        files = frame.groupby(["stage", "task", "operation"])["file"].transform("size")
        share = frame["file_bytes"].fillna(frame["volume_bytes"] / files)
        return frame.assign(bytes=share)

    @cached_property
    def _writers(self) -> Mapping[str, str]:
        written = self._frame[self._frame["operation"] == "write"]
        return dict(zip(written["file"], written["stage"], strict=True))

    @cached_property
    def _file_bytes(self) -> Mapping[str, float]:
        """Size of each file: what was written, or for outside input the most that anyone says of it."""
        frame = self._frame
        written = frame[frame["operation"] == "write"].groupby("file")["bytes"].sum()
        read = frame[frame["operation"] == "read"].groupby("file")
        sizes = read["file_size_bytes"].max().fillna(read["bytes"].max())
        return {str(name): float(size) for found in (sizes, written) for name, size in found.items()}

    def traced(self, stage: str) -> bool:
        """Whether the trace has any row of the stage."""
        return stage in self.observations.stages

    def volume(self, stage: str, operation: str) -> IOVolume | None:
        """Return what a stage reads or writes, ``None`` when the trace has no such row."""
        rows = self._frame[(self._frame["stage"] == stage) & (self._frame["operation"] == operation)]
        if rows.empty:
            return None
        tasks = rows.drop_duplicates("task")
        volume = float(rows["bytes"].sum())
        accesses = float(tasks["accesses"].sum())
        access = tasks["volume_bytes"].sum() / accesses if accesses > 0 else tasks["access_bytes"].median()
        known = rows["file_bytes"].notna().all()
        return IOVolume(volume, float(access), volume / len(rows) if known else 0.0)

    def edge_bytes(self, edge: Edge) -> float | None:
        """Return the size of the files that flow along an edge, each once; ``None`` when none was seen."""
        sizes = self._file_bytes
        files = self._final_files(edge.producer) if edge.consumer == FINAL_DATA else self._files_between(edge)
        return sum(sizes[name] for name in files) if files else None

    def edge_files(self, edge: Edge) -> int:
        """Return how many files flow along an edge; 0 when none was seen."""
        final = edge.consumer == FINAL_DATA
        return len(self._final_files(edge.producer) if final else self._files_between(edge))

    def first_read_bytes(self, stage: str) -> float:
        """Return the size of the outside files that no stage of an earlier level has read before."""
        return self._first_reads.get(stage, 0.0)

    @cached_property
    def _first_reads(self) -> dict[str, float]:
        readers = [stage for stage in self.workflow.stages if stage.reads_initial_data]
        files = {stage.name: self._files_between(Edge(INITIAL_DATA, stage.name)) for stage in readers}
        first: dict[str, int] = {}
        for stage in sorted(readers, key=lambda stage: stage.level):
            for name in files[stage.name]:
                first.setdefault(name, stage.level)
        sizes = self._file_bytes
        return {
            stage.name: sum(sizes[name] for name in files[stage.name] if first[name] == stage.level)
            for stage in readers
        }

    def observed_pairs(self) -> set[tuple[str, str]]:
        """Return the pairs of stages between which files were seen to flow."""
        inner = [edge for edge in self.workflow.edges if {INITIAL_DATA, FINAL_DATA}.isdisjoint(edge)]
        return {(edge.producer, edge.consumer) for edge in inner if self._files_between(edge)}

    def _files_between(self, edge: Edge) -> set[str]:
        frame = self._frame
        reads = frame[(frame["operation"] == "read") & (frame["stage"] == edge.consumer)]
        producers = [
            self._writers.get(name) or said or INITIAL_DATA
            for name, said in zip(reads["file"], reads["producer"], strict=True)
        ]
        return {
            name for name, producer in zip(reads["file"], producers, strict=True) if producer == edge.producer
        }

    def _final_files(self, stage: str) -> set[str]:
        frame = self._frame
        written = set(frame[(frame["operation"] == "write") & (frame["stage"] == stage)]["file"])
        read = set(frame[frame["operation"] == "read"]["file"])
        return (written - read) or written

    def compute(self, stage: str) -> ComputeTime | None:
        """Return the stage's wall clock without I/O, ``None`` when the trace has no compute times.

        The wall clock runs from the first task's start to the last one's end; the share of it that is I/O is
        that of all tasks' time. Without start and end times the mean task stands for the stage.
        """
        rows = self.observations.frame[self.observations.frame["stage"] == stage]
        rows = rows[rows["compute_s"].notna()]
        if rows.empty:
            return None
        tasks = rows.groupby("task").agg(
            compute_s=("compute_s", "first"), start_s=("start_s", "first"), end_s=("end_s", "first")
        )
        nodes = int(rows["nodes"].min())
        wall_s = tasks["end_s"].max() - tasks["start_s"].min()
        busy_s = (tasks["end_s"] - tasks["start_s"]).sum()
        log_sd = self._compute_log_sds.get(stage, self._pooled_compute_log_sd)
        if np.isnan(wall_s) or busy_s <= 0:
            return ComputeTime(float(tasks["compute_s"].mean()), nodes, log_sd)
        return ComputeTime(float(wall_s * min(tasks["compute_s"].sum() / busy_s, 1.0)), nodes, log_sd)

    def share_alone(self, stage: str, processors: int) -> float:
        """Return the share of its traced computing that a stage would have needed alone, at most 1.

        While more tasks of all stages ran than there are processors, its tasks got fewer of these than they
        would have had to themselves. 1 where the trace does not say when tasks ran.
        """
        rows = self.observations.frame.drop_duplicates(["stage", "task"])
        starts, ends = (rows[name].to_numpy(dtype=np.float64) for name in ("start_s", "end_s"))
        own = (rows["stage"] == stage).to_numpy()
        if np.isnan(starts).any() or np.isnan(ends).any() or not own.any():
            return 1.0
        moments = np.unique(np.concatenate([starts, ends]))
        running, owned = (_running(starts[of], ends[of], moments[:-1]) for of in (slice(None), own))
        busy_s = owned * np.diff(moments)
        alone = np.maximum(owned / processors, 1.0) / np.maximum(running / processors, 1.0)
        return float((busy_s * alone).sum() / busy_s.sum()) if busy_s.sum() > 0 else 1.0

    @cached_property
    def _compute_log_sds(self) -> dict[str, float]:
        """Spread of the tasks' compute times, for stages with more than one task that computes.

        Two tasks that happened to take the same time do not make it certain: each stage's spread is drawn to
        that of the whole workflow, which counts as much as so many tasks (:data:`POOLED_TASKS`).
        """
        pooled = self._pooled_compute_log_sd
        return {
            stage: math.sqrt((own * squares + POOLED_TASKS * pooled**2) / (own + POOLED_TASKS))
            for stage, (own, squares) in self._compute_spreads.items()
        }

    @cached_property
    def _pooled_compute_log_sd(self) -> float:
        own = sum(count for count, _ in self._compute_spreads.values())
        squares = sum(count * square for count, square in self._compute_spreads.values())
        return math.sqrt(squares / own) if own else math.nan

    @cached_property
    def _compute_spreads(self) -> dict[str, tuple[int, float]]:
        """Per stage, degrees of freedom and variance of the logarithm of its tasks' compute times."""
        tasks = self.observations.frame.drop_duplicates(["stage", "task"])
        logs = np.log(tasks["compute_s"].where(tasks["compute_s"] > 0)).dropna()
        groups = logs.groupby(tasks["stage"])
        found = groups.var(ddof=1).dropna()
        return {
            str(stage): (int(groups.count()[stage]) - 1, float(square)) for stage, square in found.items()
        }


def _running(starts: FloatArray, ends: FloatArray, moments: FloatArray) -> NDArray[np.int64]:
    """Return how many tasks run from each moment on."""
    begun, ended = (np.searchsorted(np.sort(times), moments, side="right") for times in (starts, ends))
    return np.asarray(begun - ended)
