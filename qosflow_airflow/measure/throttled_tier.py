"""A slower tier that is real: a file as a block device whose rate the kernel limits, without any sleeps.

It takes root, a loop device and the block I/O controller of cgroup v1. Whatever happens, the limit, the
mount, the device and the file are gone afterwards; what a killed process has left is removed by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.points import MIB
from qosflow_airflow.measure.scratch import process_runs, usable_bytes

LIMITS = Path("/sys/fs/cgroup/blkio")
"""Where cgroup v1 keeps its block I/O limits; those of the root group count for write-back too."""
_PROGRAMS = ("losetup", "mkfs.ext4", "mount", "umount")
_PREFIX = ".qosflow-throttled"
_LEAST_BYTES = 32 * MIB
_UNMOUNT_TRIES = 20


def why_not_throttled() -> str | None:
    """Return what is missing here for a throttled tier, ``None`` where there can be one."""
    if os.geteuid() != 0:
        return "it takes root to mount a limited device"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if not all(os.access(limit, os.W_OK) for limit in _limits()):
        return f"there is no block I/O limit in {LIMITS} (cgroup v1)"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return None


@contextmanager
def throttled_tier(folder: Path, size_bytes: int, rate_mib_s: float) -> Iterator[Path]:
    """Mount a filesystem of ``size_bytes`` that reads and writes at ``rate_mib_s``, as a file in ``folder``.

    Raises
    ------
    MeasurementError
        When it cannot be had here (:func:`why_not_throttled`), or ``folder`` lacks the space.
    """
    reason = why_not_throttled()
    if reason:
        raise MeasurementError(
            f"there can be no throttled tier: {reason}", cure="Leave it out, or measure as root on a host."
        )
    folder = folder.resolve()
    _remove_leftovers(folder)
    if not _LEAST_BYTES <= size_bytes <= usable_bytes(folder):
        raise MeasurementError(
            f"a throttled tier of {size_bytes / MIB:.0f} MiB needs that space, and at least "
            f"{_LEAST_BYTES // MIB} MiB; {usable_bytes(folder) / MIB:.0f} may be used",
            source=folder,
            cure="Free some space, or ask for another size.",
        )
    stem = folder / f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
    image, mount = stem.with_suffix(".img"), stem.with_suffix(".mount")
    try:
        mount.mkdir()
        with image.open("xb") as file:
            # Space is taken now: a disk that fills up later must not break the device.
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        device = _run("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
        _run("mount", device, str(mount))
        _limit(device, int(rate_mib_s * MIB))
        yield mount
    finally:
        _take_down(mount, image)


def limit_rate(mount: Path, rate_mib_s: float) -> None:
    """Have a throttled tier that is mounted read and write at another rate from now on.

    Raises
    ------
    MeasurementError
        When ``mount`` is none.
    """
    device = _device_of(mount.with_suffix(".img")) if mount.name.startswith(_PREFIX) else ""
    if not device:
        raise MeasurementError(
            "is no throttled tier", source=mount, cure="Give what throttled_tier() yields."
        )
    _limit(device, int(rate_mib_s * MIB))


def _limits() -> tuple[Path, ...]:
    return tuple(LIMITS / f"blkio.throttle.{operation}_bps_device" for operation in ("read", "write"))


def _limit(device: str, bytes_per_s: int) -> None:
    """Limit a device, or with 0 no longer."""
    number = Path("/sys/block", Path(device).name, "dev").read_text(encoding="ascii").strip()
    for limit in _limits():
        limit.write_text(f"{number} {bytes_per_s}\n", encoding="ascii")


def _take_down(mount: Path, image: Path) -> None:
    # Asked and not remembered: an interrupt may have come before we knew.
    device = _device_of(image)
    # The limit goes first: what is still to be written would make the rest wait.
    if device:
        with suppress(OSError):
            _limit(device, 0)
    for _ in range(_UNMOUNT_TRIES):
        if not mount.is_mount() or _tried("umount", str(mount)):
            break
        time.sleep(0.1)
    else:
        _tried("umount", "--lazy", str(mount))
    if device:
        _tried("losetup", "--detach", device)
    image.unlink(missing_ok=True)
    with suppress(OSError):
        mount.rmdir()


def _remove_leftovers(folder: Path) -> None:
    """Take down what a killed process of this host has left in ``folder``."""
    pattern = re.compile(rf"{re.escape(_PREFIX)}-{re.escape(socket.gethostname())}-(\d+)-\d+\.mount")
    for mount in folder.glob(f"{_PREFIX}-*.mount"):
        match = pattern.fullmatch(mount.name)
        if match and not process_runs(int(match[1])):
            _take_down(mount, mount.with_suffix(".img"))


def _device_of(image: Path) -> str:
    """Return the loop device of a file, an empty text where it has none."""
    if not image.exists():
        return ""
    found = _run("losetup", "--noheadings", "--output", "NAME", "--associated", str(image)).split()
    return found[0] if found else ""


def _tried(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode != 0:
        raise MeasurementError(
            f"{command[0]} failed: {done.stderr.strip() or done.returncode}",
            cure="Leave the throttled tier out, or cure what it names.",
        )
    return done.stdout
