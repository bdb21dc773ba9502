"""The script that pods run, run by real shells on real folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.probe import why_unusable
from qosflow_airflow.operators.pod_rows import SCRIPT, printed_records
from tests.support import faulty_tier

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return ["busybox", "sh"] if request.param == "busybox" else [request.param]


def pod(shell: Sequence[str], *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, "-c", SCRIPT, "qosflow", *command],
        env={"PATH": os.environ["PATH"], "QOSFLOW_STAGE": "work", "QOSFLOW_RECOMMENDATION_ID": "r1", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def copy_line(source: Path, destination: Path, record: Path, pattern: str = "", amount: str = "some") -> str:
    head = json.dumps({"stage": 'a "quoted" one', "data_of": "b", "source": str(source)})[1:-1]
    return "\n".join((str(source), str(destination), pattern, amount, str(record), head))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "a source"
    (folder / "below").mkdir(parents=True)
    (folder / "one two.txt").write_text("1")
    (folder / "*.txt").write_text("22")
    (folder / "below" / "$HOME.tar").write_bytes(os.urandom(300_000))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_copy_is_like_its_source_and_is_recorded(shell: list[str], source: Path, tmp_path: Path) -> None:
    before = time.time()
    record = tmp_path / "records" / "copies" / "a-b.json"
    done = pod(shell, QOSFLOW_COPY_IN=copy_line(source, tmp_path / "to", record))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "to") == files(source)
    found = json.loads(record.read_text())
    assert (found["files"], found["bytes"]) == (3, 300_003)
    assert found["stage"] == 'a "quoted" one'
    assert before - 1 <= found["start_s"] <= found["end_s"] <= time.time() + 1
    assert 0 <= found["copy_s"] <= found["end_s"] - found["start_s"] + 0.002


def tries(shell: Sequence[str], folder: Path, needed_bytes: int = 0, output: Path | None = None) -> str:
    """Return what a pod says that tries a tier."""
    wanted = "\n".join((str(folder), str(needed_bytes), str(output or folder / "output")))
    done = pod(shell, QOSFLOW_TRY=wanted)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    assert not list(folder.glob(".qosflow-probe*")) if folder.is_dir() else True
    return done.stderr.strip().removeprefix("qosflow: ")


def test_a_tier_that_can_be_used_is_left_as_it_was(shell: list[str], tmp_path: Path) -> None:
    assert tries(shell, tmp_path / "made" / "for it", needed_bytes=2**20) == ""
    assert files(tmp_path) == {}


def test_what_a_tier_refuses_is_said_as_on_one_machine(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "below", tmp_path / "file"):
        said = why_unusable(folder, 10)
        assert said is not None
        assert said.startswith("it is down")
        assert tries(shell, folder) in (said, "it is down (File exists)")
    if faulty_tier.why_not() is None:
        with faulty_tier.faulty_tier(tmp_path / "tier") as tier:
            tier.fill()
            assert tries(shell, tier.mount) == why_unusable(tier.mount, 10)
            tier.make_read_only()
            assert tries(shell, tier.mount) == why_unusable(tier.mount, 10)


def test_a_tier_without_room_is_full_but_for_what_an_earlier_try_has_written(
    shell: list[str], tmp_path: Path
) -> None:
    free = shutil.disk_usage(tmp_path).free
    said = tries(shell, tmp_path, 2 * free)
    assert re.fullmatch(r"it is full: \d+ MiB are free, and the stage writes about \d+ MiB", said)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "piece").write_bytes(os.urandom(1 << 20))
    few = tries(shell, tmp_path, 2 * free, tmp_path / "output")
    wanted = [int(text.rsplit(" ", 2)[1]) for text in (said, few)]
    assert wanted[0] - wanted[1] in (1, 2)


def test_a_second_try_copies_nothing_and_keeps_the_time_of_the_first(
    shell: list[str], source: Path, tmp_path: Path
) -> None:
    line = copy_line(source, tmp_path / "to", tmp_path / "record.json")
    assert pod(shell, QOSFLOW_COPY_IN=line).returncode == 0
    first = (tmp_path / "record.json").read_text()
    inodes = {path: path.stat().st_ino for path in (tmp_path / "to").rglob("*")}
    assert pod(shell, QOSFLOW_COPY_IN=line).returncode == 0
    assert (tmp_path / "record.json").read_text() == first
    assert {path: path.stat().st_ino for path in (tmp_path / "to").rglob("*")} == inodes


def test_what_a_killed_try_left_is_replaced_and_not_copied_on(
    shell: list[str], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "to"
    target.mkdir()
    (target / "one two.txt").write_text("half")
    (source / ".x.pod.1.part").write_text("half")
    done = pod(shell, QOSFLOW_COPY_IN=copy_line(source, target, tmp_path / "record.json"))
    assert done.returncode == 0, done.stderr
    assert sorted(files(target)) == ["*.txt", "below/$HOME.tar", "one two.txt"]
    assert (target / "one two.txt").read_text() == "1"


def test_only_names_that_match_are_copied(shell: list[str], source: Path, tmp_path: Path) -> None:
    line = copy_line(source, tmp_path / "to", tmp_path / "r.json", r"([[:alnum:]_ ]+\.txt)|(nothing)")
    assert pod(shell, QOSFLOW_COPY_IN=line).returncode == 0
    assert list(files(tmp_path / "to")) == ["one two.txt"]


def test_what_must_match_something_fails_where_nothing_does(
    shell: list[str], source: Path, tmp_path: Path
) -> None:
    done = pod(shell, QOSFLOW_COPY_IN=copy_line(source, tmp_path / "to", tmp_path / "r.json", "none"))
    assert done.returncode != 0
    assert "no file matches none" in done.stderr
    line = copy_line(source, tmp_path / "to", tmp_path / "r.json", "none", "any")
    assert pod(shell, QOSFLOW_COPY_IN=line).returncode == 0


def test_a_source_that_is_not_there_is_named(shell: list[str], tmp_path: Path) -> None:
    line = copy_line(tmp_path / "gone", tmp_path / "to", tmp_path / "r.json")
    done = pod(shell, "touch", str(tmp_path / "ran"), QOSFLOW_COPY_IN=line)
    assert done.returncode != 0
    assert f"{tmp_path / 'gone'}: no such folder" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_tier_fails_and_leaves_no_file_under_its_name(
    shell: list[str], source: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    # A real cp, whose writes meet a full device.
    (programs / "cp").write_text('#!/bin/sh\nhead -c 10 "$1" > "$2"; exec cat "$1" > /dev/full\n')
    (programs / "cp").chmod(0o755)
    line = copy_line(source, tmp_path / "to", tmp_path / "r.json")
    done = pod(shell, QOSFLOW_COPY_IN=line, PATH=f"{programs}:{os.environ['PATH']}")
    if shell[0] != "busybox":
        assert done.returncode != 0
        assert "is the tier full?" in done.stderr
        assert files(tmp_path / "to") == {}


def test_a_copy_that_differs_is_noticed(shell: list[str], source: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "cp").write_text('#!/bin/sh\ntr 0-9 a-j < "$1" > "$2"\n')
    (programs / "cp").chmod(0o755)
    line = copy_line(source, tmp_path / "to", tmp_path / "r.json")
    done = pod(shell, QOSFLOW_COPY_IN=line, PATH=f"{programs}:{os.environ['PATH']}")
    if shell[0] != "busybox":
        assert done.returncode != 0
        assert "differs from it" in done.stderr
        assert files(tmp_path / "to") == {}


def test_another_command_may_copy(shell: list[str], source: Path, tmp_path: Path) -> None:
    line = copy_line(source, tmp_path / "to", tmp_path / "r.json")
    done = pod(shell, QOSFLOW_COPY_IN=line, QOSFLOW_COPY='cp -R "$1"/. "$2"/')
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "to") == files(source)
    assert json.loads((tmp_path / "r.json").read_text())["files"] == 3
    done = pod(shell, QOSFLOW_COPY_IN=line, QOSFLOW_COPY="exit 3")
    assert done.returncode != 0
    assert "the command to copy" in done.stderr


def tasks(tmp_path: Path, **changed: str) -> dict[str, Any]:
    asked = {"QOSFLOW_INDEXES": "0 2 4", "QOSFLOW_AT_ONCE": "3", "QOSFLOW_OUTPUT": str(tmp_path / "output")}
    return {**asked, **changed}


def test_every_task_is_a_process_with_its_index(shell: list[str], tmp_path: Path) -> None:
    command = ("sh", "-c", 'echo "$1" > "$QOSFLOW_OUTPUT/$QOSFLOW_INDEX"', "task", "a b")
    assert pod(shell, *command, **tasks(tmp_path)).returncode == 0
    assert files(tmp_path / "output") == {str(index): b"a b\n" for index in (0, 2, 4)}


@pytest.mark.parametrize(("at_once", "fewest"), [("3", 3), ("2", 2), ("1", 1)])
def test_so_many_tasks_run_at_once_as_are_allowed(
    shell: list[str], at_once: str, fewest: int, tmp_path: Path
) -> None:
    # Each task waits for as many as may run beside it, and counts those that run.
    command = (
        'cd "$QOSFLOW_OUTPUT"; touch "r$QOSFLOW_INDEX"; sleep 0.3; ls r* | wc -l > "n$QOSFLOW_INDEX"; '
        'sleep 0.3; rm "r$QOSFLOW_INDEX"'
    )
    done = pod(shell, "sh", "-c", command, **tasks(tmp_path, QOSFLOW_AT_ONCE=at_once))
    assert done.returncode == 0, done.stderr
    counts = [int(content) for name, content in files(tmp_path / "output").items() if name[0] == "n"]
    assert max(counts) == fewest


def test_a_task_that_fails_is_named_the_others_end_and_nothing_is_copied_out(
    shell: list[str], source: Path, tmp_path: Path
) -> None:
    command = '[ "$QOSFLOW_INDEX" != 2 ] || exit 7; sleep 0.2; touch "$QOSFLOW_OUTPUT/$QOSFLOW_INDEX"'
    out = copy_line(source, tmp_path / "to", tmp_path / "r.json")
    done = pod(shell, "sh", "-c", command, **tasks(tmp_path, QOSFLOW_COPY_OUT=out))
    assert done.returncode != 0
    assert "these tasks of work failed: index 2 with code 7;" in done.stderr
    assert set(files(tmp_path / "output")) == {"0", "4"}
    assert not (tmp_path / "to").exists()


def test_a_stopped_pod_stops_its_tasks(shell: list[str], tmp_path: Path) -> None:
    command = (*shell, "-c", SCRIPT, "qosflow", "sh", "-c", 'echo $$ > "$QOSFLOW_OUTPUT/pid"; exec sleep 60')
    env = {"PATH": os.environ["PATH"], **tasks(tmp_path, QOSFLOW_INDEXES="0")}
    process = subprocess.Popen(command, env=env)
    pid = tmp_path / "output" / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=10) == 143
    assert not Path("/proc", pid.read_text().strip(), "exe").exists()


def test_records_are_printed_and_read(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    tasks = [{"stage": "a b", "index": index, "end_s": 1.5, "files": [{"file": "x"}]} for index in range(2)]
    for record in tasks:
        (tmp_path / f"task-{record['index']}.json").write_text(json.dumps(record, indent=1) + "\n")
    (tmp_path / "copies" / "c.json").write_text('{"stage": "c", "files": 3, "copy_s": null}')
    done = pod(shell, QOSFLOW_PRINT=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert printed_records(done.stdout) == {
        "tasks": [{"stage": "a b", "index": index, "end_s": 1.5} for index in range(2)],
        "copies": [{"stage": "c", "files": 3, "copy_s": None}],
    }
    assert printed_records(pod(shell, QOSFLOW_PRINT=str(tmp_path / "none")).stdout) == {
        "tasks": [],
        "copies": [],
    }
    with pytest.raises(MeasurementError, match="printed no records"):
        printed_records("")
    with pytest.raises(MeasurementError, match="is not whole"):
        printed_records('--- tasks\n{"stage": \n--- copies\n')


def test_only_folders_of_the_run_are_removed(shell: list[str], tmp_path: Path) -> None:
    for name in ("r1", "r2", "r10"):
        (tmp_path / name / "output").mkdir(parents=True)
    assert pod(shell, QOSFLOW_REMOVE=f"{tmp_path}/r1/output\n{tmp_path}/r1").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r10", "r2"]
    for wrong in (tmp_path / "r2", tmp_path / "r10", f"{tmp_path}/r1/../r2", tmp_path):
        done = pod(shell, QOSFLOW_REMOVE=str(wrong))
        assert done.returncode != 0
        assert "is not removed" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r10", "r2"]
