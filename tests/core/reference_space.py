"""The public workflows as whole spaces under the reference rules, for tests marked ``reference``."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import REFERENCE
from qosflow_airflow.core.schedule import Schedule
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.transfer_table import stage_times
from qosflow_airflow.readers.bundle import read_bundle

ROOT = Path(__file__).resolve().parents[2]
SCALES = {"1kgenome": (2, 5, 10), "ddmd": (1, 2, 4), "pyflex_s9_48f": (2, 4, 8)}
SPACES = [(name, nodes) for name, scales in SCALES.items() for nodes in scales]


def reference_folder() -> Path:
    """The folder of the reference data; skips the test where there is none."""
    folder = Path(os.environ.get("QOSFLOW_REFERENCE_DIR") or ROOT.parent / "shared" / "reference")
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}: set QOSFLOW_REFERENCE_DIR")
    return folder


@cache
def reference_space(name: str, nodes: int) -> tuple[MakespanModel, Layouts, Schedule]:
    """A public workflow at one scale: its model, all valid layouts and what they take."""
    bundle = read_bundle(reference_folder() / name)
    assert bundle.catalog is not None
    assert bundle.transfer_table is not None
    times = stage_times(bundle.transfer_table, bundle.workflow, bundle.catalog, nodes, REFERENCE)
    model = MakespanModel(bundle.workflow, bundle.catalog, times, REFERENCE)
    layouts = ConfigurationSpace(bundle.workflow, bundle.catalog, REFERENCE).layouts()
    return model, layouts, model.schedule(layouts)


def expected_concordances(name: str, nodes: int) -> dict[str, Any]:
    """What was computed from the artifact's own output, per policy."""
    summary = json.loads((reference_folder() / name / "expected_summary.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = summary["scales"][str(nodes)]["pc"]
    return found
