from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from qosflow_airflow.core import profile as profile_module
from qosflow_airflow.core.profile import RateQuery, StorageProfile
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure import scratch, tiers
from qosflow_airflow.measure.points import FILE_BYTES, MIB, Point, buffered_points
from qosflow_airflow.measure.profile_csv import write_profile
from qosflow_airflow.measure.tiers import measure_tiers
from qosflow_airflow.measure.workers import FilePart, Transfer, Workers
from qosflow_airflow.readers.rates_csv import read_rates_csv

SMALL = (MIB // 4, MIB)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {"disk": tmp_path / "disk", "tmpfs": tmp_path / "tmpfs"}
    for folder in found.values():
        folder.mkdir()
    return found


def _left(folders: Mapping[str, Path]) -> list[Path]:
    return [path for folder in folders.values() for path in folder.iterdir()]


def devices(folders: Mapping[str, Path]) -> set[str]:
    return {name for name, folder in folders.items() if not scratch.is_memory(folder)}


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_the_model_knows_the_size_of_the_files() -> None:
    assert FILE_BYTES == profile_module.FILE_BYTES


def test_every_transfer_gets_a_positive_rate_and_nothing_stays(folders: dict[str, Path]) -> None:
    before = _children()
    rows = measure_tiers(folders, budget_s=20, jobs=(1, 2), volumes_bytes=SMALL, direct=False)
    assert {row.point for row in rows} == {
        point
        for volume in SMALL
        for point in buffered_points(["disk", "tmpfs"], (1, 2), volume, devices(folders))
    }
    assert {(row.point.operation, row.point.where) for row in rows} == {
        *(("read", tier) for tier in folders),
        *(("write", tier) for tier in folders),
        ("cp", "disk-tmpfs"),
        ("cp", "tmpfs-disk"),
    }
    for row in rows:
        assert 0 < row.seconds < 20
        assert row.mib_s == pytest.approx(row.volume_bytes / MIB / row.seconds)
        assert row.volume_bytes == row.point.volume_bytes
        assert row.cached == (row.point.operation == "read" and not row.point.cold)
    assert len(rows) == 3 * len({row.point for row in rows}), "there was time for all repeats"
    assert _left(folders) == []
    assert _children() == before


def test_the_profile_answers_what_the_estimate_asks(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = measure_tiers(folders, budget_s=20, jobs=(1, 2), volumes_bytes=SMALL)
    write_profile(rows, tmp_path / "profile.csv")
    rates = read_rates_csv(tmp_path / "profile.csv")
    assert len(rates.frame) == len(rows)
    assert rates.frame["rate_mib_s"].tolist() == pytest.approx([row.mib_s for row in rows])
    assert rates.frame["direct"].tolist() == [row.point.direct for row in rows]
    profile = StorageProfile(rates)
    assert profile.tiers == {"disk", "tmpfs"}
    for query in (
        RateQuery("write", "disk", "disk", 1, 2, 1 << 18, MIB // 2),
        RateQuery("read", "tmpfs", "tmpfs", 1, 1, 1 << 20, MIB),
        RateQuery("copy", "disk", "tmpfs", 1, 1, 1 << 20, MIB),
    ):
        estimate = profile.rate(query)
        assert estimate.mib_s > 0
        assert estimate.provenance is Provenance.MEASURED
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["profile.csv"]


def test_without_time_the_smallest_volumes_are_measured_once(folders: dict[str, Path]) -> None:
    rows = measure_tiers(folders, budget_s=0, jobs=(1,), volumes_bytes=SMALL)
    assert [row.point for row in rows] == buffered_points(["disk", "tmpfs"], (1,), SMALL[0], devices(folders))


def test_a_slow_tier_is_not_given_large_volumes(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, clock = Workers.run, SimpleNamespace(now_s=0.0)

    def run(self: Workers, transfers: list[Transfer]) -> float:
        clock.now_s += 0.06 if "tmpfs" in str(transfers[0].files[0].path) else 0.001
        return real(self, transfers)

    monkeypatch.setattr(Workers, "run", run)
    monkeypatch.setattr(tiers, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    said: list[str] = []
    rows = measure_tiers(
        folders, budget_s=2, jobs=(1,), volumes_bytes=(MIB // 16, MIB), direct=False, progress=said.append
    )
    # 16 times the volume of what took 0.06 s is more than a quarter of the two seconds
    assert {row.point.volume_bytes for row in rows if row.point.destination == "tmpfs"} == {MIB // 16}
    assert {row.point.volume_bytes for row in rows if row.point.where == "disk"} == {MIB // 16, MIB}
    assert any("points left out: no time" in line for line in said)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_nothing(folders: dict[str, Path], kind: type[BaseException]) -> None:
    before = _children()

    def interrupt(message: str) -> None:
        assert _left(folders), "it measures in these folders"
        raise kind

    with pytest.raises(kind):
        measure_tiers(folders, jobs=(1,), volumes_bytes=SMALL, progress=interrupt)
    assert _left(folders) == []
    assert _children() == before


def test_what_a_killed_measurement_left_is_removed(folders: dict[str, Path]) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from qosflow_airflow.measure.tiers import measure_tiers\n"
        "stop = lambda message: os.kill(os.getpid(), signal.SIGKILL)\n"
        "measure_tiers({'disk': Path(sys.argv[1])}, jobs=(1,), volumes_bytes=(4096,), progress=stop)"
    )
    killed = subprocess.run([sys.executable, "-c", program, folders["disk"]], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(_left(folders)) == 1
    other = folders["disk"] / f".qosflow-measure-{scratch.socket.gethostname()}-{os.getppid()}-other"
    other.mkdir()
    measure_tiers(folders, budget_s=0, jobs=(1,), volumes_bytes=(4096,))
    assert _left(folders) == [other], "one that still runs keeps its folder"


def test_a_full_tier_is_refused_before_anything_is_written(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "usable_bytes", lambda folder: MIB // 4)
    with pytest.raises(MeasurementError, match=r"too little space on disk, tmpfs: .* Free some space"):
        measure_tiers(folders, volumes_bytes=SMALL)
    assert _left(folders) == []


def test_volumes_that_do_not_fit_are_left_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two tiers on one filesystem, and a copy holds its file twice.
    monkeypatch.setattr(tiers, "usable_bytes", lambda folder: 4 * SMALL[0])
    rows = measure_tiers(folders, budget_s=0.2, jobs=(1,), volumes_bytes=SMALL)
    assert {row.point.volume_bytes for row in rows} == {SMALL[0]}


def test_a_share_of_the_filesystem_is_never_taken(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free, whole = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    assert scratch.usable_bytes(tmp_path) <= max(0, free - 0.05 * whole) + 64 * MIB


def test_a_tier_that_fills_up_is_said(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Workers, transfers: list[Transfer]) -> float:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Workers, "run", full)
    with pytest.raises(
        MeasurementError, match=r"disk: cannot measure write .* No space left.* Free some space"
    ):
        measure_tiers(folders, jobs=(1,), volumes_bytes=SMALL)
    assert _left(folders) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no tiers to measure"),
        ({"my-disk": "."}, "'my-disk' cannot be measured: .* without a hyphen"),
        ({"disk": "missing"}, "missing: tier 'disk' has no folder. Create it or mount the tier"),
        ({"disk": "file"}, "file: tier 'disk' has no folder"),
    ],
)
def test_wrong_tiers_are_said(given: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MeasurementError, match=message):
        measure_tiers({name: tmp_path / folder for name, folder in given.items()})


def test_a_tier_that_cannot_be_written_is_said() -> None:
    with pytest.raises(MeasurementError, match=r"/proc: tier 'disk' cannot be written"):
        measure_tiers({"disk": Path("/proc")})


def test_a_point_that_was_disturbed_once_is_measured_again(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transfer of 1 MiB/s, but for one time; and a tier that really is slow with larger volumes."""
    tried: list[Point] = []

    def took_s(session: tiers._Session, point: Point) -> float:
        tried.append(point)
        slow = 10.0 if point.operation == "write" and point.volume_bytes == MIB else 1.0
        disturbed = 7.0 if point.operation == "cp" and tried.count(point) == 1 and len(tried) > 20 else 1.0
        return slow * disturbed * point.volume_bytes / MIB

    monkeypatch.setattr(tiers._Session, "_run_workers", took_s)
    monkeypatch.setattr(tiers._Session, "_affordable", lambda session, point: True)
    monkeypatch.setattr(tiers, "REPEATS", 1)
    rows = measure_tiers(folders, budget_s=20, jobs=(1,), volumes_bytes=SMALL, direct=False)
    by_point = {row.point: row.seconds * MIB / row.volume_bytes for row in rows}
    assert len(by_point) == len(rows)
    large = {point: rate for point, rate in by_point.items() if point.volume_bytes == MIB}
    assert {rate for point, rate in large.items() if point.operation == "cp"} == {1.0}
    assert {rate for point, rate in large.items() if point.operation == "write"} == {10.0}
    assert {tried.count(point) for point in large if point.operation in ("cp", "write")} == {3}
    assert {tried.count(point) for point in large if point.operation == "read"} == {1}


def test_workers_move_what_they_are_told(tmp_path: Path) -> None:
    one, other, copy = (tmp_path / name for name in ("one", "other", "copy"))
    with Workers(2) as workers:
        write = [
            Transfer("write", [FilePart(one, one, 100_000)], 4096),
            Transfer("write", [FilePart(other, other, 5)], 4096),
        ]
        assert workers.run(write) > 0
        assert (one.stat().st_size, other.stat().st_size) == (100_000, 5)
        assert workers.run([Transfer("copy", [FilePart(one, copy, 100_000)], 30_000)]) > 0
        assert copy.read_bytes() == one.read_bytes()
        assert len(set(one.read_bytes()[:4096])) > 200, "random content, which nothing compresses"
        with pytest.raises(OSError, match="ends 1 bytes early"):
            workers.run([Transfer("read", [FilePart(one, one, 100_001)], 4096)])
        full = Path("/dev/full")
        with pytest.raises(OSError, match="No space left") as caught:
            workers.run([Transfer("write", [FilePart(full, full, 1)], 4096)])
        assert caught.value.errno == errno.ENOSPC
        assert workers.run(write) > 0, "an error ends a transfer, not the worker"


def test_workers_run_at_the_same_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    part = FilePart(pipe, pipe, 100_000)
    with ThreadPoolExecutor(1) as thread, Workers(2) as workers:
        # Neither can finish, or even open the pipe, before the other has begun. A pipe cannot be synced.
        done = thread.submit(workers.run, [Transfer("write", [part], 4096), Transfer("read", [part], 4096)])
        with pytest.raises(OSError, match="Invalid argument") as caught:
            done.result(timeout=20)
    assert caught.value.errno == errno.EINVAL


def test_a_worker_that_dies_is_said(tmp_path: Path) -> None:
    before = _children()
    with Workers(1) as workers:
        (pid,) = _children() - before
        os.kill(pid, signal.SIGKILL)
        part = FilePart(tmp_path / "file", tmp_path / "file", 1)
        with pytest.raises(MeasurementError, match="a measuring process ended with code -9"):
            workers.run([Transfer("write", [part], 4096)])


def test_the_files_of_a_job_add_up() -> None:
    for volume, jobs in ((MIB, 1), (20 * MIB, 1), (32 * MIB, 2), (MIB, 3)):
        point = Point("write", "disk", "disk", MIB, volume, jobs)
        assert sum(point.file_sizes) == point.job_bytes
        assert max(point.file_sizes) <= FILE_BYTES
        assert len(point.file_sizes) == math.ceil(point.job_bytes / FILE_BYTES)


def test_a_profile_without_rows_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no rates were measured"):
        write_profile([], tmp_path / "profile.csv")
    assert list(tmp_path.iterdir()) == []


def test_memory_is_told_from_devices() -> None:
    assert scratch.is_memory(Path("/dev/shm")) == (
        subprocess.run(
            ["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True, check=True
        ).stdout.strip()
        in ("tmpfs", "ramfs")
    )
    assert not scratch.is_memory(Path("/proc"))
