"""scaling.yaml: what it says, and what is refused in it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.scaling import QUANTITIES, ScalingRule, ScalingRules
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.files import SourceFile
from qosflow_airflow.readers.scaling_yaml import read_scaling_yaml, scaling_yaml

TEXT = """\
observed: {data: [1, 3], tasks: [1, 2]}
stages:
  split:
    tasks: {tasks: 1}
    read_bytes: {data: 1, inferred: true, spread: 0.03, error: 0.02, runs: 4}
"""


def read(text: str, workflow: Workflow | None = None) -> ScalingRules:
    return read_scaling_yaml(SourceFile(Path("scaling.yaml"), text.encode()), workflow)


def test_rules_as_written() -> None:
    rules = read(TEXT)
    own, inferred = rules.rules["split", "tasks"], rules.rules["split", "read_bytes"]
    assert (own.data, own.tasks, own.inferred) == (0.0, 1.0, False)
    assert math.isnan(own.error)
    assert inferred == ScalingRule(1.0, 0.0, True, 0.03, 0.02, 4)
    assert (rules.data_range, rules.task_range) == ((1.0, 3.0), (1.0, 2.0))


@given(
    st.dictionaries(
        st.tuples(
            st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1),
            st.sampled_from(QUANTITIES),
        ),
        st.builds(
            ScalingRule,
            st.floats(-4, 4),
            st.floats(-4, 4),
            st.just(True),
            st.just(0.5),
            st.just(0.25),
            st.integers(1, 9),
        ),
    )
)
def test_what_is_written_is_read_back(rules: dict[tuple[str, str], ScalingRule]) -> None:
    if not rules:
        return
    given_rules = ScalingRules(rules, (0.5, 4.0), (1.0, 2.0))
    assert read(scaling_yaml(given_rules)) == given_rules


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("stages: {split: {reads: {data: 1}}}", 1, "`reads` is not a known key"),
        ("stages:\n  split:\n    tasks: {data: 9}", 3, "`data` is 9"),
        ("stages:\n  split:\n    tasks: {data: one}", 3, "`data` is 'one'"),
        ("observed: {data: [3, 1]}\nstages: {}", 1, "`data` is not a range"),
        ("observed: {data: [1, 2]}", 1, "lacks stages"),
        ("stages: {other: {tasks: {data: 1}}}", 1, "not a stage of workflow 'w'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, message: str) -> None:
    workflow = Workflow("w", (Stage("split", 1, 1, {INITIAL_DATA: ()}),))
    with pytest.raises(MeasurementError, match=r"scaling\.yaml") as caught:
        read(text, workflow)
    assert caught.value.line == line
    assert message in str(caught.value)
