"""The small workflow of :mod:`tests.support.small_model` in tasks that really run, in Dag files of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TASK = """\
import json, os, pathlib
inputs = {name: pathlib.Path(path) for name, path in json.loads(os.environ['QOSFLOW_INPUTS']).items()}
output, index = pathlib.Path(os.environ['QOSFLOW_OUTPUT']), os.environ['QOSFLOW_INDEX']
output.mkdir(parents=True, exist_ok=True)
if os.environ['QOSFLOW_STAGE'] == 'split':
    part = inputs['initial_data'] / ('part' + index + '.txt')
    (output / ('piece' + index + '.txt')).write_text(part.read_text())
else:
    pieces = sorted(inputs['split'].glob('piece*.txt'))
    (output / 'all.txt').write_text(' '.join(path.read_text() for path in pieces))
"""
"""What a task of either stage does, as a Python program."""


def write_initial_data(disk: Path) -> None:
    """Write what the first stage reads."""
    folder = disk / "initial_data"
    folder.mkdir(parents=True)
    for index, text in enumerate(("one", "two", "three")):
        (folder / f"part{index}.txt").write_text(text, encoding="utf-8")


def run_file(text: str, folder: Path, dag_id: str, patch: pytest.MonkeyPatch, **conf: Any) -> Any:
    """Run the Dag of a file with this text, in this process, and return the finished run."""
    from airflow.dag_processing.dagbag import DagBag

    folder.mkdir()
    (folder / f"{dag_id}.py").write_text(text, encoding="utf-8")
    bundle = {
        "name": f"bundle-{dag_id}",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    bag = DagBag(str(folder))
    assert bag.import_errors == {}
    return bag.dags[dag_id].test(run_conf=conf)


def states(run: Any) -> dict[str, list[str]]:
    """Return the states of each task's instances."""
    found: dict[str, list[str]] = {}
    for ti in run.get_task_instances():
        found.setdefault(ti.task_id, []).append(str(ti.state))
    return found


def labels(run: Any, task_id: str) -> list[str]:
    """Return what the grid shows for the instances of a mapped task."""
    found = {ti.map_index: ti.rendered_map_index for ti in run.get_task_instances() if ti.task_id == task_id}
    return [found[index] for index in sorted(found)]
