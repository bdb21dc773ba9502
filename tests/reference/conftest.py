"""The reference data: the public workflows with every makespan under the published rules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of the reference data."""
    named = os.environ.get("QOSFLOW_REFERENCE_DIR")
    folder = Path(named) if named else ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is not a folder (set QOSFLOW_REFERENCE_DIR)")
    return folder
