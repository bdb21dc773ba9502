from __future__ import annotations

import json
from pathlib import Path

import pytest

from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import BundleError, WorkflowError
from qosflow_airflow.readers.stages_json import read_stages_json


def test_golden_file(data: Path) -> None:
    assert read_stages_json(data / "survey_stages" / "stages.json") == Workflow(
        "survey_stages",
        (
            Stage("calibrate", 0, 4, {INITIAL_DATA: (r"raw_\d+\.fits", r"flat\.fits")}, (r"cal_\d+\.fits",)),
            Stage("stack", 1, 1, {"calibrate": (r"cal_\d+\.fits",)}, (r"deep\.fits",)),
            Stage("search", 1, 2, {"stack": (r"deep\.fits",), INITIAL_DATA: ()}),
        ),
    )


def read(tmp_path: Path, text: str, name: str = "") -> Workflow:
    path = tmp_path / "stages.json"
    path.write_bytes(text.encode())
    return read_stages_json(path, name)


def test_the_name_is_the_folders_or_given(tmp_path: Path) -> None:
    text = '{"a": {"num_tasks": 1}}'
    assert read(tmp_path, text).name == tmp_path.name
    assert read(tmp_path, text, "given").name == "given"


def test_levels_are_derived_where_no_stage_has_one(tmp_path: Path) -> None:
    text = '{"b": {"num_tasks": 1, "predecessors": {"a": {"inputs": []}}}, "a": {"num_tasks": 1}}'
    assert [stage.level for stage in read(tmp_path, text).stages] == [2, 1]


def test_byte_order_mark_crlf_and_escapes(tmp_path: Path) -> None:
    text = '\ufeff{\r\n"caf\\u00e9 \\ud83d\\ude80": {"num_tasks": 1,\r\n\t"outputs": ["\\\\d"]}\r\n}\r\n'
    (stage,) = read(tmp_path, text).stages
    assert (stage.name, stage.outputs) == ("caf\u00e9 \U0001f680", (r"\d",))


A = '"a": {"num_tasks": 1}'
WRONG = {
    "empty": ("", BundleError, "is empty"),
    "cut": ('{\n"a": {', BundleError, "line 2: is not valid JSON at character 7"),
    "too deep": ("[" * 100_000, BundleError, "is nested too deeply"),
    "many digits": ('{"a": {"num_tasks": ' + "9" * 5000 + "}}", BundleError, "stages.json"),
    "a list": ("[]", WorkflowError, "is a list, not a mapping"),
    "no stages": ("{}", WorkflowError, "the workflow has no stages"),
    "duplicate stage": (
        f'{{{A},\n"b": {{"num_tasks": 2}},\n{A}}}',
        WorkflowError,
        "line 3: `a` is declared twice",
    ),
    "duplicate key": (
        '{"a": {"num_tasks": 1,\n"num_tasks": 2}}',
        WorkflowError,
        "line 2: `num_tasks` is declared",
    ),
    "no tasks": ('{\n"a": {"stage_order": 1}}', WorkflowError, "line 2: `a` lacks num_tasks"),
    "text as tasks": ('{"a":\n{"num_tasks": "1"}}', WorkflowError, "line 2: `num_tasks` is '1'"),
    "not a number": ('{"a": {"num_tasks": NaN}}', WorkflowError, "`num_tasks` is nan"),
    "absurd tasks": ('{"a": {"num_tasks": 1e7}}', WorkflowError, "`num_tasks` is 10000000.0"),
    "bad parallelism": ('{"a": {"num_tasks": 1, "parallelism": 0}}', WorkflowError, "`parallelism` is 0"),
    "negative level": ('{"a": {"num_tasks": 1, "stage_order": -1}}', WorkflowError, "`stage_order` is -1"),
    "some levels": (
        f'{{{A}, "b": {{"num_tasks": 1, "stage_order": 1}}}}',
        WorkflowError,
        "gives levels to some stages but not to a",
    ),
    "level against edge": (
        (
            '{"a": {"num_tasks": 1, "stage_order": 1},\n'
            '"b": {"num_tasks": 1, "stage_order": 0, "predecessors": {"a": {}}}}'
        ),
        WorkflowError,
        "line 2, stage 'b': level 0 is before level 1 of its predecessor 'a'",
    ),
    "cycle at one level": (
        (
            '{"a": {"num_tasks": 1, "stage_order": 1, "predecessors": {"b": {}}},\n'
            '"b": {"num_tasks": 1, "stage_order": 1, "predecessors": {"a": {}}}}'
        ),
        WorkflowError,
        "is part of a cycle",
    ),
    "unknown predecessor": (
        '{"a": {"num_tasks": 1, "predecessors": {"z": {}}}}',
        WorkflowError,
        "predecessor 'z' is not a stage",
    ),
    "bad pattern": (
        '{"a": {"num_tasks": 1,\n"outputs": [\n"[a"]}}',
        WorkflowError,
        "line 3, stage 'a': `outputs[0]` is '[a', not a regular expression",
    ),
    "repeats that overflow": (
        '{"a": {"num_tasks": 1, "outputs": ["x{99999999999999999999}"]}}',
        WorkflowError,
        "not a regular expression",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(tmp_path: Path, case: str) -> None:
    text, kind, message = WRONG[case]
    with pytest.raises(kind) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.source == str(tmp_path / "stages.json")
    assert caught.value.cure


def test_what_json_writes_is_read(tmp_path: Path) -> None:
    declared = {
        f"s{n}": {
            "num_tasks": n + 1,
            "stage_order": n,
            "predecessors": {f"s{m}": {"inputs": [rf"\w{m}", 'a"b\\\\{}[,:]']} for m in range(n)},
            "other": [None, True, -1.5e-3, {"x": []}, {}, [[]]],
        }
        for n in range(5)
    }
    for indent in (None, 3):
        workflow = read(tmp_path, json.dumps(declared, indent=indent))
        assert [(stage.name, stage.tasks, stage.level) for stage in workflow.stages] == [
            (f"s{n}", n + 1, n) for n in range(5)
        ]
        assert workflow.stages[4].predecessors["s3"] == (r"\w3", 'a"b\\\\{}[,:]')
