"""Taking files out of the page cache, so that the next read of them comes from the device."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def evict(paths: Iterable[Path]) -> None:
    """Have the next reads of these files, and of all files in these folders, come from their device.

    What was not yet written is written first. It takes no rights, and leaves everybody else's files cached;
    on a tmpfs, where the cache is the storage, nothing happens.
    """
    for path in paths:
        files = (found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
        for file in files:
            _evict(file)


def _evict(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
