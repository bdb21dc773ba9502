"""WfFormat instances: a small one by hand, and generated ones where wfcommons is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.core.observations import COLUMNS
from qosflow_airflow.exceptions import BundleError, MeasurementError, QoSFlowError, WorkflowError
from qosflow_airflow.readers import wfformat
from qosflow_airflow.readers.bundle_files import write_observations_csv, write_workflow_yaml
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.wfformat import read_wfformat
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

MIB = 1 << 20


def _task(name: str, parents: list[str], inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    plain = name.rpartition("_")[0]
    return {"name": plain, "id": name, "parents": parents, "inputFiles": inputs, "outputFiles": outputs}


def _run(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "runtimeInSeconds": 10.0, "coreCount": 2, "machines": ["n1"], **values}


INSTANCE: dict[str, Any] = {
    "name": "survey",
    "description": "two parts,\nmerged",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                _task("merge_ID0000003", ["part_ID0000001", "part_ID0000002"], ["p1", "p2"], ["result"]),
                _task("part_ID0000001", [], ["raw"], ["p1"]),
                _task("part_ID0000002", [], ["raw", "none"], ["p2", "log"]),
            ],
            "files": [
                {"id": "raw", "sizeInBytes": 5 * MIB},
                {"id": "p1", "sizeInBytes": 2 * MIB},
                {"id": "p2", "sizeInBytes": 6 * MIB},
                {"id": "result", "sizeInBytes": 100},
                {"id": "log", "sizeInBytes": 0},
            ],
        },
        "execution": {
            "makespanInSeconds": 30,
            "tasks": [
                _run("part_ID0000001", avgCPU=150.0, executedAt="2026-01-31T12:00:00+00:00"),
                _run("part_ID0000002", machines=["n2"], writtenBytes=12 * MIB),
                _run("merge_ID0000003", runtimeInSeconds=0),
            ],
        },
    },
}

Save = Callable[[Any], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: Any) -> Path:
        path = tmp_path / "instance.json"
        path.write_text(json.dumps(content, indent=1))
        return path

    return write


def test_tasks_of_a_name_are_a_stage(save: Save) -> None:
    workflow = read_wfformat(save(INSTANCE))[0]
    assert (workflow.name, workflow.description) == ("survey", "two parts, merged")
    stages = [(s.name, s.level, s.tasks, tuple(s.predecessors)) for s in workflow.stages]
    assert stages == [("part", 1, 2, ("initial_data",)), ("merge", 2, 1, ("part",))]


def test_files_are_observations(save: Save) -> None:
    _, observations, report = read_wfformat(save(INSTANCE), access_bytes=2 * MIB)
    assert observations is not None
    frame = observations.frame
    assert list(frame.columns) == list(COLUMNS)
    rows = {(row["task"][-1], row["operation"], row["file"]): row for row in frame.to_dict("records")}
    assert set(rows) == {
        *(("1", "read", "raw"), ("1", "write", "p1"), ("2", "read", "raw"), ("2", "write", "p2")),
        *(("3", "read", "p1"), ("3", "read", "p2"), ("3", "write", "result")),
    }
    first, second, merged = rows["1", "read", "raw"], rows["2", "write", "p2"], rows["3", "read", "p1"]
    assert (first["producer"], first["volume_bytes"], first["accesses"]) == ("initial_data", 5 * MIB, 3)
    assert (merged["producer"], merged["volume_bytes"], merged["file_bytes"]) == ("part", 8 * MIB, 2 * MIB)
    assert rows["3", "write", "result"]["access_bytes"] == 100, "no access is larger than what is moved"
    # what a task is told to have moved counts, not the size of its files
    assert (second["volume_bytes"], second["file_bytes"], second["file_size_bytes"]) == (
        12 * MIB,
        12 * MIB,
        6 * MIB,
    )
    assert first["compute_s"] == 7.5, "1.5 of 2 cores for 10 s"
    assert first["end_s"] - first["start_s"] == 10
    assert second["compute_s"] == 10
    assert math.isnan(second["start_s"])
    assert math.isnan(merged["compute_s"]), "0 s is no runtime"
    assert frame["io_s"].isna().all()
    assert set(frame["nodes"]) == {2}, "two machines"
    assert set(frame.loc[frame["stage"] == "part", "tasks"]) == {2}
    counts = {**report.dropped, **report.flagged}
    assert counts[wfformat.UNSIZED] == counts[wfformat.EMPTY] == counts[wfformat.UNTIMED] == 1
    assert counts[wfformat.MIXED] == 1
    assert counts[wfformat.ASSUMED] == 6
    assert "not told: storage tiers" in report.to_text()
    assert "makespan" not in report.to_text()


def test_a_stage_that_waits_for_itself_becomes_one_per_level(save: Save) -> None:
    content = deepcopy(INSTANCE)
    tasks = content["workflow"]["specification"]["tasks"]
    tasks.append(_task("merge_ID0000004", [], ["result"], []))  # by its file only
    # There and back between two other stages.
    tasks += [_task("a_1", [], [], []), _task("b_1", ["a_1"], [], []), _task("a_2", ["b_1"], [], [])]
    workflow, _, report = read_wfformat(save(content))
    assert {stage.name: stage.level for stage in workflow.stages} == {
        "part": 1,
        "merge_level2": 2,
        "merge_level3": 3,
        "a_level1": 1,
        "b_level2": 2,
        "a_level3": 3,
    }
    assert report.flagged[wfformat.SPLIT] == 3


def test_children_count_as_parents_do_and_categories_as_names(save: Save) -> None:
    content = deepcopy(INSTANCE)
    merge, *parts = content["workflow"]["specification"]["tasks"]
    merge |= {"parents": [], "inputFiles": [], "category": "the end/all"}
    for part in parts:
        part["children"] = [merge["id"]]
    workflow, _, report = read_wfformat(save(content))
    assert [(s.name, tuple(s.predecessors)) for s in workflow.stages][1] == ("the_end_all", ("part",))
    assert report.flagged[wfformat.RENAMED] == 1


def test_without_sizes_there_are_no_observations(save: Save) -> None:
    content = deepcopy(INSTANCE)
    del content["workflow"]["specification"]["files"]
    _, observations, report = read_wfformat(save(content))
    assert observations is None
    assert report.rows == 0


def test_what_moved_nothing_has_no_rows(save: Save) -> None:
    content = deepcopy(INSTANCE)
    content["workflow"]["execution"]["tasks"][0]["readBytes"] = 0
    _, observations, report = read_wfformat(save(content))
    assert observations is not None
    assert len(observations.frame) == 6
    assert report.dropped[wfformat.IDLE] == 1


def test_nodes_are_asked_for_where_no_machine_is_named(save: Save) -> None:
    content = deepcopy(INSTANCE)
    del content["workflow"]["execution"]
    with pytest.raises(MeasurementError, match=r"on how many nodes it ran. Give the number"):
        read_wfformat(save(content))
    _, observations, report = read_wfformat(save(content), nodes=5)
    assert observations is not None
    assert set(observations.frame["nodes"]) == {5}
    assert report.flagged[wfformat.UNTIMED] == 3
    assert "the makespan" in report.to_text()


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


SPECIFICATION = ("workflow", "specification")
RUN = ("workflow", "execution", "tasks", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schemaVersion", value="1.4"), "is '1.4', not 1.5 or 1.6. Convert it"),
        (_set("workflow", value={"tasks": []}), "`workflow` lacks specification"),
        (_set(*SPECIFICATION, value={}), "`specification` lacks tasks"),
        (_set(*SPECIFICATION, "tasks", value=[]), "has no tasks"),
        (_set(*SPECIFICATION, "tasks", 1, "id", value="merge_ID0000003"), "declared on line"),
        (_set(*SPECIFICATION, "tasks", 0, "parents", value=["x"]), "is next to 'x', which is no task"),
        (_set(*SPECIFICATION, "tasks", 0, "children", value=["x"]), "is next to 'x', which is no task"),
        (
            _set(*SPECIFICATION, "tasks", 1, "parents", value=["merge_ID0000003"]),
            "tasks that wait for one another",
        ),
        (_set(*SPECIFICATION, "files", 1, "id", value="raw"), "is file 'raw', declared on line"),
        (_set(*SPECIFICATION, "files", 0, "sizeInBytes", value=-1), "`sizeInBytes` is -1"),
        (_set(*SPECIFICATION, "files", 0, "sizeInBytes", value="5 MB"), "`sizeInBytes` is '5 MB'"),
        (_set(*RUN, "runtimeInSeconds", value=math.inf), "`runtimeInSeconds` is inf"),
        (_set(*RUN, "executedAt", value="yesterday"), "is 'yesterday', not a time"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(save: Save, change: Callable[[Any], None], message: str) -> None:
    content = deepcopy(INSTANCE)
    change(content)
    path = save(content)
    with pytest.raises(WorkflowError) as caught:
        read_wfformat(path)
    assert message in str(caught.value)
    assert caught.value.source == str(path)
    assert caught.value.line is not None


def test_a_truncated_instance_is_an_error(save: Save) -> None:
    path = save(INSTANCE)
    text = path.read_text().rstrip()
    for end in range(0, len(text), 61):
        path.write_text(text[:end])
        with pytest.raises(BundleError):
            read_wfformat(path)


def test_the_files_of_the_bundle_say_the_same(save: Save, tmp_path: Path) -> None:
    workflow, observations, _ = read_wfformat(save(INSTANCE))
    assert observations is not None
    write_workflow_yaml(workflow, tmp_path / "workflow.yaml")
    write_observations_csv(observations, tmp_path / "observations.csv", workflow)
    assert read_workflow_yaml(tmp_path / "workflow.yaml") == workflow
    again = read_observations_csv(tmp_path / "observations.csv")
    assert again.scales == (2,)
    ours, theirs = (frame.reset_index(drop=True) for frame in (observations.frame, again.frame))
    for name in COLUMNS:
        assert theirs[name].astype(ours[name].dtype).equals(ours[name]), name
    assert {path.name for path in tmp_path.iterdir()} == {
        "instance.json",
        "workflow.yaml",
        "observations.csv",
    }


@pytest.mark.skipif(importlib.util.find_spec("wfcommons") is None, reason="wfcommons is not installed")
@pytest.mark.parametrize("family", ["GenomeRecipe", "EpigenomicsRecipe", "MontageRecipe"])
def test_generated_instances(family: str, tmp_path: Path) -> None:
    from wfcommons import WorkflowGenerator
    from wfcommons.wfchef import recipes

    path = tmp_path / "generated.json"
    recipe = getattr(recipes, family).from_num_tasks(60)
    WorkflowGenerator(recipe).build_workflow().write_json(path)
    workflow, observations, report = read_wfformat(path, nodes=2)
    tasks = json.loads(path.read_text())["workflow"]["specification"]["tasks"]
    assert sum(stage.tasks for stage in workflow.stages) == len(tasks)
    assert observations is not None
    assert observations.stages <= set(workflow.stage_names)
    assert "the makespan" in report.to_text()


def test_damage_anywhere_is_a_named_error_or_read(save: Save) -> None:
    path = save(INSTANCE)
    text = path.read_text()
    for at in range(0, len(text), 37):
        path.write_text(text[:at] + "0" + text[at + 1 :])
        with suppress(QoSFlowError):
            read_wfformat(path)
