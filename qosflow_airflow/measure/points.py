"""What is measured: the design points, and the row that each one gives."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

MIB = 1 << 20
ACCESS_BYTES = (64 << 10, MIB)
"""Access sizes of reads and writes: what buffered programs and what bulk transfers use."""
COPY_ACCESS_BYTES = MIB
VOLUMES_BYTES = (MIB // 2, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB, 128 * MIB)
"""Bytes that all jobs of a point move together; the smallest shows what opening and syncing a file costs.

Copies have one point a volume, and how wrong interpolating goes shows from four points on."""
FILE_BYTES = 8 * MIB
"""A job's volume is in files of this size: each costs an open and a sync, as a task's outputs do."""
DIRECT_VOLUME_BYTES = 64 * MIB


@dataclass(frozen=True)
class Point:
    """One transfer to time.

    ``source`` and ``destination`` are tiers, equal for a read or a write. ``volume_bytes`` is what all
    ``jobs`` processes move together. ``direct`` goes around the page cache; ``cold`` is a read through it of
    files that it does not hold.
    """

    operation: str
    source: str
    destination: str
    access_bytes: int
    volume_bytes: int
    jobs: int
    direct: bool = False
    cold: bool = False

    @property
    def job_bytes(self) -> int:
        """Bytes that one job moves."""
        return self.volume_bytes // self.jobs

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers it touches, each once."""
        return tuple(dict.fromkeys((self.source, self.destination)))

    @property
    def file_sizes(self) -> tuple[int, ...]:
        """Sizes of the files of one job; one file around the page cache, where only the device counts."""
        if self.direct:
            return (self.job_bytes,)
        whole, rest = divmod(self.job_bytes, FILE_BYTES)
        return (FILE_BYTES,) * whole + (rest,) * (rest > 0)

    @property
    def stem(self) -> str:
        """What its files' names begin with: the same for a write and the read after it."""
        return f"{self.access_bytes}-{self.volume_bytes}-{self.jobs}{'-direct' * self.direct}"

    @property
    def where(self) -> str:
        """The tier, or the two tiers of a copy, as a storage type of the profile."""
        return self.source if self.source == self.destination else f"{self.source}-{self.destination}"

    def __str__(self) -> str:
        return (
            f"{'cold ' * self.cold}{self.operation} of {self.volume_bytes / MIB:g} MiB on {self.where} "
            f"by {self.jobs} jobs in pieces of {self.access_bytes >> 10} KiB"
        )


@dataclass(frozen=True)
class ProfileRow:
    """A measured rate: ``volume_bytes`` in ``seconds``, from the first job's start to the last one's end.

    ``cached`` says that the data came from the page cache: a read of what was just written on the same node.
    Writes and copies are timed until the data is on the storage.
    """

    point: Point
    volume_bytes: int
    seconds: float
    cached: bool

    @property
    def mib_s(self) -> float:
        """The rate of all jobs together."""
        return self.volume_bytes / MIB / self.seconds


def buffered_points(
    tiers: Sequence[str], jobs: Iterable[int], volume_bytes: int, devices: Collection[str] = ()
) -> list[Point]:
    """Return reads, writes and copies through the page cache.

    Each read follows the write of the same files, so that it finds them in the cache. On ``devices``, the
    tiers that do not lie in memory, they are then read once more when the cache has lost them.
    """
    points = [
        Point(operation, tier, tier, access, volume_bytes, count, cold=cold)
        for tier, count, access in itertools.product(tiers, jobs, ACCESS_BYTES)
        for operation, cold in (("write", False), ("read", False), ("read", True))
        if not cold or tier in devices
    ]
    return points + [
        Point("cp", source, destination, COPY_ACCESS_BYTES, volume_bytes, 1)
        for source, destination in itertools.permutations(tiers, 2)
    ]


def direct_points(tier: str, jobs: Iterable[int], volume_bytes: int) -> list[Point]:
    """Return writes and reads around the page cache: the device itself, for reference."""
    return [
        Point(operation, tier, tier, access, volume_bytes, count, direct=True)
        for count, access in itertools.product(jobs, ACCESS_BYTES)
        for operation in ("write", "read")
    ]
