"""Observations from Darshan logs: one row per rank, file and operation, and what the logs cannot tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.darshan_log import ALL_RANKS, DarshanLog, DarshanRecord, read_darshan_logs
from qosflow_airflow.readers.rate_rows import Mounts, innermost
from qosflow_airflow.readers.trace_report import TraceReport

STREAMS = frozenset({"<STDIN>", "<STDOUT>", "<STDERR>"})

STREAM = "records of standard input, output and error"
IDLE = "records of files in which nothing was moved"
ABSENT = "records without counters"
SHARED = "records of all ranks together, which are split evenly: who moved what is not known"
UNTIMED = "transfers with bytes but no seconds: their time is not known"
UNCOUNTED = "transfers with bytes but no number of accesses, which count as one access"
PARTIAL = "kinds of records that are incomplete, as Darshan ran out of memory for them"
LONGER = "ranks whose I/O took longer than the run: how long they computed is not known"
MIXED = "files that a rank moved through POSIX and STDIO, taken together"

UNKNOWN = (
    "storage tiers; the tier is blank, or that of the folder a file lies in where tiers are given",
    "nodes; what the caller says counts",
    "stages; what the caller says counts, and reads count as from the stage whose log wrote the file",
    "the size of files, and what mmap moved",
)


@dataclass
class _Transfer:
    """One task's transfers with one operation in one file, summed over modules."""

    bytes: float = 0.0
    accesses: float = 0.0
    seconds: float = 0.0


@dataclass
class _Task:
    stage: str
    start_s: float
    end_s: float
    io_s: float = 0.0
    transfers: dict[tuple[str, str], _Transfer] = field(default_factory=dict)


def read_darshan_observations(
    stages: Mapping[str, Sequence[str | Path]], *, nodes: int, mounts: Mounts | None = None
) -> tuple[IOObservations, TraceReport]:
    """Return what the logs of each stage say, each rank of a log being a task.

    Parameters
    ----------
    stages:
        The logs of each stage: of one run with many ranks, or of many runs.
    nodes:
        Nodes that the workflow ran on: the logs do not tell.
    mounts:
        The folder of each tier, to say on which tier a file lay.

    Raises
    ------
    BundleError
        When the library is missing, or a log cannot be read.
    MeasurementError
        When no log is given, one is given twice, or they hold no transfers through POSIX or STDIO.
    """
    paths = [Path(path) for logs in stages.values() for path in logs]
    _check_paths(paths)
    read = iter(read_darshan_logs(paths))
    found = {stage: [next(read) for _ in logs] for stage, logs in stages.items()}
    counts = _Counts()
    tasks = {
        stage: {name: task for log in logs for name, task in _tasks(stage, log, counts)}
        for stage, logs in found.items()
    }
    rows = list(_rows(tasks, {s: sum(log.processes for log in logs) for s, logs in found.items()}, counts))
    if not rows:
        raise _nothing(found, paths)
    index = pd.RangeIndex(1, len(rows) + 1, name="line")
    frame = pd.DataFrame(rows, index=index).assign(nodes=nodes)
    frame["tier"] = [innermost(file, mounts or {}) or "" for file in frame["file"]]
    observations = IOObservations(frame[list(COLUMNS)])
    source = ", ".join(str(path) for path in paths[:3]) + (" and more" if len(paths) > 3 else "")
    return observations, TraceReport(source, len(rows), counts.dropped, counts.flagged, UNKNOWN)


@dataclass
class _Counts:
    dropped: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)


def _check_paths(paths: Sequence[Path]) -> None:
    if not paths:
        raise MeasurementError("no Darshan logs are given", cure="Give at least one.")
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise MeasurementError("is given twice", source=path, cure="Give each log to one stage.")


def _nothing(found: Mapping[str, Iterable[DarshanLog]], paths: Sequence[Path]) -> MeasurementError:
    modules = sorted({name for logs in found.values() for log in logs for name in log.modules})
    return MeasurementError(
        f"no bytes moved through POSIX or STDIO; the logs have {', '.join(modules) or 'no records'}",
        source=paths[0],
        cure="Give logs of a program that reads or writes files.",
    )


def _tasks(stage: str, log: DarshanLog, counts: _Counts) -> Iterator[tuple[str, _Task]]:
    """Yield each rank of a log and what it did."""
    last_s = max((record.last_s for record in log.records), default=0.0)
    # Older logs have whole seconds: the last transfer may end after the run does.
    end_s = max(log.end_s, log.start_s + last_s)
    tasks = [_Task(stage, log.start_s, end_s) for _ in range(log.processes)]
    counts.flagged[PARTIAL] += sum(log.modules.values())
    for record in log.records:
        _add_record(record, tasks, counts)
    for rank, task in enumerate(tasks):
        yield f"{log.job_id}:{log.path.stem}:{rank}", task


def _add_record(record: DarshanRecord, tasks: Sequence[_Task], counts: _Counts) -> None:
    if record.file in STREAMS:
        counts.dropped[STREAM] += 1
        return
    transfers = {
        "read": (record.bytes_read, record.reads, record.read_s),
        "write": (record.bytes_written, record.writes, record.write_s),
    }
    if min(record.bytes_read, record.bytes_written) < 0:
        counts.dropped[ABSENT] += 1
        return
    taking_part = tasks if record.rank == ALL_RANKS else [tasks[record.rank]]
    share = 1 / len(taking_part)
    for task in taking_part:
        task.io_s += record.meta_s * share
    moved = {name: parts for name, parts in transfers.items() if parts[0] > 0}
    counts.dropped[IDLE] += not moved
    counts.flagged[SHARED] += bool(moved) and len(taking_part) > 1
    for operation, (size_bytes, accesses, seconds) in moved.items():
        counts.flagged[UNTIMED] += seconds <= 0
        counts.flagged[UNCOUNTED] += accesses <= 0
        for task in taking_part:
            transfer = task.transfers.setdefault((operation, record.file), _Transfer())
            counts.flagged[MIXED] += transfer.bytes > 0
            transfer.bytes += size_bytes * share
            transfer.accesses += max(1, accesses) * share
            transfer.seconds += max(0.0, seconds) * share
            task.io_s += max(0.0, seconds) * share


def _rows(
    tasks: Mapping[str, Mapping[str, _Task]], instances: Mapping[str, int], counts: _Counts
) -> Iterator[dict[str, object]]:
    producers = _producers(tasks)
    for stage, several in tasks.items():
        for name, task in several.items():
            # A run of no duration has none, not one of 0 s.
            known = task.end_s > task.start_s
            compute_s = task.end_s - task.start_s - task.io_s if known else math.nan
            counts.flagged[LONGER] += known and compute_s < 0
            totals = _sums(task)
            for (operation, file), transfer in task.transfers.items():
                total = totals[operation]
                # A stage's own files are not what it waits for.
                producer = producers.get(file, "") if operation == "read" else ""
                yield {
                    "operation": operation,
                    "stage": stage,
                    "task": name,
                    "file": file,
                    "producer": "" if producer == stage else producer,
                    "volume_bytes": total.bytes,
                    "file_bytes": transfer.bytes,
                    "file_size_bytes": math.nan,
                    "access_bytes": total.bytes / total.accesses if total.accesses else 0.0,
                    "accesses": total.accesses,
                    "io_s": total.seconds,
                    "tasks": instances[stage],
                    "compute_s": compute_s if compute_s >= 0 else math.nan,
                    "start_s": task.start_s if known else math.nan,
                    "end_s": task.end_s if known else math.nan,
                }


def _sums(task: _Task) -> dict[str, _Transfer]:
    """Return what the task moved per operation, in all its files."""
    sums: dict[str, _Transfer] = {}
    for (operation, _), transfer in task.transfers.items():
        total = sums.setdefault(operation, _Transfer())
        total.bytes += transfer.bytes
        total.accesses += transfer.accesses
        total.seconds += transfer.seconds
    return sums


def _producers(tasks: Mapping[str, Mapping[str, _Task]]) -> dict[str, str]:
    """Return the stage that wrote each file, where it is one of the given stages and one only."""
    writers: dict[str, set[str]] = {}
    for stage, several in tasks.items():
        for task in several.values():
            for operation, file in task.transfers:
                if operation == "write":
                    writers.setdefault(file, set()).add(stage)
    return {file: next(iter(stages)) for file, stages in writers.items() if len(stages) == 1}
