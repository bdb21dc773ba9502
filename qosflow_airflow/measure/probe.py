"""Whether a tier can be used right now: a small file is written, synced, read back and removed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

PROBE_BYTES = 1 << 16
"""Enough for a full tier to say so: the last free blocks of a file system are reserved, or soon gone."""
MIB = 1 << 20

FULL = "it is full"
"""How the reason begins where a tier only lacks room: what lies there can be read and removed."""

_REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "its quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "it may not be written",
    errno.EPERM: "it may not be written",
}


class TierHangsError(Exception):
    """The tier did not answer in time."""


def why_unusable(
    folder: Path, timeout_s: float, needed_bytes: float = 0.0, output: Path | None = None
) -> str | None:
    """Return why the tier that is mounted at ``folder`` cannot be used, ``None`` where it can be.

    It cannot be used where a small file cannot be written, synced and read back within ``timeout_s``, or
    where less than ``needed_bytes`` are free beside what lies in ``output`` already, from an earlier try. A
    folder that is missing is made.
    """
    try:
        return ask(folder, timeout_s, needed_bytes, output)
    except TierHangsError as error:
        return str(error)


def ask(folder: Path, timeout_s: float, needed_bytes: float = 0.0, output: Path | None = None) -> str | None:
    """Return what :func:`why_unusable` does.

    A process of its own asks: nothing can end one that waits for a file system that hangs, and the caller
    must be able to end.

    Raises
    ------
    TierHangsError
        When there is no answer in time.
    """
    arguments = [str(folder), str(needed_bytes), *([] if output is None else [str(output)])]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()  # it ends once the file system goes on
        raise TierHangsError(f"it did not take and give back a small file within {timeout_s:g} s") from None
    return said.strip() or None


def _try(folder: Path, needed_bytes: float, output: Path | None) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_and_read_back(folder)
        free_bytes = shutil.disk_usage(folder).free
        needed_bytes -= 0 if output is None else _size_bytes(output)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "it is down")
        return f"{reason} ({error.strerror or error})"
    if free_bytes < needed_bytes:
        free, needed = free_bytes / MIB, needed_bytes / MIB
        return f"{FULL}: {free:,.0f} MiB are free, and the stage writes about {needed:,.0f} MiB"
    return None


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_and_read_back(folder: Path) -> None:
    path, content = folder / f".qosflow-probe-{uuid.uuid4().hex}", os.urandom(PROBE_BYTES)
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.read_bytes() != content:
            raise OSError(errno.EIO, "what was written comes back as something else")
    finally:
        with suppress(OSError):
            path.unlink()


if __name__ == "__main__":
    where, needed, *rest = sys.argv[1:]
    sys.stdout.write(_try(Path(where), float(needed), Path(rest[0]) if rest else None) or "")
