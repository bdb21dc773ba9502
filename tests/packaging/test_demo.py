from __future__ import annotations

import shutil
from pathlib import Path

import demo
import pytest
from console import SetupError
from state import StateFolder

RECOMMENDATION = {
    "configuration": {"nodes": 1, "tiers": {"individuals": "tmpfs", "frequency": "disk"}},
    "critical_stages": ["individuals"],
    "flexible_stages": ["frequency"],
    "explanation": "1 node meets the deadline with 4.0 s to spare.",
    "region": {"rule": "individuals on tmpfs"},
}
COMPARISON = {
    "predicted_s": 8.0,
    "measured_s": 9.25,
    "busy_s": 8.5,
    "deadline_s": 12,
    "met_deadline": True,
    "run_s": 20.0,
    "airflow_s": 10.75,
    "stages": {
        "individuals": {"predicted_s": 6.0, "busy_s": 6.5, "measured_s": 7.0},
        "frequency": {"predicted_s": 2.0, "busy_s": 2.0, "measured_s": 2.25},
    },
}


def test_the_answer_shows_tiers_reasons_and_both_times() -> None:
    text = demo.describe(RECOMMENDATION, COMPARISON, ["individuals", "frequency"])
    assert "The deadline of 12 s was met." in text
    assert "Rule: individuals on tmpfs" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["individuals", "tmpfs", "6.00", "6.50", "7.00", "critical"] in rows
    assert ["frequency", "disk", "2.00", "2.00", "2.25", "flexible"] in rows
    assert ["whole", "run", "8.00", "8.50", "9.25"] in rows


def test_a_missed_deadline_is_said() -> None:
    assert "was not met" in demo.describe(RECOMMENDATION, {**COMPARISON, "met_deadline": False}, [])


def test_what_was_learnt_is_shown_with_its_reason_and_what_was_not_too() -> None:
    first = demo.Run("one", {**RECOMMENDATION, "learned": []}, COMPARISON)
    taught = {**RECOMMENDATION, "learned": ["Corrected by 1 run."]}
    second = demo.Run("two", taught, {**COMPARISON, "predicted_s": 9.0})
    text = demo.describe_learning(first, second)
    rows = [line.split() for line in text.splitlines()]
    assert ["first", "8.00", "9.25", "-14%"] in rows
    assert ["second", "9.00", "9.25", "-3%"] in rows
    assert "prediction is closer" in text
    assert "Corrected by 1 run." in text
    assert "NOT closer" in demo.describe_learning(second, first)


def test_the_pages_are_named_by_addresses_that_airflow_s_login_leads_on_to() -> None:
    run = demo.Run("manual__2026-11-28T18:43:05+00:00", RECOMMENDATION, COMPARISON)
    found = dict(demo.pages("http://127.0.0.1:8080", run))
    assert list(found.values()) == [
        "http://127.0.0.1:8080/dags/genome_local/runs/manual__2026-11-28T18%3A43%3A05%2B00%3A00/plugin/qosflow-run",
        "http://127.0.0.1:8080/plugin/qosflow",
    ]


def test_the_deadline_leaves_room_for_airflow_while_no_run_tells_its_part() -> None:
    assert demo.deadline_for({"run_s": 10.0, "overhead_s": 0.0}) == 35
    assert demo.deadline_for({"run_s": 20.0, "overhead_s": 10.0}) == 30


def test_the_memory_tier_is_ours_per_state_folder_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "memory_folders", lambda: [tmp_path])
    state, other = StateFolder(tmp_path / "a"), StateFolder(tmp_path / "b")
    tier = demo.memory_tier(state, {})
    assert tier.parent == tmp_path
    assert tier != demo.memory_tier(other, {})
    tier.mkdir()
    kept = demo.memory_tier(other, {})
    kept.mkdir()
    demo.remove_memory_tier(state)
    assert not tier.exists()
    assert kept.exists()


def test_a_memory_that_is_too_small_is_an_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "memory_folders", lambda: [tmp_path])
    monkeypatch.setattr(demo, "MEMORY_NEEDED_BYTES", shutil.disk_usage(tmp_path).total + 1)
    with pytest.raises(SetupError, match="in memory") as failure:
        demo.memory_tier(StateFolder(tmp_path / "a"), {})
    assert "--shm-size" in failure.value.cure
    assert demo.memory_tier(StateFolder(tmp_path / "a"), {"QOSFLOW_MEMORY_TIER": "/ram"}) == Path("/ram")
