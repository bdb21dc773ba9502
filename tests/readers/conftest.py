"""The golden bundle, and files made from it with one thing wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parents[2]

Edit = Callable[..., Path]


@pytest.fixture
def data() -> Path:
    return DATA


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """A copy of the golden bundle that a test may change."""
    return Path(shutil.copytree(DATA / "survey", tmp_path / "survey"))


@pytest.fixture
def edit(survey: Path) -> Edit:
    """Replace text, which must be there, in a file of the golden bundle."""

    def change(name: str, *changes: tuple[str, str]) -> Path:
        path = survey / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")
        return path

    return change


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = Path(os.environ.get("QOSFLOW_REFERENCE_DIR") or ROOT.parent / "shared" / "reference")
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}: set QOSFLOW_REFERENCE_DIR")
    return folder
