"""Darshan logs: those that the library ships, damaged ones, and states that they do not show."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.exceptions import BundleError, MeasurementError
from qosflow_airflow.readers import darshan_log, darshan_observations
from qosflow_airflow.readers.darshan_log import DarshanLog, DarshanRecord, read_darshan_logs
from qosflow_airflow.readers.darshan_observations import read_darshan_observations
from qosflow_airflow.readers.trace_report import TraceReport

MIB = 2.0**20
LOGS = {
    # 48 ranks, a file each
    "posix": "tests/input/sample-goodost.darshan",
    # no POSIX module; 512 ranks together
    "stdio": "tests/input/noposix.darshan",
    # both modules, 2048 ranks, a shared file
    "shared": "examples/example_logs/example.darshan",
    # traces of single accesses, over which reading everything fails with newer ones
    "dxt": "tests/input/sample-dxt-simple.darshan",
}


@pytest.fixture(scope="session")
def library() -> Path:
    spec = importlib.util.find_spec("darshan")
    if spec is None or spec.origin is None:
        pytest.skip("the extra darshan is not installed")
    return Path(spec.origin).parent


Imported = tuple[IOObservations, TraceReport]


@pytest.fixture(scope="session")
def imported(library: Path) -> Imported:
    stages = {stage: [library / path] for stage, path in LOGS.items()}
    return read_darshan_observations(stages, nodes=2, mounts={"lustre": "/scratch1", "other": "/scratch"})


def test_every_rank_is_a_task_with_its_own_transfers(imported: Imported) -> None:
    frame = imported[0].frame
    rows = frame[frame["stage"] == "posix"]
    assert list(frame.columns) == list(COLUMNS)
    assert len(rows) == rows["task"].nunique() == rows["file"].nunique() == 48
    assert set(rows["operation"]) == {"write"}
    assert set(rows["volume_bytes"]) == set(rows["file_bytes"]) == {1024 * MIB}
    assert set(rows["access_bytes"]) == {8 * MIB}
    assert set(rows["accesses"]) == {128}
    assert set(rows["tasks"]) == {48}
    assert set(rows["nodes"]) == {2}
    assert set(rows["tier"]) == {"lustre"}, "/scratch1 is not in /scratch"
    assert rows["io_s"].between(0.5, 5).all()
    wall_s = rows["end_s"] - rows["start_s"]
    assert wall_s.between(4, 5).all(), "the last transfer ends within the run"
    assert (rows["compute_s"] > 0).all()
    assert (rows["compute_s"] + rows["io_s"] <= wall_s).all()


def test_what_all_ranks_did_together_is_split_and_said(imported: Imported) -> None:
    frame, report = imported[0].frame, imported[1]
    rows = frame[frame["stage"] == "shared"]
    assert len(rows) == rows["task"].nunique() == 2048
    assert rows["volume_bytes"].sum() == pytest.approx(2199023259968)
    assert rows["accesses"].sum() == pytest.approx(16402)
    assert rows["io_s"].sum() == pytest.approx(100397.60042)
    assert report.flagged[darshan_observations.SHARED] == 3, "one of these, two of the log without POSIX"
    assert "split evenly" in report.to_text()


def test_a_log_without_posix_has_its_stdio(imported: Imported) -> None:
    frame = imported[0].frame
    rows = frame[frame["stage"] == "stdio"]
    sums = rows.groupby("operation")[["volume_bytes", "accesses"]].sum()
    assert set(sums.index) == {"read", "write"}
    assert sums.loc["read", "accesses"] == pytest.approx(199687)
    assert set(rows["tier"]) == {""}


def test_ranks_that_move_nothing_have_no_rows_and_count_as_tasks(imported: Imported) -> None:
    frame, report = imported[0].frame, imported[1]
    rows = frame[frame["stage"] == "dxt"]
    assert sorted(rows["file_bytes"]) == [40, 4000]
    assert set(rows["tasks"]) == {16}
    assert report.rows == len(frame)
    assert report.dropped[darshan_observations.IDLE] == 46
    assert report.dropped[darshan_observations.STREAM] > 100
    assert "not told: storage tiers" in report.to_text()


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_log_is_an_error_and_never_less_volume(
    library: Path, tmp_path: Path, part: float
) -> None:
    whole = (library / LOGS["posix"]).read_bytes()
    path = tmp_path / "cut.darshan"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(
        BundleError, match=r"cut\.darshan: cannot be read as a Darshan log: Error: .* copy it"
    ):
        read_darshan_logs([path])


def test_other_files_are_named(library: Path, tmp_path: Path) -> None:
    text, empty = tmp_path / "notes.txt", tmp_path / "empty.darshan"
    text.write_text("not a log")
    empty.write_text("")
    with pytest.raises(BundleError, match=r"notes\.txt: cannot be read as a Darshan log"):
        read_darshan_logs([library / LOGS["dxt"], text])
    with pytest.raises(BundleError, match=r"empty\.darshan: is 0 bytes"):
        read_darshan_logs([empty])
    with pytest.raises(BundleError, match="missing: is not a file"):
        read_darshan_logs([tmp_path / "missing"])


def test_a_crash_of_the_library_names_the_log(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import os, sys\nprint('{}', flush=True)\nos.abort()\n")
    monkeypatch.setattr(darshan_log, "_WORKER", worker)
    logs = [library / LOGS["posix"], library / LOGS["dxt"]]
    with pytest.raises(
        BundleError, match=r"sample-dxt-simple\.darshan: cannot be read .* ended with code -6"
    ):
        read_darshan_logs(logs)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BundleError, match=r"pip install 'airflow-provider-qosflow\[darshan\]'"):
        read_darshan_logs(["some.darshan"])


RECORD = DarshanRecord("POSIX", "/data/a", 0, 4, 0, 400, 0, 1.0, 0.0, 0.5, 5.0)
LOG = DarshanLog(Path("one.darshan"), 7, 2, 1e9, 1e9 + 10, {"POSIX": False}, (RECORD,))

Read = Callable[..., Imported]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Import logs that are given as values."""

    def observations(**stages: DarshanLog) -> Imported:
        logs = list(stages.values())
        monkeypatch.setattr(darshan_observations, "read_darshan_logs", lambda paths: logs)
        return read_darshan_observations({stage: [f"{stage}.darshan"] for stage in stages}, nodes=1)

    return observations


def test_a_file_comes_from_the_stage_that_wrote_it(read: Read) -> None:
    written = replace(RECORD, bytes_read=0, bytes_written=400, writes=4, write_s=1.0)
    second = replace(LOG, path=Path("two.darshan"))
    frame = read(make=replace(LOG, records=(written, RECORD)), use=second)[0].frame
    producers = {(row["stage"], row["operation"]): row["producer"] for row in frame.to_dict("records")}
    assert producers == {("make", "write"): "", ("make", "read"): "", ("use", "read"): "make"}
    both = replace(second, records=(written, RECORD))
    assert set(read(make=replace(LOG, records=(written,)), use=both)[0].frame["producer"]) == {""}


def test_times_add_up_over_modules_and_the_rest_is_computing(read: Read) -> None:
    stdio = replace(RECORD, module="STDIO", bytes_read=100, reads=1, read_s=0.25, meta_s=0.0)
    observations, report = read(s=replace(LOG, records=(RECORD, stdio)))
    (row,) = observations.frame.to_dict("records")
    assert (row["volume_bytes"], row["accesses"], row["access_bytes"]) == (500, 5, 100)
    assert row["io_s"] == 1.25
    assert row["compute_s"] == 10 - 1.75
    assert report.flagged[darshan_observations.MIXED] == 1


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"read_s": 0.0}, darshan_observations.UNTIMED),
        ({"reads": 0}, darshan_observations.UNCOUNTED),
        ({"meta_s": 20.0}, darshan_observations.LONGER),
    ],
)
def test_what_is_odd_is_flagged(read: Read, change: dict[str, float], flag: str) -> None:
    observations, report = read(s=replace(LOG, records=(replace(RECORD, **change),)))
    assert report.flagged[flag] == 1
    assert observations.frame["volume_bytes"].tolist() == [400]
    assert flag in report.to_text()
    if flag == darshan_observations.LONGER:
        assert math.isnan(observations.frame["compute_s"].iloc[0])


def test_a_run_without_duration_has_no_times(read: Read) -> None:
    log = replace(LOG, end_s=LOG.start_s, records=(replace(RECORD, last_s=0.0),))
    frame = read(s=log)[0].frame
    assert frame[["start_s", "end_s", "compute_s"]].isna().all(axis=None)


def test_a_log_with_only_a_part_says_so(read: Read) -> None:
    assert read(s=replace(LOG, modules={"POSIX": True}))[1].flagged[darshan_observations.PARTIAL] == 1


@pytest.mark.parametrize(
    "record",
    [replace(RECORD, bytes_read=0), replace(RECORD, bytes_read=-1), replace(RECORD, file="<STDOUT>")],
)
def test_nothing_moved_is_an_error_that_says_what_the_log_has(read: Read, record: DarshanRecord) -> None:
    with pytest.raises(MeasurementError, match="no bytes moved through POSIX or STDIO; the logs have POSIX"):
        read(s=replace(LOG, records=(record,)))


def test_a_log_belongs_to_one_stage(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="is given twice"):
        read_darshan_observations({"a": [tmp_path / "x"], "b": [tmp_path / "." / "x"]}, nodes=1)
    with pytest.raises(MeasurementError, match="no Darshan logs"):
        read_darshan_observations({"a": []}, nodes=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"processes": 0}, "has 0 processes"),
        ({"end_s": 1.0}, "a start at .* and an end at 1.0"),
        ({"records": [vars(RECORD) | {"rank": 2}]}, "rank 2 of 2"),
        ({"records": [vars(RECORD) | {"read_s": math.nan}]}, "times of '/data/a' that are no numbers"),
    ],
)
def test_impossible_values_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    answer = {name: getattr(LOG, name) for name in ("job_id", "processes", "start_s", "end_s", "modules")}
    answer |= {"records": []} | change
    monkeypatch.setattr(darshan_log, "_require_library", lambda: None)
    monkeypatch.setattr(darshan_log, "_answers", lambda logs: [answer])
    path = tmp_path / "log"
    path.write_text("x")
    with pytest.raises(MeasurementError, match=message):
        read_darshan_logs([path])
