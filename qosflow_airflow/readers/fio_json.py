"""The output of ``fio --output-format=json`` (https://fio.readthedocs.io): rates of local storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.readers.csv_table import MAX_BYTES, MAX_COUNT, MAX_SECONDS
from qosflow_airflow.readers.document import Node
from qosflow_airflow.readers.rate_rows import (
    FAILED,
    RANDOM,
    Mounts,
    RateRows,
    Transfer,
    no_tier,
    tier_of,
)

VERSION = "fio version"
"""The key that tells fio's output from other documents."""
OPERATIONS = ("read", "write")
OTHER = "neither reads nor writes alone"
PATTERNS = {"read": None, "write": None, "randread": RANDOM, "randwrite": RANDOM}
"""Per ``rw`` of a job, why it gives no rate; what is not here is of another kind."""
_SYNCED = ("end_fsync", "fsync", "fdatasync", "fsync_on_close", "sync")


def read_fio_json(documents: Iterable[Node], source: str, mounts: Mounts) -> StorageRates:
    """Return the rates of jobs that read or write sequentially.

    A job's tier is that of its ``directory`` or ``filename``, or the one that it is named after (``disk``, or
    ``disk-`` and more). The processes of a job are one row: all bytes, in the time of the slowest. The
    access size is the mean one. ``cached`` marks what went through the page cache and may have stopped there:
    writes that were not synced, reads whose cache was not dropped or that began again.

    Raises
    ------
    MeasurementError
        When a result is not what fio writes, a job lies on no tier, or no job gives a rate.
    """
    rows = RateRows(source)
    for document in documents:
        _read_document(document, rows, mounts)
    return rows.rates()


def _read_document(document: Node, rows: RateRows, mounts: Mounts) -> None:
    top = document.mapping()
    if "client_stats" in top:
        raise top["client_stats"].fail(
            "is the answer of several fio servers, whose rates cannot be told apart",
            "Run fio on each node and import its own output.",
        )
    document.require(["jobs"])
    shared = _options(top.get("global options"))
    groups: dict[tuple[int, str], list[_Job]] = {}
    for node in top["jobs"].sequence():
        node.require(["jobname", "groupid"])
        job = _Job(node, shared | _options(node.mapping().get("job options")))
        groups.setdefault((node.mapping()["groupid"].whole(0, MAX_COUNT), job.name), []).append(job)
    for jobs in groups.values():
        _read_group(jobs, rows, mounts)


def _options(node: Node | None) -> dict[str, str]:
    if node is None:
        return {}
    # A flag without a value has an empty one.
    return {name: str(value.content or "").strip() for name, value in node.mapping().items()}


@dataclass(frozen=True)
class _Job:
    """One entry of the answer: a process, or all processes of a job where they were reported together."""

    node: Node
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.node.mapping()["jobname"].text()

    @property
    def failed(self) -> bool:
        fields = self.node.mapping()
        return "error" in fields and fields["error"].content != 0

    def flag(self, name: str) -> bool:
        return name in self.options and self.options[name] not in ("0", "none")

    def amount(self, operation: str, name: str, high: float) -> float:
        part = self.node.mapping().get(operation)
        if part is None:
            return 0.0
        part.require([name])
        return part.mapping()[name].number(0, high)


def _read_group(jobs: list[_Job], rows: RateRows, mounts: Mounts) -> None:
    first = jobs[0]
    pattern = first.options.get("rw", first.options.get("readwrite", "read")).partition(":")[0]
    reason = PATTERNS.get(pattern, OTHER)
    if any(job.failed for job in jobs):
        rows.drop(FAILED)
    elif reason is not None:
        rows.drop(reason)
    else:
        rows.add(first.node.line, _transfer(jobs, pattern, _tier(first, mounts)))


def _transfer(jobs: list[_Job], operation: str, tier: str) -> Transfer:
    first = jobs[0]
    volume_bytes = sum(job.amount(operation, "io_bytes", MAX_BYTES) for job in jobs)
    accesses = sum(job.amount(operation, "total_ios", MAX_BYTES) for job in jobs)
    runtime_ms = max(job.amount(operation, "runtime", 1000 * MAX_SECONDS) for job in jobs)
    direct = first.flag("direct") or first.options.get("buffered") == "0"
    # A file that is read again and again comes from the cache, whatever was dropped at first.
    again = first.flag("time_based") or first.options.get("loops", "1") != "1"
    dropped = first.options.get("invalidate") != "0" and not again
    fresh = any(map(first.flag, _SYNCED)) if operation == "write" else dropped
    return Transfer(
        operation=operation,
        tier=tier,
        access_bytes=volume_bytes / accesses if accesses else 0.0,
        volume_bytes=volume_bytes,
        tasks=len(jobs) if len(jobs) > 1 else _processes(first),
        nodes=1,
        seconds=runtime_ms / 1000,
        cached=not direct and not fresh,
        direct=direct,
    )


def _processes(job: _Job) -> int:
    text = job.options.get("numjobs", "1")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_COUNT):
        raise job.node.fail(f"has numjobs {text!r}", f"Give a whole number from 1 to {MAX_COUNT:,}.")
    return int(text)


def _tier(job: _Job, mounts: Mounts) -> str:
    folder, file = job.options.get("directory", ""), job.options.get("filename", "").partition(":")[0]
    path = file if file.startswith("/") else folder
    if path:
        return tier_of(path, mounts, job.node)
    for name in mounts:
        if job.name == name or job.name.startswith(f"{name}-"):
            return name
    raise no_tier(f"(job {job.name!r}) says neither where it ran nor on which tier", mounts, job.node)
