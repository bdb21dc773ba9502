from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from qosflow_airflow.measure import folder_copy
from qosflow_airflow.measure.folder_copy import copy_folder
from qosflow_airflow.operators.copy import QoSCopyOperator, QoSStageInOperator, QoSStageOutOperator
from tests.support.small_model import FakeTaskInstance

pytestmark = pytest.mark.airflow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "part1.txt").write_bytes(b"one")
    (folder / "part2.txt").write_bytes(os.urandom(3 << 20))
    (folder / "sub" / "notes.md").write_text("{{ 6 * 7 }}")
    return folder


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "tier" / "run" / "staged"


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def copy(source: Path, destination: Path, **more: Any) -> dict[str, Any]:
    operator = QoSCopyOperator(task_id="copy", source=str(source), destination=str(destination), **more)
    context: Any = {}
    operator.render_template_fields(context)
    return operator.execute(context)


def test_every_file_is_copied_and_recorded(source: Path, destination: Path, tmp_path: Path) -> None:
    row = {"stage": "merge", "data_of": "split", "source_tier": "disk", "tier": "ram"}
    moved = copy(source, destination, records=str(tmp_path / "records"), **row)
    assert content(destination) == content(source)
    assert moved["files"] == 3
    assert moved["bytes"] == sum(map(len, content(source).values()))
    record = json.loads((tmp_path / "records" / "copies" / "merge-split.json").read_text())
    assert record.items() >= {**row, **moved}.items()
    assert 0 < record["copy_s"] <= record["end_s"] - record["start_s"]
    # Beside the records of tasks there is nothing that could be taken for one.
    assert list((tmp_path / "records").glob("*.json")) == []
    assert [path.name for path in destination.parent.iterdir()] == ["staged"]


def test_only_files_that_match_a_pattern_are_copied(source: Path, destination: Path) -> None:
    assert copy(source, destination, patterns=[r"part\d\.txt"])["files"] == 2
    assert set(content(destination)) == {"part1.txt", "part2.txt"}


def test_a_second_try_moves_nothing_and_keeps_the_record(
    source: Path, destination: Path, tmp_path: Path
) -> None:
    records = str(tmp_path / "records")
    copy(source, destination, records=records)
    record = next((tmp_path / "records" / "copies").iterdir())
    before, inode = record.read_text(), (destination / "part1.txt").stat().st_ino
    assert copy(source, destination, records=records)["copy_s"] is None
    assert record.read_text() == before
    assert (destination / "part1.txt").stat().st_ino == inode


def test_a_second_try_records_a_copy_whose_first_try_died_before_it_could(
    source: Path, destination: Path, tmp_path: Path
) -> None:
    copy(source, destination)
    copy(source, destination, records=str(tmp_path / "records"), stage="a", data_of="b")
    record = json.loads((tmp_path / "records" / "copies" / "a-b.json").read_text())
    assert (record["files"], record["copy_s"]) == (3, None)


@pytest.mark.parametrize("damage", ["content", "missing", "extra"])
def test_a_destination_that_differs_is_replaced(source: Path, destination: Path, damage: str) -> None:
    copy(source, destination)
    if damage == "content":
        (destination / "part1.txt").write_bytes(b"two")
    elif damage == "missing":
        (destination / "part1.txt").unlink()
    else:
        (destination / "more.txt").write_bytes(b"")
    assert copy(source, destination)["copy_s"] is not None
    assert content(destination) == content(source)


def test_sizes_alone_may_decide(source: Path, destination: Path) -> None:
    copy(source, destination)
    (destination / "part1.txt").write_bytes(b"two")
    assert copy(source, destination, verify="size")["copy_s"] is None


def test_a_copy_that_breaks_off_leaves_nothing_behind_and_is_tried_again(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_copy.os, "fsync", full)
    with pytest.raises(AirflowException, match=r"No space left.*Free space") as failure:
        copy(source, destination)
    assert not isinstance(failure.value, AirflowFailException)
    assert list(destination.parent.iterdir()) == []


def test_a_copy_that_is_not_like_its_source_is_not_kept(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folder_copy.shutil.copyfileobj

    def corrupting(reading: Any, writing: Any, length: int) -> None:
        real(reading, writing, length)
        writing.seek(0)
        writing.write(b"X")

    monkeypatch.setattr(folder_copy.shutil, "copyfileobj", corrupting)
    with pytest.raises(AirflowException, match="differs"):
        copy(source, destination)
    assert not destination.exists()


def test_a_source_that_is_not_there_fails_at_once(tmp_path: Path, destination: Path) -> None:
    with pytest.raises(AirflowFailException, match="no such folder"):
        copy(tmp_path / "nowhere", destination)


def test_patterns_that_match_nothing_fail_at_once(source: Path, destination: Path) -> None:
    with pytest.raises(AirflowFailException, match="no file matches"):
        copy(source, destination, patterns=[r".*\.vcf"])
    with pytest.raises(AirflowFailException, match="not a regular expression"):
        copy(source, destination, patterns=["("])


def test_special_files_are_refused(source: Path, destination: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(AirflowFailException, match="no regular file"):
        copy(source, destination)


def test_an_empty_folder_stays_one(tmp_path: Path, destination: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert copy_folder(tmp_path / "empty", destination)[:2] == (0, 0)
    assert list(destination.iterdir()) == []


def test_names_are_never_taken_for_templates(tmp_path: Path) -> None:
    folder = tmp_path / "{{ 6 * 7 }}"
    folder.mkdir()
    (folder / "a").write_text("a")
    copy(folder, tmp_path / "{{ run_id }}")
    assert (tmp_path / "{{ run_id }}" / "a").read_text() == "a"


def copy_row(source: Path, destination: Path, of: str, records: Path) -> dict[str, Any]:
    row = {"stage": "merge", "data_of": of, "source_tier": "disk", "tier": "ram", "patterns": []}
    return {**row, "source": str(source), "destination": str(destination), "records": str(records)}


def test_a_stage_s_inputs_are_brought_in_before_its_rows_are_handed_on(
    ti: FakeTaskInstance, source: Path, destination: Path, tmp_path: Path
) -> None:
    places = {of: destination.with_name(of) for of in ("split", "initial_data")}
    copies = [copy_row(source, to, of, tmp_path) for of, to in places.items()]
    ti.xcom_push("rows", {"merge": [{"index": 0}], "stage_in.merge": copies})
    context: Any = {"ti": ti}
    operator = QoSStageInOperator(task_id="in", recommend_task_id="recommend", stage="merge")
    assert operator.execute(context) == [{"index": 0}]
    assert all(content(place) == content(source) for place in places.values())
    assert len(list((tmp_path / "copies").iterdir())) == 2


def test_one_copy_that_fails_fails_the_stage(ti: FakeTaskInstance, source: Path, tmp_path: Path) -> None:
    rows = [
        copy_row(source, tmp_path / "a", "a", tmp_path),
        copy_row(tmp_path / "b", tmp_path, "b", tmp_path),
    ]
    ti.xcom_push("rows", {"merge": [{"index": 0}], "stage_in.merge": rows})
    context: Any = {"ti": ti}
    with pytest.raises(AirflowFailException, match="no such folder"):
        QoSStageInOperator(task_id="in", recommend_task_id="recommend", stage="merge").execute(context)


def test_final_outputs_are_brought_home_where_they_are_not_there_already(
    ti: FakeTaskInstance, source: Path, destination: Path, tmp_path: Path
) -> None:
    context: Any = {"ti": ti}
    operator = QoSStageOutOperator(task_id="out", recommend_task_id="recommend", stage="merge")
    ti.xcom_push("rows", {"stage_out.merge": []})
    with pytest.raises(AirflowSkipException):
        operator.execute(context)
    ti.xcom_push("rows", {"stage_out.merge": [copy_row(source, destination, "merge", tmp_path)]})
    (moved,) = operator.execute(context)
    assert moved["files"] == 3
    assert content(destination) == content(source)
