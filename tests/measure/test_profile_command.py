from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.cli.profile_measure import cache_notice
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure import fio
from qosflow_airflow.measure.points import MIB, Point, ProfileRow
from qosflow_airflow.measure.request import parse_jobs, parse_tiers
from qosflow_airflow.readers.rates_csv import read_rates_csv


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def _measure(*arguments: str | Path) -> int:
    return main(["profile", "measure", *map(str, arguments)])


def test_a_profile_is_written_and_shown(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "profile.csv"
    tiers = ("--tier", f"disk={disk}", "--tier", f"other={tmp_path}")
    assert _measure(*tiers, "--budget-s", "0.5", "--jobs", "1", "--direct", "off", "--output", output) == OK
    rates = read_rates_csv(output)
    assert rates.tiers == ("disk", "other")
    assert set(rates.frame["operation"]) - {"cold_read"} == {"read", "write", "copy"}
    assert not rates.frame["direct"].any()
    assert rates.frame.loc[rates.frame["operation"] == "read", "cached"].all()
    assert not rates.frame.loc[rates.frame["operation"] == "cold_read", "cached"].any()
    printed, said = capsys.readouterr()
    assert "cp         disk-other" in printed
    assert "found their data in the page cache" in said
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "profile.csv"}
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--tier", "disk", "--output", "p.csv"],
            "'disk' does not name a tier and its folder. Write NAME=PATH",
        ),
        (["--tier", "=.", "--output", "p.csv"], "'=.' does not name a tier"),
        (["--tier", "a=.", "--tier", "a=/", "--output", "p.csv"], "tier 'a' is given twice"),
        (["--tier", "a=.", "--tier", "b=./", "--output", "p.csv"], "'a' and 'b' are the same folder"),
        (["--tier", "a=missing", "--output", "p.csv"], "missing: tier 'a' has no folder"),
        (["--tier", "a-b=.", "--output", "p.csv"], "without a hyphen"),
        (["--tier", "a=.", "--output", "."], "is a folder. Name a file in it"),
        (["--tier", "a=.", "--output", "none/p.csv"], "none: there is no such folder"),
        (["--tier", "a\x07=.", "--output", "p.csv"], "cannot be the name of a tier"),
        (["--tier", "a=.", "--budget-s", "nan", "--output", "p.csv"], "the budget is 'nan'"),
        (["--tier", "a=.", "--budget-s", "0", "--output", "p.csv"], "Give seconds above 0"),
        (["--tier", "a=.", "--jobs", "1,0", "--output", "p.csv"], "the jobs are '1,0'"),
        (["--tier", "a=.", "--jobs", "²", "--output", "p.csv"], "the jobs are '²'"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_measured(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _measure(*arguments) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_profile_does_not_stand_beside_another(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.json").write_text("{}")
    assert _measure("--tier", f"disk={disk}", "--output", tmp_path / "profile.csv") == BAD_INPUT
    assert "would stand beside profile.json" in capsys.readouterr().err


def test_what_the_page_cache_does_is_said() -> None:
    def read(mib_s: float, *, direct: bool) -> ProfileRow:
        point = Point("read", "disk", "disk", MIB, MIB, 1, direct=direct)
        return ProfileRow(point, MIB, 1 / mib_s, cached=not direct)

    said = cache_notice([read(100, direct=True), read(300, direct=True), read(1000, direct=False)])
    assert said.startswith("measure: 1 of 3 reads")
    assert said.endswith("Beside the rate of the device: disk 5.0 times")
    assert "device" not in cache_notice([read(1000, direct=False)])


def test_without_fio_it_is_said_and_with_it_demanded_refused(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fio, "find_fio", lambda: None)
    common = ("--tier", f"disk={disk}", "--budget-s", "0.1", "--jobs", "1", "--output", tmp_path / "p.csv")
    assert _measure(*common, "--direct", "fio") == BAD_INPUT
    assert "fio is not installed. Install it" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    assert _measure(*common) == OK
    assert "fio is not installed, so processes of our own measure" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_leaves_nothing(
    disk: Path, tmp_path: Path, number: signal.Signals
) -> None:
    program = "import sys; from qosflow_airflow.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "profile", "measure", "--tier", f"disk={disk}"]
    process = subprocess.Popen(
        [*command, "--budget-s", "60", "--output", str(tmp_path / "p.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("measure, pass 1"), "it has begun"
        deadline = time.monotonic() + 10
        while not (left := list(disk.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left, "it measures in this folder"
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert f"interrupted: no profile is written, and the tiers are as before ({number.name})" in said
    assert "Traceback" not in said
    assert list(disk.iterdir()) == []
    assert not (tmp_path / "p.csv").exists()


def test_handlers_of_the_caller_are_restored(disk: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    _measure("--tier", f"disk={disk}", "--budget-s", "0.01", "--jobs", "1", "--output", tmp_path / "p.csv")
    assert signal.getsignal(signal.SIGTERM) == before


def test_tiers_and_jobs_are_read_as_written() -> None:
    assert parse_tiers(["disk=/a=b", " tmpfs = /dev/shm"]) == {
        "disk": Path("/a=b"),
        "tmpfs": Path("/dev/shm"),
    }
    assert parse_jobs("4, 1,4") == [1, 4]
    with pytest.raises(MeasurementError, match="from 1 to 1024"):
        parse_jobs("1025")
