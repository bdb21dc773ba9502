"""Copies between tiers: whole files, under a temporary name until they are on the storage."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from errors import GenomeError
from variants import ACCESS_BYTES


def copy_files(source: Path, destination: Path, patterns: Sequence[str] = ()) -> int:
    """Copy the files of ``source`` that match one of ``patterns``, or all; return the bytes copied."""
    names = sorted(path.name for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    wanted = [name for name in names if not patterns or any(re.fullmatch(p, name) for p in patterns)]
    if not wanted:
        raise GenomeError(
            f"{source}: no file matches {', '.join(patterns) or 'anything'}; has its stage run?"
        )
    destination.mkdir(parents=True, exist_ok=True)
    return sum(_copy(source / name, destination / name) for name in wanted)


def _copy(source: Path, destination: Path) -> int:
    temporary = destination.with_name(f".{destination.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        with source.open("rb", buffering=0) as reading, temporary.open("wb", buffering=0) as writing:
            copied = 0
            while block := reading.read(ACCESS_BYTES):
                view = memoryview(block)
                while view:
                    view = view[writing.write(view) :]
                copied += len(block)
            os.fsync(writing.fileno())
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)
    return copied
