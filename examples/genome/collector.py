"""What a task read and wrote: recorded around its own system calls, then turned into an observations file.

A task opens its files through :class:`TaskTrace`. Every read, write and sync of such a file is one system
call, counted and timed as it is made, so that volumes, operations and seconds are those of the calls and not
estimates. ``/proc/self/io`` is recorded beside them: it sees the whole process, interpreter included.

``python collector.py collect RECORDS --output observations.csv`` turns a folder of records into a table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from errors import GenomeError

INITIAL_DATA = "initial_data"
FINAL_DATA = "final_data"
MIB = 1 << 20
COLUMNS = (
    # the columns of the public traces
    *("operation", "randomOffset", "transferSize", "aggregateFilesizeMB", "numTasks", "parallelism"),
    *("totalTime", "numNodesList", "numNodes", "tasksPerNode", "trMiB", "storageType", "opCount"),
    *("taskName", "taskPID", "fileName", "stageOrder", "prevTask"),
    # what they lack
    *("computeSeconds", "startTime", "endTime", "fileBytes", "fileSizeBytes"),
)


@dataclass
class FileAccess:
    """One file under one operation: its size, the volume moved, system calls and seconds, syncs included."""

    operation: str
    file: str
    partner: str
    file_bytes: int = 0
    bytes: int = 0
    operations: int = 0
    jumps: int = 0
    seconds: float = 0.0


class TracedFile:
    """A file whose reads, writes and syncs are counted and timed; not buffered, so one call is one access."""

    def __init__(self, path: Path, flags: int, access: FileAccess) -> None:
        self.path = path
        self.access = access
        started = time.perf_counter()
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        access.seconds += time.perf_counter() - started
        self._offset = 0
        self._expected: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """Return the file's size in bytes."""
        return os.fstat(self._descriptor).st_size

    def seek(self, offset: int) -> int:
        """Move to ``offset`` from the start."""
        self._offset = os.lseek(self._descriptor, offset, os.SEEK_SET)
        return self._offset

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; empty at the end of the file."""
        started = time.perf_counter()
        content = os.read(self._descriptor, size)
        self._count(len(content), time.perf_counter() - started)
        return content

    def read_all(self, access_bytes: int) -> bytes:
        """Return the rest of the file, read in accesses of ``access_bytes``."""
        return b"".join(iter(lambda: self.read(access_bytes), b""))

    def write(self, content: bytes) -> int:
        """Write all of ``content``."""
        view = memoryview(content)
        while view:
            started = time.perf_counter()
            written = os.write(self._descriptor, view)
            self._count(written, time.perf_counter() - started)
            view = view[written:]
        return len(content)

    def sync(self) -> None:
        """Wait until what was written is on the storage."""
        started = time.perf_counter()
        os.fsync(self._descriptor)
        self.access.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Close the file."""
        self.access.file_bytes = self.size()
        os.close(self._descriptor)

    def _count(self, moved: int, seconds: float) -> None:
        if self._expected is not None and self._offset != self._expected:
            self.access.jumps += 1
        self._offset += moved
        self._expected = self._offset
        self.access.bytes += moved
        self.access.operations += 1
        self.access.seconds += seconds


def _process_start() -> float:
    """Return when this process began, in epoch seconds: the interpreter's start is the task's time too."""
    now = time.time()
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii")
        started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return now - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return now


def _process_io() -> dict[str, int]:
    """Return ``/proc/self/io`` (rchar, wchar, syscr, syscw, ...), empty where the system has none."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}


@dataclass
class TaskTrace:
    """The record of one task while it runs: who it is, and what it has accessed so far."""

    stage: str
    index: int
    count: int
    level: int = 1
    final: bool = False
    tier: str = "local"
    nodes: int = 1
    recommendation_id: str | None = None
    accesses: dict[tuple[str, str, str], FileAccess] = field(default_factory=dict)
    start_s: float = field(default_factory=_process_start)
    process_io: dict[str, int] = field(default_factory=_process_io)

    @contextmanager
    def reading(self, path: Path, producer: str) -> Iterator[TracedFile]:
        """Open ``path``, a file of ``producer`` (a stage or ``initial_data``), to read it."""
        try:
            file = TracedFile(path, os.O_RDONLY, self._access("read", path.name, producer))
        except FileNotFoundError:
            raise GenomeError(
                f"{path}: no such file; has {producer} run, and is its folder this one?"
            ) from None
        try:
            yield file
        finally:
            file.close()

    @contextmanager
    def writing(self, path: Path) -> Iterator[TracedFile]:
        """Open ``path`` to write it whole: under a temporary name, synced, renamed when all went well."""
        # The sync comes before the rename: a name that exists then means content that is on the storage.
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
        access = self._access("write", path.name, FINAL_DATA if self.final else "")
        try:
            file = TracedFile(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, access)
            try:
                yield file
                file.sync()
            finally:
                file.close()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _access(self, operation: str, name: str, partner: str) -> FileAccess:
        return self.accesses.setdefault((operation, name, partner), FileAccess(operation, name, partner))

    def seconds(self, operation: str) -> float:
        """Return the seconds spent so far in ``read`` or ``write`` calls."""
        return sum(a.seconds for a in self.accesses.values() if a.operation == operation)

    def moved_bytes(self, operation: str) -> int:
        """Return the bytes moved so far by ``read`` or ``write`` calls."""
        return sum(a.bytes for a in self.accesses.values() if a.operation == operation)

    def record(self) -> dict[str, Any]:
        """Return the record of the task up to now, as plain JSON."""
        end_s = time.time()
        now = _process_io()
        return {
            "stage": self.stage,
            "index": self.index,
            "count": self.count,
            "level": self.level,
            "tier": self.tier,
            "nodes": self.nodes,
            "recommendation_id": self.recommendation_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start_s": self.start_s,
            "end_s": end_s,
            "wall_s": end_s - self.start_s,
            "cpu_s": time.process_time(),
            "read_s": self.seconds("read"),
            "write_s": self.seconds("write"),
            "process_io": {name: now[name] - value for name, value in self.process_io.items() if name in now},
            "files": [asdict(access) for access in self.accesses.values()],
        }

    def save(self, folder: Path) -> Path:
        """Write the record into ``folder``, whole or not at all; a retry replaces the record before it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"task-{self.stage}-{self.index:05d}.json"
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
        temporary.write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records in ``folder``, by stage level, stage and index.

    Raises :class:`~errors.GenomeError` where there are none, one cannot be read, or the tasks of a stage
    do not agree on how many they are or are not all there.
    """
    records = [_read_record(path) for path in sorted(folder.glob("task-*.json"))]
    if not records:
        raise GenomeError(f"{folder}: no records; run the tasks with QOSFLOW_RECORDS set to this folder")
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        stages.setdefault(record["stage"], []).append(record)
    for stage, tasks in stages.items():
        counts = sorted({task["count"] for task in tasks})
        if len(counts) > 1:
            raise GenomeError(f"{folder}: stage {stage} ran with {counts} tasks; keep one run in a folder")
        missing = set(range(counts[0])) - {task["index"] for task in tasks}
        if missing:
            raise GenomeError(
                f"{folder}: stage {stage} lacks the records of tasks {sorted(missing)}; run them"
            )
    return sorted(records, key=lambda record: (record["level"], record["stage"], record["index"]))


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not {"stage", "index", "count", "level", "files"} <= record.keys():
            raise ValueError("not the record of a task")
    except ValueError as error:
        raise GenomeError(f"{path}: {error}; delete it and run its task again") from error
    return record


def observations(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, object]]:
    """Yield one row of :data:`COLUMNS` per task, file and operation.

    Volume, operations and seconds are the task's for the operation, repeated on each of its files;
    ``fileBytes`` is what moved in the row's file, ``fileSizeBytes`` how large the file is.
    ``computeSeconds`` is the task's wall time outside its I/O.
    """
    for record in records:
        compute_s = max(0.0, record["wall_s"] - record["read_s"] - record["write_s"])
        for operation in ("read", "write"):
            files = [file for file in record["files"] if file["operation"] == operation]
            moved = sum(file["bytes"] for file in files)
            calls = sum(file["operations"] for file in files)
            seconds = sum(file["seconds"] for file in files)
            for file in files:
                yield {
                    "operation": operation,
                    "randomOffset": int(file["jumps"] > 0),
                    "transferSize": moved / calls if calls else 0.0,
                    "aggregateFilesizeMB": moved / MIB,
                    "numTasks": record["count"],
                    "parallelism": record["count"],
                    "totalTime": seconds,
                    "numNodesList": f"[{record['nodes']}]",
                    "numNodes": record["nodes"],
                    "tasksPerNode": -(-record["count"] // record["nodes"]),
                    "trMiB": moved / MIB / seconds if seconds else 0.0,
                    "storageType": record["tier"],
                    "opCount": calls,
                    "taskName": record["stage"],
                    "taskPID": f"{record['pid']}-{record['host']}",
                    "fileName": file["file"],
                    "stageOrder": record["level"],
                    "prevTask": file["partner"],
                    "computeSeconds": compute_s,
                    "startTime": record["start_s"],
                    "endTime": record["end_s"],
                    "fileBytes": file["bytes"],
                    "fileSizeBytes": file["file_bytes"],
                }


def collect(records_folder: Path, output: Path) -> int:
    """Write the observations of the records in a folder to ``output``; return how many rows."""
    rows = list(observations(read_records(records_folder)))
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Turn the records of tasks into an observations file.")
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="write the observations of a folder of records")
    collecting.add_argument("records", type=Path)
    collecting.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        rows = collect(options.records, options.output)
    except (GenomeError, OSError) as error:
        print(f"collector: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {rows} observations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
