"""A process that moves bytes when told to, and says when it began and ended.

Run as a program: one JSON request a line on standard input, one JSON answer a line on standard output. It
uses the standard library alone, so that it starts fast, and the system calls of an ordinary program.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from typing import Any

SPIN_S = 0.001
"""How long before the appointed time to stop sleeping: a sleep ends late, by what a small transfer takes."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def write(path: str, size: int, buffer: mmap.mmap, access_bytes: int, flags: int) -> None:
    """Write ``size`` bytes to a new file and wait until they are on the storage."""
    descriptor = os.open(path, _NEW | flags, 0o600)
    try:
        with memoryview(buffer) as view:
            left = size
            while left > 0:
                left -= os.write(descriptor, view[: min(access_bytes, left)])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str, size: int, buffer: mmap.mmap, access_bytes: int, flags: int) -> None:
    """Read ``size`` bytes of a file."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        with memoryview(buffer) as view:
            left = size
            while left > 0:
                moved = os.readv(descriptor, [view[: min(access_bytes, left)]])
                if moved == 0:
                    raise OSError(f"{path} ends {left} bytes early")
                left -= moved
    finally:
        os.close(descriptor)


def copy(source: str, path: str, buffer: mmap.mmap, access_bytes: int) -> None:
    """Copy a file and wait until the copy is on the storage."""
    reading, writing = os.open(source, os.O_RDONLY), os.open(path, _NEW, 0o600)
    try:
        with memoryview(buffer) as view:
            while moved := os.readv(reading, [view[:access_bytes]]):
                done = 0
                while done < moved:
                    done += os.write(writing, view[done:moved])
        os.fsync(writing)
    finally:
        os.close(reading)
        os.close(writing)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do one transfer at the appointed time; return when it began and ended, on the monotonic clock."""
    access_bytes = request["access_bytes"]
    # An anonymous map is aligned to a page, as direct I/O wants it. Random: no layer can compress it away.
    with mmap.mmap(-1, access_bytes) as buffer:
        buffer.write(os.urandom(access_bytes))
        flags = os.O_DIRECT if request["direct"] else 0
        time.sleep(max(0.0, request["start_s"] - time.monotonic() - SPIN_S))
        while time.monotonic() < request["start_s"]:
            pass
        begin_s = time.monotonic()
        try:
            for source, path, size in request["files"]:
                if request["operation"] == "write":
                    write(path, size, buffer, access_bytes, flags)
                elif request["operation"] == "read":
                    read(path, size, buffer, access_bytes, flags)
                else:
                    copy(source, path, buffer, access_bytes)
        except OSError as error:
            return {"error": str(error), "errno": error.errno}
        return {"begin_s": begin_s, "end_s": time.monotonic()}


def main() -> None:
    """Answer requests until standard input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
