"""Output of benchmarks: what fio wrote here, and IOR's as its releases 3.3 and later write it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qosflow_airflow.core.rates import COLUMNS
from qosflow_airflow.exceptions import BundleError, MeasurementError, QoSFlowError
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.rates import read_rates
from qosflow_airflow.readers.rates_csv import read_rates_csv

MIB = 2.0**20
MOUNTS = {"disk": "/data", "beegfs": "/beegfs", "inner": "/beegfs/other", "unknown": None}

Change = Callable[[Any], None]


@pytest.fixture
def changed(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a golden file with its JSON changed."""

    def make(name: str, change: Change) -> Path:
        content = json.loads((data / "benchmarks" / name).read_text())
        change(content)
        path = tmp_path / name
        path.write_text(json.dumps(content, indent=1))
        return path

    return make


def test_csv_is_read_as_before(data: Path) -> None:
    path = data / "survey" / "profile.csv"
    pd.testing.assert_frame_equal(read_rates(path).frame, read_rates_csv(path).frame)


def test_fio(data: Path) -> None:
    rates = read_rates(data / "benchmarks" / "fio.json", MOUNTS)
    rows = [
        # two processes reported together, around the page cache
        ("write", "disk", "disk", 65536.0, 8 * MIB, 2, 1, 2.0, 8 / 0.029, 0.029, False, False, True),
        # never synced: what was measured is memory
        ("write", "disk", "disk", 4096.0, MIB, 1, 1, 1.0, 1 / 0.001, 0.001, False, True, False),
        # two processes reported each: the slower took 11 ms
        ("read", "disk", "disk", 65536.0, 8 * MIB, 2, 1, 2.0, 8 / 0.011, 0.011, False, False, False),
    ]
    pd.testing.assert_frame_equal(
        rates.frame.reset_index(drop=True), pd.DataFrame(rows, columns=list(COLUMNS))
    )
    assert rates.dropped == {"random offsets": 1}
    lines = (data / "benchmarks" / "fio.json").read_text().splitlines()
    assert all("{" in lines[line - 1] for line in rates.frame.index)


@pytest.mark.parametrize(
    "options", [{"invalidate": "0"}, {"time_based": ""}, {"time_based": "1"}, {"loops": "3"}]
)
def test_reads_that_fio_may_serve_from_memory_are_marked(
    changed: Callable[..., Path], options: dict[str, str]
) -> None:
    frame = read_rates(changed("fio.json", lambda c: c["global options"].update(options)), MOUNTS).frame
    assert frame.loc[frame["operation"] == "read", "cached"].all()
    assert not frame.loc[frame["direct"], "cached"].any()


def test_ior(data: Path) -> None:
    rates = read_rates(data / "benchmarks" / "ior.json", MOUNTS)
    frame = rates.frame
    assert frame["operation"].tolist() == ["write", "read", "write", "read"]
    assert set(frame["source_tier"]) == set(frame["destination_tier"]) == {"beegfs"}
    assert frame["rate_mib_s"].tolist() == pytest.approx([512, 1024, 409.6, 800])
    assert frame["duration_s"].tolist() == pytest.approx([2, 1, 2.5, 1.28])
    assert set(frame["volume_bytes"]) == {1024 * MIB}, "2 segments of 64 MiB by 8 tasks"
    assert set(frame["access_bytes"]) == {MIB}
    assert set(zip(frame["tasks"], frame["nodes"], frame["tasks_per_node"], strict=True)) == {(8, 2, 4.0)}
    assert not frame[["cached", "direct", "remote"]].to_numpy().any()
    lines = (data / "benchmarks" / "ior.json").read_text().splitlines()
    assert [lines[line - 1].strip()[:18] for line in frame.index] == [
        '{"access": "write"',
        '{"access": "read",',
    ] * 2


def _parameters(**values: object) -> Change:
    return lambda content: content["tests"][0]["Parameters"].update(values)


def _results(**values: object) -> Change:
    def change(content: Any) -> None:
        for repetition in content["tests"][0]["Results"]:
            for result in repetition:
                result.update(values)

    return change


def test_ior_of_earlier_releases(changed: Callable[..., Path]) -> None:
    def older(content: Any) -> None:
        test = content["tests"][0]
        test["Results"] = [result for repetition in test["Results"] for result in repetition]
        del test["Options"]["nodes"]
        test["Options"].update(tasks=7)

    frame = read_rates(changed("ior.json", older), MOUNTS).frame
    assert set(frame["nodes"]) == {2}, "7 tasks, 4 per node"
    assert len(frame) == 4


def test_what_ior_moved_is_what_its_rate_says(changed: Callable[..., Path]) -> None:
    # A deadline ended it: half of the volume, at the same rate.
    frame = read_rates(changed("ior.json", _results(totalTime=0.5, bwMiB=1024.0)), MOUNTS).frame
    assert set(frame["volume_bytes"]) == {512 * MIB}
    assert frame["rate_mib_s"].tolist() == pytest.approx([1024] * 4)
    # The time is written to 0.1 ms, which is half of it here.
    frame = read_rates(changed("ior.json", _results(totalTime=0.0002, bwMiB=1024 / 0.00015)), MOUNTS).frame
    assert set(frame["volume_bytes"]) == {1024 * MIB}
    assert frame["duration_s"].tolist() == pytest.approx([0.00015] * 4)


@pytest.mark.parametrize(
    ("change", "operation", "cached", "direct"),
    [
        (_parameters(fsync=0), "write", True, False),
        (_parameters(reorderTasks=0), "read", True, False),
        (_parameters(reorderTasks=0, writeFile=0), "read", False, False),
        (_parameters(reorderTasks=0, useO_DIRECT=1), "read", False, True),
        (lambda content: content["tests"][0]["Options"].update(nodes=1, tasks=4), "read", True, False),
        (
            lambda content: content.update({"Command line": "ior -w --posix.odirect -o /beegfs/f"}),
            "write",
            False,
            True,
        ),
    ],
)
def test_what_ior_s_page_cache_served_is_marked(
    changed: Callable[..., Path], change: Change, operation: str, cached: bool, direct: bool
) -> None:
    frame = read_rates(changed("ior.json", change), MOUNTS).frame
    rows = frame[frame["operation"] == operation]
    assert set(rows["cached"]) == {cached}
    assert set(rows["direct"]) == {direct}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("ior.json", _results(bwMiB=0.0), "nothing moved (4)"),
        ("ior.json", _results(totalTime=0.0), "no duration (4)"),
        ("ior.json", _results(totalTime=0.0, bwMiB="inf"), "nothing moved (4)"),
        ("ior.json", _parameters(randomOffset=1), "random offsets (4)"),
        ("ior.json", _parameters(dryRun=1), "a dry run (4)"),
        ("ior.json", lambda content: content["tests"].clear(), "no results"),
        ("fio.json", lambda content: content["jobs"].clear(), "no results"),
        ("fio.json", lambda content: _jobs(content, error=5), "the benchmark failed (4)"),
        ("fio.json", lambda content: _jobs(content, runtime=0), "random offsets (1), no duration (3)"),
        ("fio.json", lambda content: _jobs(content, io_bytes=0), "random offsets (1), nothing moved (3)"),
        ("fio.json", lambda content: _jobs(content, total_ios=0), "nothing moved (3)"),
        ("fio.json", lambda content: _jobs(content, rw="rw"), "neither reads nor writes alone (4)"),
    ],
)
def test_what_gives_no_rate_is_counted_never_zero(
    changed: Callable[..., Path], name: str, change: Change, reason: str
) -> None:
    with pytest.raises(MeasurementError, match="holds no rates") as caught:
        read_rates(changed(name, change), MOUNTS)
    for part in reason.split(", "):
        assert part in str(caught.value)


def _jobs(content: Any, **values: object) -> None:
    for job in content["jobs"]:
        for name, value in values.items():
            if name == "error":
                job[name] = value
            elif name == "rw":
                job["job options"][name] = value
            else:
                job["read"][name] = job["write"][name] = value


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fio.json", lambda content: _jobs(content, runtime=-1), "`runtime` is -1. Give a number from 0"),
        ("fio.json", lambda content: _jobs(content, runtime="1"), "`runtime` is '1'"),
        ("fio.json", lambda content: content["jobs"][0]["write"].pop("io_bytes"), "`write` lacks io_bytes"),
        ("fio.json", lambda content: content["jobs"][0].pop("groupid"), "lacks groupid"),
        (
            "fio.json",
            lambda content: content["jobs"][0]["job options"].update(numjobs="all"),
            "numjobs 'all'",
        ),
        ("fio.json", lambda content: content.pop("jobs"), "lacks jobs"),
        ("fio.json", lambda content: content.update(client_stats=[]), "several fio servers"),
        (
            "fio.json",
            lambda content: content["global options"].update(directory="/elsewhere"),
            "measured in '/elsewhere', which lies on no tier. Give the tier its `mount` in tiers.yaml",
        ),
        ("fio.json", lambda content: content["global options"].update(directory="bench"), "lies on no tier"),
        ("ior.json", _results(access="remove"), "`access` is 'remove'. Use one of read, write"),
        ("ior.json", _results(bwMiB="fast"), "`bwMiB` is 'fast'"),
        ("ior.json", _parameters(testFileName="/beegfs2/file"), "lies on no tier"),
        ("ior.json", lambda content: content["tests"][0].pop("Options"), "lacks Options"),
        ("ior.json", lambda content: content["tests"][0].pop("Results"), "lacks Results"),
        ("ior.json", lambda content: content["tests"][0]["Options"].update(tasks=0), "`tasks` is 0"),
    ],
)
def test_what_a_benchmark_never_writes_is_said_with_its_line(
    changed: Callable[..., Path], name: str, change: Change, message: str
) -> None:
    path = changed(name, change)
    with pytest.raises(MeasurementError) as caught:
        read_rates(path, MOUNTS)
    assert message in str(caught.value)
    assert caught.value.source == str(path)
    assert caught.value.line is not None


def test_the_innermost_folder_is_the_tier(changed: Callable[..., Path]) -> None:
    path = changed("ior.json", _parameters(testFileName="/beegfs/../beegfs/other/file"))
    assert read_rates(path, MOUNTS).tiers == ("inner",)


def test_a_job_may_be_named_after_its_tier(changed: Callable[..., Path]) -> None:
    path = changed("fio.json", lambda content: content["global options"].pop("directory"))
    with pytest.raises(MeasurementError, match=r"'buffered'.* says neither where it ran nor on which tier"):
        read_rates(path, MOUNTS)

    def named(content: Any) -> None:
        content["global options"].pop("directory")
        for job in content["jobs"]:
            job["jobname"] = f"unknown-{job['jobname']}"

    assert read_rates(changed("fio.json", named), MOUNTS).tiers == ("unknown",)


def test_several_answers_are_one_list_and_never_of_two_benchmarks(data: Path, tmp_path: Path) -> None:
    fio, ior = ((data / "benchmarks" / name).read_text() for name in ("fio.json", "ior.json"))
    path = tmp_path / "profile.json"
    path.write_text(f"[{fio}, {fio}]")
    assert len(read_rates(path, MOUNTS).frame) == 6
    path.write_text(f"[{fio}, {ior}]")
    with pytest.raises(BundleError, match="mixes the output"):
        read_rates(path, MOUNTS)
    path.write_text("[]")
    with pytest.raises(BundleError, match="is an empty list"):
        read_rates(path, MOUNTS)
    path.write_text('{"other": 1}')
    with pytest.raises(BundleError, match=r"JSON of neither fio .* nor IOR"):
        read_rates(path, MOUNTS)


def test_notes_before_fio_s_answer_are_passed_over(data: Path, tmp_path: Path) -> None:
    text = (data / "benchmarks" / "fio.json").read_text()
    path = tmp_path / "profile.json"
    path.write_text("fio: a note\nand another\n" + text)
    noted = read_rates(path, MOUNTS).frame
    plain = read_rates(data / "benchmarks" / "fio.json", MOUNTS).frame
    assert (noted.index - plain.index).unique().tolist() == [2]
    pd.testing.assert_frame_equal(noted.reset_index(drop=True), plain.reset_index(drop=True))


@pytest.mark.parametrize("name", ["fio.json", "ior.json"])
def test_a_truncated_file_is_an_error_wherever_it_ends(data: Path, tmp_path: Path, name: str) -> None:
    text = (data / "benchmarks" / name).read_text().rstrip()
    path = tmp_path / "profile.json"
    for end in range(0, len(text), 97):
        path.write_text(text[:end])
        with pytest.raises(QoSFlowError) as caught:
            read_rates(path, MOUNTS)
        assert str(path) in str(caught.value)


def test_a_bundle_takes_what_a_benchmark_wrote(survey: Path, data: Path) -> None:
    text = (data / "benchmarks" / "fio.json").read_text()
    (survey / "profile.json").write_text(text)
    with pytest.raises(BundleError, match=r"holds both profile\.csv and profile\.json"):
        read_bundle(survey)
    (survey / "profile.csv").unlink()
    tiers = (survey / "tiers.yaml").read_text()
    with pytest.raises(MeasurementError, match="Give the tier its `mount`"):
        read_bundle(survey)
    mount = next(part for part in tiers.split() if part.startswith("/")).strip(",}")
    (survey / "profile.json").write_text(text.replace("/data/scratch", f"{mount}/scratch"))
    bundle = read_bundle(survey)
    assert bundle.rates is not None
    assert bundle.catalog is not None
    assert bundle.rates.tiers == tuple(t.profile_name for t in bundle.catalog.tiers if t.mount == mount)
    assert "profile.json" in bundle.hashes


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_what_fio_writes_now(tmp_path: Path) -> None:
    command = ["fio", "--name=disk", f"--directory={tmp_path}", "--rw=write", "--bs=64k", "--size=1M"]
    command += ["--numjobs=2", "--end_fsync=1", "--output-format=json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "profile.json").write_text(answer)
    rates = read_rates(tmp_path / "profile.json", {"disk": str(tmp_path)})
    (row,) = rates.frame.to_dict("records")
    assert (row["volume_bytes"], row["tasks"], row["access_bytes"]) == (2 * MIB, 2, 65536)
    assert not row["cached"]
    assert math.isfinite(row["rate_mib_s"])
