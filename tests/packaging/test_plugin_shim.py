from __future__ import annotations

import importlib.metadata
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow
SHIM = Path(__file__).resolve().parents[2] / "plugins" / "qosflow_plugin.py"


def test_an_installed_package_is_not_exported_twice() -> None:
    assert "QoSFlowPlugin" not in runpy.run_path(str(SHIM))


def test_copied_folders_export_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.entry_points

    def without_ours(**wanted: str) -> list[importlib.metadata.EntryPoint]:
        return [entry for entry in installed(**wanted) if entry.name != "qosflow"]

    monkeypatch.setattr(importlib.metadata, "entry_points", without_ours)
    from airflow.plugins_manager import AirflowPlugin

    assert issubclass(runpy.run_path(str(SHIM))["QoSFlowPlugin"], AirflowPlugin)
