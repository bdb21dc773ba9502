"""The commands of the how-to run, in the order in which they stand there, on a smaller input."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read_page

pytestmark = pytest.mark.system

HOW_TO = ROOT / "docs" / "first-recommendation.md"


def commands() -> list[str]:
    blocks = [block for block in read_page(HOW_TO).blocks if block.language == "bash"]
    lines = (line for block in blocks for line in block.text.splitlines())
    # Those of setup.sh need a running installation, which other tests bring up; it passes them on.
    return [line for line in lines if not line.startswith(("./setup.sh", "source "))]


def test_the_how_to_goes_from_measurements_to_decisions(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    outputs = []
    for command in commands():
        smaller = command.replace("--size demo", "--size tests --budget-s 2").replace(
            "/dev/shm/genome", "memory"
        )
        done = subprocess.run(
            shlex.split(smaller), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        # How long the small input takes depends on the machine, and so whether a deadline can be met.
        expected = (0, 3) if "--deadline-s" in command else (0,)
        assert done.returncode in expected, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    assert len(outputs) >= 6
    assert {"tiers.yaml", "profile.csv", "observations.csv"} <= {
        path.name for path in (tmp_path / "genome-bundle").iterdir()
    }
    assert any("Region:" in output for output in outputs)
    assert any('"pin": {\n      "individuals": "disk"' in output for output in outputs)
