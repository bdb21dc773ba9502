"""Folders to measure in: checked for space, and gone afterwards whatever happens."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.points import MIB

RESERVE_SHARE = 0.05
RESERVE_BYTES = 64 * MIB
"""What a measurement leaves free in any case: a share of the filesystem, and at least this much."""
_PREFIX = ".qosflow-measure"


def usable_bytes(folder: Path) -> int:
    """Return how many bytes a measurement may take in ``folder``; 0 where free space is in the reserve."""
    status = os.statvfs(folder)
    reserve = max(RESERVE_BYTES, int(status.f_blocks * status.f_frsize * RESERVE_SHARE))
    return max(0, status.f_bavail * status.f_frsize - reserve)


def is_memory(folder: Path) -> bool:
    """Return whether ``folder`` lies in memory: a tmpfs or ramfs, by the longest mount point above it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    path = os.path.realpath(folder)
    for line in mounts:
        left, _, right = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), left.split()[4])
        if len(mount) >= len(best) and (path == mount or path.startswith(mount.rstrip("/") + "/")):
            best, kind = mount, right.split()[0]
    return kind in ("tmpfs", "ramfs")


@contextmanager
def scratch(tier: str, folder: Path) -> Iterator[Path]:
    """Make a folder of our own below ``folder`` and remove it at the end.

    What a killed measurement on this host has left behind is removed as well.
    """
    if not folder.is_dir():
        raise MeasurementError(
            f"tier {tier!r} has no folder", source=folder, cure="Create it or mount the tier."
        )
    _remove_leftovers(folder)
    try:
        own = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-", dir=folder))
    except OSError as error:
        raise MeasurementError(
            f"tier {tier!r} cannot be written: {error.strerror}", source=folder, cure="Give write permission."
        ) from error
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    pattern = re.compile(rf"{re.escape(_PREFIX)}-{re.escape(socket.gethostname())}-(\d+)-.*")
    for path in folder.glob(f"{_PREFIX}-*"):
        match = pattern.fullmatch(path.name)
        if match and not process_runs(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def process_runs(pid: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
