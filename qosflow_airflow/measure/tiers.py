"""Measure tiers: what reading, writing and copying reach on each, within a time budget."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.fio import find_fio, run_fio
from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.points import (
    DIRECT_VOLUME_BYTES,
    MIB,
    VOLUMES_BYTES,
    Point,
    ProfileRow,
    buffered_points,
    direct_points,
)
from qosflow_airflow.measure.scratch import is_memory, scratch, usable_bytes
from qosflow_airflow.measure.workers import FilePart, Transfer, Workers

REPEATS = 3
AGAIN, SURPRISING = 2, 1.5
"""So often a point is measured again that takes so many times longer than smaller ones of its kind foretold:
it was disturbed, or the tier is like that."""
LARGE_SHARE = 0.25
"""A point that is expected to take more than this share of the budget is left out."""

Progress = Callable[[str], None]
_Run = Callable[[Point], float]


def measure_tiers(
    tiers: Mapping[str, Path],
    *,
    budget_s: float = 20.0,
    progress: Progress = lambda message: None,
    jobs: Iterable[int] | None = None,
    volumes_bytes: Iterable[int] = VOLUMES_BYTES,
    direct: bool = True,
) -> list[ProfileRow]:
    """Measure each tier and the copies between each two of them, as an application here sees them.

    Buffered points are measured by processes of our own: a write or copy counts until it is synced, a read
    finds what was just written, and on a device there is another one of what the page cache has lost. Every
    point is measured once, the smallest volumes first; one that takes much longer than those foretell is
    measured twice more, and the median counts. Direct points follow for tiers on a device, by fio
    where it is installed. Then buffered points are repeated while the budget lasts. A tier never loses more
    free space than :func:`~qosflow_airflow.measure.scratch.usable_bytes`, and nothing stays behind.

    Parameters
    ----------
    tiers:
        Folder of each tier.
    budget_s:
        Seconds to spend; the smallest volumes are measured even where that takes longer.
    progress:
        Called with a line of text now and then.
    jobs:
        How many processes transfer at once; by default one, two and one per processor.
    volumes_bytes:
        What the processes of a point move together.
    direct:
        Whether to measure around the page cache as well.

    Raises
    ------
    MeasurementError
        When a tier's name cannot stand in a profile, a folder is missing, not writable or has no space left,
        or a transfer fails.
    """
    _check_names(tiers)
    counts = sorted(set(jobs if jobs is not None else (1, 2, os.cpu_count() or 1)))
    deadline_s = time.monotonic() + budget_s
    with ExitStack() as stack:
        folders = {name: stack.enter_context(scratch(name, Path(path))) for name, path in tiers.items()}
        allowed = _allowed_bytes(folders)
        volumes = sorted(volume for volume in volumes_bytes if volume <= allowed)
        if not volumes:
            raise MeasurementError(
                f"too little space on {', '.join(tiers)}: a measurement may take {allowed / MIB:.1f} MiB",
                cure="Free some space; a share is always left alone.",
            )
        workers = stack.enter_context(Workers(counts[-1]))
        session = _Session(folders, workers, deadline_s, budget_s, progress)
        devices = {name for name, folder in folders.items() if not is_memory(folder)}
        for repeat in range(1, REPEATS + 1):
            for volume in volumes:
                points = buffered_points(list(tiers), counts, volume, devices)
                session.measure(
                    f"pass {repeat} of {REPEATS}", points, always=(repeat, volume) == (1, volumes[0])
                )
            if direct and repeat == 1:
                session.measure_direct(counts, min(DIRECT_VOLUME_BYTES, volumes[-1]))
        return session.rows


def _check_names(tiers: Iterable[str]) -> None:
    names = list(tiers)
    if not names:
        raise MeasurementError("no tiers to measure", cure="Name at least one tier and its folder.")
    for name in names:
        if not name or "-" in name:
            raise MeasurementError(
                f"tier {name!r} cannot be measured: a profile names copies source-destination",
                cure="Give it a name without a hyphen.",
            )


def _allowed_bytes(folders: Mapping[str, Path]) -> int:
    # Tiers may lie on one filesystem, and a copy holds two files: a point may take its share of half of it.
    shares: dict[int, int] = {}
    for folder in folders.values():
        device = folder.stat().st_dev
        shares[device] = shares.get(device, 0) + 1
    return min(usable_bytes(path) // (2 * shares[path.stat().st_dev]) for path in folders.values())


@dataclass
class _Session:
    folders: Mapping[str, Path]
    workers: Workers
    deadline_s: float
    budget_s: float
    progress: Progress
    rows: list[ProfileRow] = field(default_factory=list)
    took_s: dict[Point, float] = field(default_factory=dict)

    def measure(
        self, title: str, points: Sequence[Point], run: _Run | None = None, *, always: bool = False
    ) -> None:
        """Measure those of the points that the time allows, or all of them ``always``."""
        timed = run or self._run_workers
        rows = [self._settled(point, timed) for point in points if always or self._affordable(point)]
        if not rows:
            return
        self.rows += rows
        left_out = len(points) - len(rows)
        self.progress(
            f"measure, {title}, {points[0].volume_bytes / MIB:g} MiB: {_summary(rows)}"
            + (f" ({left_out} points left out: no time)" if left_out else "")
        )

    def measure_direct(self, counts: Sequence[int], volume_bytes: int) -> None:
        """Measure devices around the page cache, by fio or by our own processes."""
        program = find_fio()
        for tier, folder in self.folders.items():
            if is_memory(folder):
                continue
            try:
                run = None if program is None else _by_fio(program, folder)
                self.measure("direct", direct_points(tier, counts, volume_bytes), run)
            except MeasurementError as error:
                # For reference only: many network filesystems have no direct I/O.
                self.progress(f"measure, direct: none for {tier}: {error}")

    def _settled(self, point: Point, run: _Run) -> ProfileRow:
        """Measure a point; the median of three times where the first one surprises and there is time."""
        rows = [self._time(point, run)]
        if rows[0].seconds > SURPRISING * self._foretold_s(point):
            while len(rows) <= AGAIN and self._affordable(point):
                rows.append(self._time(point, run))
        return sorted(rows, key=lambda row: row.seconds)[(len(rows) - 1) // 2]

    def _foretold_s(self, point: Point) -> float:
        """Return the longest that a point should take, by smaller volumes of it; infinite without any."""
        smaller = [
            row.seconds * point.volume_bytes / row.point.volume_bytes
            for row in self.rows
            if row.point.volume_bytes < point.volume_bytes
            and replace(row.point, volume_bytes=point.volume_bytes) == point
        ]
        return max(smaller, default=math.inf)

    def _affordable(self, point: Point) -> bool:
        if point.operation == "read" and not self._parts(point, 0)[0].path.exists():
            return False  # its write was left out
        left_s = self.deadline_s - time.monotonic()
        return self._expected_s(point) <= min(left_s, self.budget_s * LARGE_SHARE)

    def _expected_s(self, point: Point) -> float:
        """Return how long a point takes, by what it or a smaller volume of it took; 0 if nothing is known."""
        # A read from the device is about as fast as a synced write.
        device = point.direct or point.cold
        like = replace(point, operation="write", direct=False, cold=False) if device else point
        known = [
            took_s * max(1.0, like.volume_bytes / other.volume_bytes)
            for other, took_s in self.took_s.items()
            if replace(other, volume_bytes=like.volume_bytes) == like
        ]
        return min(known, default=0.0)

    def _parts(self, point: Point, job: int) -> list[FilePart]:
        # Named as fio names them, job and file after the stem, so that its files and ours are read alike.
        names = [f"{point.stem}.{job}.{number}" for number in range(len(point.file_sizes))]
        source, destination = self.folders[point.source], self.folders[point.destination]
        return [
            FilePart(source / name, destination / name, size)
            for name, size in zip(names, point.file_sizes, strict=True)
        ]

    def _time(self, point: Point, run: _Run) -> ProfileRow:
        if point.operation != "read":
            # Outside the timing: an application writes new files and does not wait for old ones to be freed.
            for name in point.tiers:
                for old in self.folders[name].iterdir():
                    old.unlink()
        started_s = time.monotonic()
        try:
            seconds = run(point)
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise MeasurementError(
                f"cannot measure {point}: {error}",
                source=self.folders[point.destination].parent,
                cure="Free some space." if full else "Check that the tier is healthy and writable.",
            ) from error
        self.took_s[point] = time.monotonic() - started_s
        cached = point.operation == "read" and not (point.direct or point.cold)
        return ProfileRow(point, point.job_bytes * point.jobs, seconds, cached)

    def _run_workers(self, point: Point) -> float:
        jobs = [self._parts(point, job) for job in range(point.jobs)]
        if point.source != point.destination:
            sources = [[FilePart(source, source, size) for source, _, size in parts] for parts in jobs]
            self.workers.run([Transfer("write", parts, point.access_bytes) for parts in sources])
        if point.cold:
            evict(path for parts in jobs for _, path, _ in parts)
        return self.workers.run(
            [Transfer(point.operation, parts, point.access_bytes, point.direct) for parts in jobs]
        )


def _by_fio(program: str, folder: Path) -> _Run:
    return lambda point: run_fio(program, point, folder)


def _summary(rows: Iterable[ProfileRow]) -> str:
    """Return the range of rates per operation and tier."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        name = f"{'cold ' * row.point.cold}{row.point.operation} {row.point.where}"
        rates.setdefault(name, []).append(row.mib_s)
    ranges = (dict.fromkeys(f"{rate:,.0f}" for rate in (min(seen), max(seen))) for seen in rates.values())
    return (
        ", ".join(f"{name} {'-'.join(range_)}" for name, range_ in zip(rates, ranges, strict=True)) + " MiB/s"
    )
