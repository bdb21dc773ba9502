from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The example is a folder of programs, not a package: its modules import each other from that folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "genome"))

from generate import SIZES, generate
from genome import STAGES, run_task


@pytest.fixture(scope="session")
def initial_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genome") / "initial_data"
    generate(folder, SIZES["tests"], say=lambda message: None)
    return folder


StageRunner = Callable[..., Path]


@pytest.fixture
def run_stage(tmp_path: Path, initial_data: Path) -> StageRunner:
    """Run every task of a stage in this process; inputs default to the folders of earlier calls."""

    def run(stage: str, count: int = 1, output: str = "", **inputs: Path) -> Path:
        folders = {
            name: inputs.get(name, initial_data if name == "initial_data" else tmp_path / name)
            for name in STAGES[stage][1]
        }
        for index in range(count):
            settings = argparse.Namespace(
                index=index,
                count=count,
                inputs=folders,
                output=tmp_path / (output or stage),
                records=tmp_path / "records",
                tier="disk",
                nodes=1,
                recommendation_id=None,
            )
            run_task(stage, settings)
        return tmp_path / (output or stage)

    return run
