from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collector import COLUMNS, TaskTrace, collect, main, read_records
from errors import GenomeError

from qosflow_airflow.readers.observations_csv import read_observations_csv

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "genome" / "genome.py"
REFERENCE = Path(os.environ.get("QOSFLOW_REFERENCE_DIR", ROOT.parent / "shared" / "reference"))
StageRunner = Callable[..., Path]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def observed(run_stage: StageRunner, tmp_path: Path) -> list[dict[str, str]]:
    for stage, count in [("individuals", 4), ("individuals_merge", 2), ("sifting", 1), ("frequency", 2)]:
        run_stage(stage, count)
    collect(tmp_path / "records", tmp_path / "observations.csv")
    return _rows(tmp_path / "observations.csv")


def test_columns_begin_with_those_of_the_public_traces() -> None:
    reference = REFERENCE / "1kgenome" / "observations.csv"
    if not reference.exists():
        pytest.skip(f"no reference data in {REFERENCE}")
    with reference.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS[: -len(("compute", "start", "end", "file", "size"))]


def test_volumes_are_the_sizes_of_the_files(
    observed: list[dict[str, str]], tmp_path: Path, initial_data: Path
) -> None:
    for row in observed:
        folder = tmp_path / row["taskName"] if row["operation"] == "write" else tmp_path / row["prevTask"]
        path = (initial_data if row["prevTask"] == "initial_data" else folder) / row["fileName"]
        size = path.stat().st_size
        assert int(row["fileSizeBytes"]) == size
        if row["taskName"] == "individuals" and row["fileName"].endswith(".vcf"):
            # two pieces of each chromosome: half of the file, and the rest of the last line
            assert size // 2 <= int(row["fileBytes"]) <= size // 2 + 4097
        else:
            assert int(row["fileBytes"]) == size
    merged = [row for row in observed if row["taskName"] == "individuals_merge"]
    read = sum(int(row["fileBytes"]) for row in merged if row["operation"] == "read")
    assert read == sum(path.stat().st_size for path in (tmp_path / "individuals").iterdir())


def test_a_task_says_its_whole_volume_on_each_file(observed: list[dict[str, str]]) -> None:
    tasks: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in observed:
        # the stage's tasks ran in one process here, so the file tells them apart from others too
        tasks.setdefault((row["taskName"], row["operation"], row["aggregateFilesizeMB"]), []).append(row)
    for (_, _, volume), rows in tasks.items():
        tasks_here = len({row["startTime"] + row["endTime"] for row in rows})
        assert sum(int(row["fileBytes"]) for row in rows) == pytest.approx(float(volume) * 2**20 * tasks_here)
        for row in rows:
            assert float(row["opCount"]) * float(row["transferSize"]) == pytest.approx(float(volume) * 2**20)
            assert float(row["trMiB"]) * float(row["totalTime"]) == pytest.approx(float(volume))


def test_rows_name_the_producer_and_the_final_data(observed: list[dict[str, str]]) -> None:
    found = {(row["taskName"], row["operation"], row["prevTask"]) for row in observed}
    assert found == {
        ("individuals", "read", "initial_data"),
        ("individuals", "write", ""),
        ("individuals_merge", "read", "individuals"),
        ("individuals_merge", "write", ""),
        ("sifting", "read", "initial_data"),
        ("sifting", "write", ""),
        ("frequency", "read", "initial_data"),
        ("frequency", "read", "individuals_merge"),
        ("frequency", "read", "sifting"),
        ("frequency", "write", "final_data"),
    }
    assert {row["stageOrder"] for row in observed if row["taskName"] == "frequency"} == {"3"}


def test_the_reader_takes_the_file(observed: list[dict[str, str]], tmp_path: Path) -> None:
    observations = read_observations_csv(tmp_path / "observations.csv")
    assert len(observations.frame) == len(observed)
    assert observations.scales == (1,)
    assert observations.frame["compute_s"].notna().all()


def test_a_record_agrees_with_the_kernel(initial_data: Path, tmp_path: Path) -> None:
    arguments = ["--index", "0", "--count", "1", "--records", tmp_path / "records", "--tier", "disk"]
    folders = ["--input", f"initial_data={initial_data}", "--output", tmp_path / "out"]
    subprocess.run([sys.executable, PROGRAM, "individuals", *arguments, *folders], check=True)
    (record,) = read_records(tmp_path / "records")
    kernel = record["process_io"]
    read = sum(file["bytes"] for file in record["files"] if file["operation"] == "read")
    written = sum(file["bytes"] for file in record["files"] if file["operation"] == "write")
    assert written == kernel["wchar"]
    # beside the files: the interpreter's own modules, and /proc itself
    assert read <= kernel["rchar"] <= read + (1 << 20)
    assert sum(file["operations"] for file in record["files"]) <= kernel["syscr"] + kernel["syscw"]
    assert 0 < record["read_s"] + record["write_s"] < record["wall_s"] < 60
    assert record["end_s"] - record["start_s"] == pytest.approx(record["wall_s"])
    assert record["cpu_s"] > 0


def test_compute_time_is_what_is_not_io(observed: list[dict[str, str]], tmp_path: Path) -> None:
    for record in read_records(tmp_path / "records"):
        (time,) = {
            float(row["computeSeconds"])
            for row in observed
            if (row["taskName"], float(row["endTime"])) == (record["stage"], record["end_s"])
        }
        assert time == pytest.approx(record["wall_s"] - record["read_s"] - record["write_s"])


def test_reads_out_of_order_are_random(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    trace = TaskTrace("stage", 0, 1)
    with trace.reading(tmp_path / "file", "initial_data") as file:
        file.seek(50)
        file.read(10)
        file.read(10)
        assert file.access.jumps == 0, "starting in the middle and going on is sequential"
        file.seek(0)
        file.read(10)
    assert (file.access.jumps, file.access.operations, file.access.bytes) == (1, 3, 30)


def test_a_failed_write_keeps_the_file_before_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    trace = TaskTrace("stage", 0, 1)

    def fail() -> None:
        with trace.writing(tmp_path / "file") as file:
            file.write(b"after")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def _save(folder: Path, **changes: Any) -> None:
    TaskTrace(**{"stage": "sifting", "index": 0, "count": 1, **changes}).save(folder)


def test_a_retry_replaces_the_record_of_the_first_try(tmp_path: Path) -> None:
    _save(tmp_path, tier="disk")
    _save(tmp_path, tier="tmpfs")
    assert [record["tier"] for record in read_records(tmp_path)] == ["tmpfs"]


def test_records_that_do_not_make_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match="no records; run the tasks with QOSFLOW_RECORDS"):
        read_records(tmp_path)
    _save(tmp_path, index=0, count=3)
    with pytest.raises(GenomeError, match=r"sifting lacks the records of tasks \[1, 2\]"):
        read_records(tmp_path)
    _save(tmp_path, index=1, count=2)
    with pytest.raises(GenomeError, match=r"sifting ran with \[2, 3\] tasks; keep one run"):
        read_records(tmp_path)
    (tmp_path / "task-sifting-00000.json").write_text("{")
    with pytest.raises(GenomeError, match=r"task-sifting-00000\.json: .* delete it and run its task again"):
        read_records(tmp_path)


def test_the_command_collects_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, output = tmp_path / "records", tmp_path / "observations.csv"
    assert main(["collect", str(records), "--output", str(output)]) == 2
    assert "no records" in capsys.readouterr().err
    assert not output.exists()
    trace = TaskTrace("sifting", 0, 1)
    with trace.writing(tmp_path / "file") as file:
        file.write(b"1234")
    trace.save(records)
    assert main(["collect", str(records), "--output", str(output)]) == 0
    assert [row["fileBytes"] for row in _rows(output)] == ["4"]
    assert json.loads((records / "task-sifting-00000.json").read_text())["count"] == 1
