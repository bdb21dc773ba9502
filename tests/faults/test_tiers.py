"""A tier that breaks between two stages, for real: what the user sees, and what survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.operators import clean
from tests.faults.conftest import RunWithFault, publish, recommendations
from tests.support.faulty_tier import FaultyTier
from tests.support.small_model import KeptStore
from tests.support.small_run import labels, states

pytestmark = pytest.mark.airflow

BREAK = """\
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.faulty_tier import FaultyTier
FaultyTier(Path({mount!r})).{fault}()
"""
ROOT = Path(__file__).resolve().parents[2]


def breaking(fast: FaultyTier, fault: str) -> str:
    return BREAK.format(root=str(ROOT), mount=str(fast.mount), fault=fault)


def result(disk: Path) -> str:
    """Return the only final output, wherever on the home tier."""
    found = [path for path in disk.rglob("all.txt") if "staged" not in path.parts]
    assert len(found) == 1
    return found[0].read_text()


REASONS = {
    "fill": "it is full (No space left on device)",
    "make_read_only": "it is read-only (Read-only file system)",
    "freeze": "it did not take and give back a small file within 1 s",
}
"""Faults that leave what lies on the tier readable."""


@pytest.mark.parametrize("fault", REASONS)
def test_with_fallback_the_run_goes_on_elsewhere_and_both_plans_are_kept(
    fault: str,
    store: KeptStore,
    disk: Path,
    fast: FaultyTier,
    run_with_fault: RunWithFault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clean, "ANSWER_S", 0.5)
    publish(store, disk, fast.mount)
    run = run_with_fault(breaking(fast, fault))
    assert states(run)["clean"] == ["success"]
    assert run.state == "success"
    assert labels(run, "split.run") == [f"split {number}/3 on fast" for number in (1, 2, 3)]
    assert labels(run, "merge.run") == ["merge 1/1 on disk"]
    assert result(disk) == "one two three"
    first, second = recommendations(store)
    assert first.answer["configuration"]["tiers"] == {"split": "fast", "merge": "fast"}
    assert second.answer["configuration"]["tiers"] == {"split": "fast", "merge": "disk"}
    assert second.answer["replans"]["recommendation_id"] == first.recommendation_id
    assert second.answer["replans"]["begun"] == {"split": "fast"}
    assert second.answer["replans"]["failed"] == {"fast": REASONS[fault]}
    assert (second.request, second.task_id) == (first.request, "merge.stage_in")
    # The run is held against the plan that it followed in the end.
    assert store.outcomes(first.recommendation_id) == ()
    (outcome,) = store.outcomes(second.recommendation_id)
    assert outcome.outcome["stages"]["merge"]["tier"] == "disk"
    # All of a run lies in the folders of its first recommendation.
    assert not (disk / second.recommendation_id).exists()


@pytest.mark.parametrize("fault", ["make_read_only", "freeze"])
def test_without_fallback_the_stage_fails_and_names_tier_path_reason_and_cure(
    fault: str,
    store: KeptStore,
    disk: Path,
    fast: FaultyTier,
    run_with_fault: RunWithFault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(store, disk, fast.mount)
    run = run_with_fault(breaking(fast, fault), asked="fallback=False")
    assert run.state == "failed"
    found = states(run)
    assert found["merge.stage_in"] == ["failed"]
    assert found["merge.run"] == ["upstream_failed"]
    assert found["clean"] == ["upstream_failed"]
    said = capsys.readouterr().out
    assert f"Stage 'merge' cannot use tier 'fast' at {fast.mount}: {REASONS[fault]}." in said
    assert "Free or mend it and try again, or recommend with fallback=True." in said
    # What was written lies where it was, and one recommendation is kept.
    assert len(recommendations(store)) == 1
    assert sorted(path.name for path in fast.mount.rglob("piece*.txt")) == [
        f"piece{index}.txt" for index in range(3)
    ]


def test_outputs_on_a_tier_that_is_gone_are_missed_and_never_taken_for_whole(
    store: KeptStore,
    disk: Path,
    fast: FaultyTier,
    run_with_fault: RunWithFault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(store, disk, fast.mount)
    run = run_with_fault(breaking(fast, "shut_down"))
    assert run.state == "failed"
    assert states(run)["merge.stage_in"] == ["failed"]
    # Another tier was found, but not what had been written to the one that is gone.
    (_, second) = recommendations(store)
    assert second.answer["replans"]["failed"] == {"fast": "it is down (Input/output error)"}
    assert second.answer["configuration"]["tiers"]["merge"] == "disk"
    assert "Input/output error" in capsys.readouterr().out
    assert not list(disk.rglob("staged/merge/*"))
    assert not list(disk.rglob("all.txt"))


def test_a_tier_that_was_never_there_is_left_out_from_the_first_stage_on(
    store: KeptStore, disk: Path, tmp_path: Path, run_with_fault: RunWithFault
) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    publish(store, disk, tmp_path / "file" / "fast")
    run = run_with_fault()
    assert states(run)["clean"] == ["success"]
    first, second = recommendations(store)
    assert second.answer["replans"]["begun"] == {}
    assert second.answer["configuration"]["tiers"] == {"split": "disk", "merge": "disk"}
    assert "down (Not a directory)" in second.answer["explanation"]
    # The second stage follows the new plan; it asks no more.
    assert labels(run, "merge.run") == ["merge 1/1 on disk"]
    assert result(disk) == "one two three"
    assert first.answer["configuration"]["tiers"] == {"split": "fast", "merge": "fast"}


def test_every_tier_is_tried_before_it_is_used(
    store: KeptStore, disk: Path, tmp_path: Path, run_with_fault: RunWithFault
) -> None:
    (tmp_path / "file").write_text("")
    publish(store, disk, tmp_path / "file" / "fast", tmp_path / "file" / "third")
    run = run_with_fault()
    assert run.state == "success"
    records = recommendations(store)
    assert [set(record.answer.get("replans", {}).get("failed", ())) for record in records] == [
        set(),
        {"fast"},
        {"fast", "third"},
    ]
    assert records[2].answer["replans"]["recommendation_id"] == records[1].recommendation_id
    assert result(disk) == "one two three"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fallback=True, pin='merge=fast'", "No other tier can take its place with the pin asked for"),
        ("fallback=True, deadline_s=5", "deadline"),
    ],
)
def test_a_request_that_cannot_be_met_any_more_fails_and_says_so(
    asked: str,
    said: str,
    store: KeptStore,
    disk: Path,
    fast: FaultyTier,
    run_with_fault: RunWithFault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(store, disk, fast.mount)
    run = run_with_fault(breaking(fast, "make_read_only"), asked=asked)
    assert run.state == "failed"
    first, second = recommendations(store)
    assert (first.status, second.status) == ("feasible", "infeasible")
    output = capsys.readouterr().out
    assert "Planned again without fast (it is read-only" in output
    assert said in second.answer["explanation"]
    assert not list(disk.rglob("all.txt"))


def test_the_nearest_is_taken_where_that_was_asked_for(
    store: KeptStore, disk: Path, fast: FaultyTier, run_with_fault: RunWithFault
) -> None:
    publish(store, disk, fast.mount)
    run = run_with_fault(
        breaking(fast, "make_read_only"),
        asked="fallback=True, pin='merge=fast', on_infeasible='nearest'",
    )
    assert run.state == "success"
    assert labels(run, "merge.run") == ["merge 1/1 on disk"]
    assert recommendations(store)[1].answer["nearest"]["configuration"]["tiers"]["split"] == "fast"
    assert result(disk) == "one two three"


def test_nothing_takes_the_place_of_the_home_tier(
    store: KeptStore,
    fast: FaultyTier,
    tmp_path: Path,
    run_with_fault: RunWithFault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.support.small_run import write_initial_data

    write_initial_data(fast.mount)
    publish(store, fast.mount, tmp_path / "other")
    run = run_with_fault(breaking(fast, "make_read_only"), asked="fallback=True, pin='merge=disk'")
    assert run.state == "failed"
    assert "It is the home tier, where initial data and results lie" in capsys.readouterr().out
    assert len(recommendations(store)) == 1


def test_too_little_room_for_what_a_stage_writes_is_seen_before_it_begins(
    store: KeptStore, disk: Path, fast: FaultyTier, run_with_fault: RunWithFault
) -> None:
    from dataclasses import replace

    import numpy as np

    from qosflow_airflow.core.tiers import StorageTier, TierCatalog
    from tests.support.small_model import publish_model, small_workflow, stage_times

    tiers = (StorageTier("disk", True, str(disk)), StorageTier("fast", False, str(fast.mount)))
    workflow, catalog = small_workflow(), TierCatalog(tiers, "disk")
    times = replace(stage_times(workflow, catalog, 1), output_bytes=np.array([1e3, 64e6]))
    publish_model(store, workflow, catalog, {1: times})
    run = run_with_fault()
    assert run.state == "success"
    assert labels(run, "split.run")[0] == "split 1/3 on fast"
    (reason,) = recommendations(store)[1].answer["replans"]["failed"].values()
    assert reason.endswith("MiB are free, and the stage writes about 61 MiB")
