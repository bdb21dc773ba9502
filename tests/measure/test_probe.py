from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.measure.probe import TierHangsError, ask, why_unusable


def test_a_sound_tier_is_made_where_it_is_missing_and_left_as_it_was(tmp_path: Path) -> None:
    assert why_unusable(tmp_path / "mount" / "tier", 10.0) is None
    assert list((tmp_path / "mount" / "tier").iterdir()) == []


def test_too_little_room_is_said_unless_it_is_taken_already(tmp_path: Path) -> None:
    import shutil

    free = shutil.disk_usage(tmp_path).free
    reason = why_unusable(tmp_path, 10.0, needed_bytes=free * 2)
    assert reason is not None
    assert reason.startswith("it is full: ")
    output = tmp_path / "output"
    output.mkdir()
    with (output / "sparse").open("wb") as file:
        file.truncate(free * 2)
    assert why_unusable(tmp_path, 10.0, needed_bytes=free * 2, output=output) is None


def test_what_is_no_folder_is_down(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert why_unusable(tmp_path / "file", 10.0) == "it is down (File exists)"
    assert why_unusable(tmp_path / "file" / "tier", 10.0) == "it is down (Not a directory)"


def test_no_answer_in_time_is_an_answer(tmp_path: Path) -> None:
    # No process begins, writes and syncs in a microsecond.
    with pytest.raises(TierHangsError, match="within 1e-06 s"):
        ask(tmp_path, 1e-6)
