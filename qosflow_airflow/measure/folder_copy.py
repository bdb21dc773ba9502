"""Copy a folder whole or not at all, and know that the copy is like its source."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from qosflow_airflow.measure.scratch import process_runs

Verify = Literal["content", "size"]


class Copied(NamedTuple):
    """What a copy holds, and how long it took; ``copy_s`` is ``None`` where an earlier try had made it."""

    files: int
    bytes: int
    copy_s: float | None


def copy_folder(
    source: Path, destination: Path, patterns: Sequence[str] = (), verify: Verify = "content"
) -> Copied:
    """Make ``destination`` hold the files of ``source``, or those whose name matches one of ``patterns``.

    The files go to a temporary folder beside the destination, are synced and compared with the source, and
    appear under the destination's name all at once. A destination that is complete is left as it is. What a
    try that was killed on this host has left behind is removed.
    ``copy_s`` counts until the files are on the storage, without the comparison.

    Raises
    ------
    FileNotFoundError
        When the source is not there, or none of its files matches the patterns.
    ValueError
        When the source holds something that is neither a file nor a folder, or a pattern is wrong.
    OSError
        When a file cannot be read or written, or the copy is not like the source.
    """
    names = list(_files(source, _compiled(patterns)))
    if patterns and not names:
        raise FileNotFoundError(f"{source}: no file matches {' or '.join(patterns)}. Has {source.name} run?")
    size = sum((source / name).stat().st_size for name in names)
    if _is_copy(source, destination, names, verify):
        return Copied(len(names), size, None)
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(destination)
    # Whose it is, so that a later try knows whether it is still at work.
    own = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    temporary = destination.with_name(f".{destination.name}.{own}.part")
    try:
        started = time.perf_counter()
        _copy_files(source, temporary, names)
        copy_s = time.perf_counter() - started
        if not _is_copy(source, temporary, names, verify):
            raise OSError(f"the copy of {source} differs from it")
        _put_in_place(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Copied(len(names), size, copy_s)


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"{error.pattern!r} is not a regular expression: {error}") from error


def _files(source: Path, patterns: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """Yield the relative names of the files below ``source`` that match."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder. Has the stage that writes it run?")
    for folder, _, names in os.walk(source, onerror=_raise):
        for name in sorted(names):
            path = Path(folder, name)
            if patterns and not any(pattern.fullmatch(name) for pattern in patterns):
                continue
            if not path.is_file():
                raise ValueError(f"{path} is no regular file; only files can be copied")
            yield path.relative_to(source).as_posix()


def _raise(error: OSError) -> None:
    # os.walk leaves out what it cannot read unless it is told otherwise.
    raise error


def _copy_files(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with (source / name).open("rb") as reading, (target / name).open("xb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            # The tiers' rates were measured until the copy was on the storage; so is this.
            os.fsync(writing.fileno())


def _is_copy(source: Path, target: Path, names: Sequence[str], verify: Verify) -> bool:
    """Return whether ``target`` holds exactly these files, with what they hold in ``source``."""
    if not target.is_dir() or sorted(_files(target, [])) != sorted(names):
        return False
    same_size = all((source / name).stat().st_size == (target / name).stat().st_size for name in names)
    if verify == "size" or not same_size:
        return same_size
    filecmp.clear_cache()
    return all(filecmp.cmp(source / name, target / name, shallow=False) for name in names)


def _remove_leftovers(destination: Path) -> None:
    pattern = re.compile(
        rf"\.{re.escape(destination.name)}\.{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]+\.(part|old)"
    )
    for path in destination.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not process_runs(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _put_in_place(temporary: Path, destination: Path) -> None:
    """Give the complete copy its name; what an earlier run left there goes."""
    old = temporary.with_suffix(".old")
    with suppress(FileNotFoundError):
        destination.rename(old)
    temporary.rename(destination)
    shutil.rmtree(old, ignore_errors=True)
