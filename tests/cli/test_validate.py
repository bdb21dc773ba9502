"""``qosflow validate`` really runs the workload, on a tiny input, and leaves nothing on the tiers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.measure.throttled_tier import why_not_throttled

FIGURES = {"concordance", "median_error", "p90_error", "coverage_90", "configurations", "runs"}


@pytest.fixture
def tiers(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("disk", "ram")}
    for folder in found.values():
        folder.mkdir()
    return found


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """The example with one task a stage: starting processes is most of the time."""
    example = Path(__file__).resolve().parents[2] / "examples" / "genome"
    folder = tmp_path / "workload"
    folder.mkdir()
    for path in example.iterdir():
        if path.is_file() and path.name != "workflow.yaml":
            (folder / path.name).symlink_to(path)
    template = (example / "workflow.yaml").read_text()
    (folder / "workflow.yaml").write_text(
        template.replace("tasks: 10", "tasks: 1").replace("tasks: 2", "tasks: 1")
    )
    # A module behind a link would look for its template where the link leads.
    (folder / "prepare.py").unlink()
    (folder / "prepare.py").write_text((example / "prepare.py").read_text())
    return folder


def arguments(output: Path, tiers: dict[str, Path], workload: Path, *more: str) -> list[str]:
    named = [word for name, path in tiers.items() for word in ("--tier", f"{name}={path}")]
    small = ["--size-mib", "1", "--profile-budget-s", "1", "--workload", str(workload)]
    return ["validate", "--output", str(output), *named, *small, *more]


def test_a_model_is_held_against_runs_it_has_not_seen(
    tmp_path: Path,
    tiers: dict[str, Path],
    workload: Path,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "validation"
    # No time for more than two configurations, each once.
    sample = ("--throttle-mib-s", "0", "--budget-s", "0", "--repeats", "1", "--seed", "3")
    assert main(arguments(output, tiers, workload, *sample, "--format", "json")) == OK
    card = json.loads(capsys.readouterr().out)
    assert card.keys() >= FIGURES
    assert (card["configurations"], card["runs"], card["space"], card["whole_space"]) == (2, 2, 31, False)
    assert 0 < card["makespan_s"]["least"] <= card["makespan_s"]["most"] < 60
    assert card["settings"]["tiers"] == ["disk", "ram"]
    assert card["error_terms"]["volume"]["median"] == pytest.approx(0, abs=1e-4), "the same input again"
    assert card["airflow"] is None
    assert any(kind.startswith("compute") for kind in card["predicted_over_measured"])
    assert all(not list(folder.iterdir()) for folder in tiers.values())

    assert main(["validate", "--output", str(output), "--again", "--format", "json"]) == OK
    assert json.loads(capsys.readouterr().out) == card

    assert main(["evaluate", "--model", str(output / "model")]) == OK
    assert "2 runs of 2 configurations" in capsys.readouterr().out

    database = ["--database-url", database_url]
    assert main(["db", "upgrade", *database]) == OK
    assert main(["validate", "--output", str(output), "--again", "--store", *database]) == OK
    capsys.readouterr()
    assert main(["models", "--format", "json", *database]) == OK
    (model,) = json.loads(capsys.readouterr().out)
    assert model["report_card"] == card
    assert main(["models", *database]) == OK
    assert "2 runs of 2 configurations" in capsys.readouterr().out


def test_an_interrupt_ends_tasks_and_cleans_the_tiers(
    tmp_path: Path, tiers: dict[str, Path], workload: Path
) -> None:
    command = arguments(
        tmp_path / "validation", tiers, workload, "--throttle-mib-s", "0", "--budget-s", "1000"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from qosflow_airflow.cli import main; sys.exit(main())",
            *command,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("validate: all"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 128 + signal.SIGINT, said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert "nothing is left" in said
    assert all(not list(folder.iterdir()) for folder in tiers.values())


def test_a_workload_that_is_none_is_refused(tmp_path: Path, tiers: dict[str, Path], capsys) -> None:
    assert main(arguments(tmp_path / "validation", tiers, tmp_path)) == BAD_INPUT
    assert "has no prepare.py" in capsys.readouterr().err


def test_one_tier_leaves_nothing_to_choose(
    tmp_path: Path, tiers: dict[str, Path], workload: Path, capsys
) -> None:
    only = {"disk": tiers["disk"]}
    assert main(arguments(tmp_path / "validation", only, workload, "--throttle-mib-s", "0")) == BAD_INPUT
    assert "nothing to choose" in capsys.readouterr().err


def test_there_is_nothing_to_score_before_a_validation(tmp_path: Path, capsys) -> None:
    assert main(["validate", "--output", str(tmp_path), "--again"]) == BAD_INPUT
    assert "holds no runs" in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.skipif(why_not_throttled() is not None, reason=f"{why_not_throttled()}")
def test_the_throttled_tier_is_the_home_tier(
    tmp_path: Path, tiers: dict[str, Path], workload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "validation"
    sample = ("--throttle-mib-s", "50", "--budget-s", "0", "--repeats", "1", "--format", "json")
    assert main(arguments(output, tiers, workload, *sample)) == OK
    card = json.loads(capsys.readouterr().out)
    assert card["settings"]["tiers"][0] == "slow"
    assert card["space"] == 3**5 - 1
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert sorted(path.name for path in output.iterdir()) == ["bundle", "model", "runs.json"]
