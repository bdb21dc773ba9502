from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import BundleError, QoSFlowError, WorkflowError
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml


def test_golden_file(data: Path) -> None:
    assert read_workflow_yaml(data / "survey" / "workflow.yaml") == Workflow(
        "survey",
        (
            Stage("calibrate", 1, 4, {INITIAL_DATA: (r"raw_\d+\.fits", r"flat\.fits")}, (r"cal_\d+\.fits",)),
            Stage("stack", 2, 1, {"calibrate": ()}, (r"deep\.fits",), final=True),
            Stage(
                "search",
                3,
                2,
                {"stack": (r"deep\.fits",), INITIAL_DATA: (r"stars\.txt",)},
                (r"found_\d+\.txt",),
            ),
        ),
        "Images of the night sky, stacked and searched for stars",
    )


def read(tmp_path: Path, text: str) -> Workflow:
    path = tmp_path / "workflow.yaml"
    path.write_bytes(text.encode())
    return read_workflow_yaml(path)


def stages(tmp_path: Path, *lines: str) -> Workflow:
    return read(tmp_path, "name: w\nstages:\n" + "".join(f"  {line}\n" for line in lines))


def test_level_is_the_longest_path(tmp_path: Path) -> None:
    workflow = stages(
        tmp_path,
        "d: {tasks: 1, predecessors: [a, c]}",
        "c: {tasks: 1, predecessors: [b]}",
        "b: {tasks: 1, predecessors: [a]}",
        "a: {tasks: 1, predecessors: [initial_data]}",
        "alone: {tasks: 1}",
    )
    assert [stage.level for stage in workflow.stages] == [4, 3, 2, 1, 1]


def test_given_levels_stay(tmp_path: Path) -> None:
    workflow = stages(tmp_path, "a: {tasks: 1, level: 2}", "b: {tasks: 1, level: 7, predecessors: [a]}")
    assert workflow.levels == (2, 7)


def test_byte_order_mark_crlf_and_odd_names(tmp_path: Path) -> None:
    text = "\ufeffname: w\r\nstages:\r\n  on: {tasks: 1}\r\n  1: {tasks: 2, predecessors: [on]}\r\n"
    assert read(tmp_path, text).stage_names == ("on", "1")


WRONG_STAGES = {
    "unknown key": (["a: {tasks: 1, task: 2}"], 3, "`task` is not a known key", "Use one of tasks, level"),
    "no tasks": (["a: {level: 1}"], 3, "`a` lacks tasks", "Add it"),
    "empty stage": (["a:"], 3, "`a` is empty, not a mapping", ""),
    "text as tasks": (["a: {tasks: ten}"], 3, "`tasks` is 'ten'", "whole number from 1 to 1,000,000"),
    "part of a task": (["a: {tasks: 1.5}"], 3, "`tasks` is 1.5", "whole number"),
    "true tasks": (["a: {tasks: true}"], 3, "`tasks` is True", "whole number"),
    "no task": (["a: {tasks: 0}"], 3, "`tasks` is 0", "whole number"),
    "absurd tasks": (["a: {tasks: 1000001}"], 3, "`tasks` is 1000001", "whole number from 1 to 1,000,000"),
    "level 0": (["a: {tasks: 1, level: 0}"], 3, "`level` is 0", "whole number from 1"),
    "some levels": (
        ["a: {tasks: 1, level: 1}", "b: {tasks: 1}", "c: {tasks: 1}"],
        2,
        "gives levels to some stages but not to b, c",
        "all stages a level, or none",
    ),
    "level against edge": (
        ["a: {tasks: 1, level: 2}", "b: {tasks: 1, level: 1, predecessors: [a]}"],
        4,
        "level 1 is before level 2 of its predecessor 'a'",
        "Raise its level",
    ),
    "duplicate stage": (
        ["a: {tasks: 1}", "b: {tasks: 1}", "a: {tasks: 2}"],
        5,
        "`a` is declared twice",
        "line 3",
    ),
    "duplicate key": (["a:", "  tasks: 1", "  tasks: 2"], 5, "`tasks` is declared twice", "first on line 4"),
    "duplicate predecessor": (
        ["a: {tasks: 1}", "b: {tasks: 1, predecessors: [a, a]}"],
        4,
        "'a' a second time",
        "Remove it",
    ),
    "unknown predecessor": (
        ["a: {tasks: 1}", "b: {tasks: 1, predecessors: [c]}"],
        4,
        "predecessor 'c' is not a stage",
        "Use one of a, b or initial_data",
    ),
    "cycle": (
        [
            "start: {tasks: 1, predecessors: [initial_data]}",
            "a: {tasks: 1, predecessors: [start, b]}",
            "b: {tasks: 1, predecessors: [a]}",
            "after: {tasks: 1, predecessors: [b]}",
        ],
        None,
        "is part of a cycle: ",
        "Remove an edge",
    ),
    "reads itself": (["a: {tasks: 1, predecessors: [a]}"], 3, "is part of a cycle: a -> a", ""),
    "bad pattern": (
        ["a: {tasks: 1, outputs: ['ok', '*.txt']}"],
        3,
        "`outputs[1]` is '*.txt', not a regular",
        "",
    ),
    "bad input pattern": (
        ["a:", "  tasks: 1", "  predecessors:", "    initial_data:", "      inputs:", "      - '(raw'"],
        8,
        "`inputs[0]` is '(raw', not a regular expression",
        "stage 'a'",
    ),
    "pattern as text": (["a: {tasks: 1, outputs: x}"], 3, "`outputs` is 'x', not a list", ""),
    "unknown input key": (
        ["a: {tasks: 1, predecessors: {initial_data: {input: [x]}}}"],
        3,
        "`input` is not a known key",
        "Use one of inputs",
    ),
    "final as text": (["a: {tasks: 1, final: 'yes'}"], 3, "`final` is 'yes'", "Write true or false"),
    "reserved name": (["initial_data: {tasks: 1}"], 2, "'initial_data' cannot be the name of a stage", ""),
    "blank name": (["' ': {tasks: 1}"], 3, "cannot be the name of a stage", ""),
    "line break in name": (['"a\\nb": {tasks: 1}'], 3, "'a\\nb' cannot be the name of a stage", ""),
    "merge key": (["a: &a {tasks: 1}", "b: {<<: *a}"], 4, "`<<` cannot be a key here", ""),
    "list as key": (["? [a, b]", ": {tasks: 1}"], 3, "cannot be a key here", ""),
    "own type": (["a: {tasks: !!python/name:os.system }"], 3, "of type tag:yaml.org,2002:python/name", ""),
    "false number": (["a: {tasks: !!int many}"], 3, "`tasks` is 'many' of type", ""),
    "stages as list": (["- a"], 2, "`stages` is a list, not a mapping", ""),
}


@pytest.mark.parametrize("case", WRONG_STAGES)
def test_wrong_stages(tmp_path: Path, case: str) -> None:
    lines, line, message, cure = WRONG_STAGES[case]
    with pytest.raises(WorkflowError) as caught:
        stages(tmp_path, *lines)
    text = str(caught.value)
    assert str(tmp_path / "workflow.yaml") in text
    assert re.search(re.escape(message), text), text
    assert cure in text
    if line is not None:
        assert caught.value.line == line


def test_cycle_names_its_stages_only(tmp_path: Path) -> None:
    lines = WRONG_STAGES["cycle"][0]
    with pytest.raises(WorkflowError) as caught:
        stages(tmp_path, *lines)
    assert re.search(r"cycle: (a -> b -> a|b -> a -> b)\.? ", str(caught.value))
    assert caught.value.line in (4, 5)


WRONG_TEXT = {
    "empty": ("", BundleError, "is empty"),
    "blank": (" \n\n", BundleError, "is empty"),
    "comments": ("# nothing\n", BundleError, "nothing but comments"),
    "not yaml": ("name: [w\nstages: {", BundleError, "line 2: is not valid YAML"),
    "control character": ("name: \x07\n", BundleError, "is not valid YAML"),
    "two documents": ("name: w\n---\nname: v\n", BundleError, "line 2: is not valid YAML"),
    "too deep": ("[" * 20000, BundleError, "is nested too deeply"),
    "endless": ("name: &a [*a]\n", BundleError, "is nested too deeply"),
    "a list": ("- a\n", WorkflowError, "is a list, not a mapping"),
    "no name": ("stages: {a: {tasks: 1}}\n", WorkflowError, "lacks name"),
    "empty name": ("name:\nstages: {a: {tasks: 1}}\n", WorkflowError, "line 1: `name` is empty, not text"),
    "number as name": ("name: 7\nstages: {a: {tasks: 1}}\n", WorkflowError, "`name` is 7, not text"),
    "no stages": ("name: w\nstages: {}\n", WorkflowError, "line 2: the workflow has no stages"),
    "unknown key": ("name: w\nstage: {}\n", WorkflowError, "line 2: `stage` is not a known key"),
}


@pytest.mark.parametrize("case", WRONG_TEXT)
def test_wrong_text(tmp_path: Path, case: str) -> None:
    text, kind, message = WRONG_TEXT[case]
    with pytest.raises(kind) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "workflow.yaml" in str(caught.value)


def test_aliases_of_aliases_are_refused(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(BundleError, match="holds more than 200,000 values"):
        read(tmp_path, "\n".join(levels))


def test_too_large(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="more than the 1,048,576 that are read"):
        read(tmp_path, "# " + "x" * 2**20)


def test_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: w\n# caf\xe9\n")
    with pytest.raises(BundleError, match="line 2: byte 0xe9 at offset 16 is not UTF-8"):
        read_workflow_yaml(path)


names = (
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
    .filter(lambda name: name.isprintable() and name == name.strip())
    .filter(lambda name: name not in (INITIAL_DATA, FINAL_DATA))
)
patterns = st.lists(names.map(re.escape), max_size=3).map(tuple)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Any workflow whose levels are the longest paths, declared in any order."""
    found: list[Stage] = []
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        reads = draw(st.lists(st.sampled_from([INITIAL_DATA, *(s.name for s in found)]), unique=True))
        level = 1 + max((s.level for s in found if s.name in reads), default=0)
        tasks = draw(st.integers(1, 1_000_000))
        predecessors = {source: draw(patterns) for source in reads}
        found.append(Stage(name, level, tasks, predecessors, draw(patterns), draw(st.booleans())))
    return Workflow(draw(names), tuple(draw(st.permutations(found))), draw(st.just("") | names))


def as_yaml(workflow: Workflow, *, levels: bool) -> str:
    declared = {
        stage.name: {
            "tasks": stage.tasks,
            **({"level": stage.level} if levels else {}),
            "predecessors": {name: {"inputs": list(inputs)} for name, inputs in stage.predecessors.items()},
            "outputs": list(stage.outputs),
            "final": stage.final,
        }
        for stage in workflow.stages
    }
    top = {"name": workflow.name, "description": workflow.description or None, "stages": declared}
    return yaml.safe_dump(top, sort_keys=False, allow_unicode=True)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflow=workflows(), levels=st.booleans())
def test_round_trip(tmp_path: Path, workflow: Workflow, levels: bool) -> None:
    assert read(tmp_path, as_yaml(workflow, levels=levels)) == workflow


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflow=workflows(), at=st.floats(0, 1), junk=st.text(max_size=3))
def test_damage_is_an_error_of_ours_or_harmless(
    tmp_path: Path, workflow: Workflow, at: float, junk: str
) -> None:
    text = as_yaml(workflow, levels=True)
    cut = int(at * len(text))
    damaged = (text[:cut] + junk + text[cut + 1 :]).encode("utf-8", "replace").decode()
    with contextlib.suppress(QoSFlowError):
        read(tmp_path, damaged)
