from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure import throttled_tier as module
from qosflow_airflow.measure.throttled_tier import (
    LIMITS,
    limit_rate,
    throttled_tier,
    why_not_throttled,
)

MIB = 1 << 20
SIZE = 48 * MIB
possible = pytest.mark.skipif(why_not_throttled() is not None, reason=f"{why_not_throttled()}")


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def _write_s(path: Path, size: int) -> float:
    started = time.monotonic()
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    return time.monotonic() - started


def _interrupted_writing(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x" * MIB)
        raise KeyboardInterrupt


def _cold_read_s(path: Path) -> float:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.monotonic()
        file.read()
        return time.monotonic() - started


@pytest.mark.system
@possible
def test_the_kernel_limits_reads_and_writes_and_nothing_is_left(tmp_path: Path) -> None:
    with throttled_tier(tmp_path, SIZE, 16) as mount:
        assert mount.is_mount()
        device = mount.stat().st_dev
        limit = f"{os.major(device)}:{os.minor(device)} {16 * MIB}"
        assert limit in (LIMITS / "blkio.throttle.write_bps_device").read_text()
        assert 0.7 < _write_s(mount / "file", 16 * MIB) < 10
        assert 0.7 < _cold_read_s(mount / "file") < 10
        inside = str(mount)
    assert list(tmp_path.iterdir()) == []
    assert inside not in _mounts()
    # Not that nothing is limited: other tests may have a device of their own at the same time.
    assert limit not in (LIMITS / "blkio.throttle.write_bps_device").read_text()


@pytest.mark.system
@possible
def test_an_interrupt_inside_leaves_nothing_even_with_a_file_open(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), throttled_tier(tmp_path, SIZE, 64) as mount:
        _interrupted_writing(mount / "file")
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in _mounts()


@pytest.mark.system
@possible
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, pathlib\n"
        "from qosflow_airflow.measure.throttled_tier import throttled_tier\n"
        f"with throttled_tier(pathlib.Path(sys.argv[1]), {SIZE}, 64): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert str(tmp_path) in _mounts()
    with throttled_tier(tmp_path, SIZE, 64) as mount:
        assert len(list(tmp_path.iterdir())) == 2
        assert _mounts().count(str(tmp_path)) == 1
        assert mount.is_mount()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
@possible
def test_a_tier_may_become_slower_while_it_is_used(tmp_path: Path) -> None:
    with throttled_tier(tmp_path, SIZE, 64) as mount:
        limit_rate(mount, 8)
        assert _write_s(mount / "file", 8 * MIB) > 0.7  # 0.125 s at the rate of before
    with pytest.raises(MeasurementError, match="no throttled tier"):
        limit_rate(tmp_path, 8)


@possible
def test_more_than_may_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="needs that space"), throttled_tier(tmp_path, 1 << 60, 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_mount_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    assert why_not_throttled() == "it takes root to mount a limited device"
    with pytest.raises(MeasurementError, match="it takes root"), throttled_tier(tmp_path, SIZE, 10):
        pass
    assert list(tmp_path.iterdir()) == []
