"""File systems of their own that break for real: full, read-only, hung, or shut down under their users."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FREEZE, _THAW = 0xC0045877, 0xC0045878
_SHUT_DOWN = 0x8004587D  # ext4: every later request fails with an I/O error, as on a device that is gone


def why_not() -> str | None:
    """Return why file systems cannot be mounted here, ``None`` where they can be."""
    if os.geteuid() != 0:
        return "it takes root to mount a file system"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    return _why_no_loop_device()


@cache
def _why_no_loop_device() -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with faulty_tier(Path(folder, "mount")):
                return None
        except subprocess.CalledProcessError as error:
            return f"needs loop devices: {error.stderr.decode().strip()}"


@dataclass(frozen=True)
class FaultyTier:
    """An ext4 file system of its own, mounted at ``mount``."""

    mount: Path

    def fill(self) -> None:
        """Take all space that is free."""
        for size in (1 << 20, 1 << 10):
            with (self.mount / f"filler{size}").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(size))

    def make_read_only(self) -> None:
        _run("mount", "-o", "remount,ro", str(self.mount))

    def freeze(self) -> None:
        """Let every write wait, as a network file system does whose server is away."""
        self._request(_FREEZE, 0)

    def thaw(self) -> None:
        with suppress(OSError):
            self._request(_THAW, 0)

    def shut_down(self) -> None:
        self._request(_SHUT_DOWN, struct.pack("I", 2))

    def _request(self, number: int, argument: int | bytes) -> None:
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, number, argument)
        finally:
            os.close(descriptor)


@contextmanager
def faulty_tier(mount: Path, size_bytes: int = 16 << 20) -> Iterator[FaultyTier]:
    """Mount a small ext4 file system; whatever became of it, nothing is left of it afterwards."""
    image = mount.with_suffix(".img")
    mount.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    # Without delayed allocation, a file system that is full says so when it is written to.
    _run("mount", "-o", "loop,nodelalloc", str(image), str(mount))
    tier = FaultyTier(mount)
    try:
        yield tier
    finally:
        tier.thaw()
        _run("umount", "--lazy", str(mount))
        image.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
