from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.operators.bash import BashOperator

from qosflow_airflow.operators.run_rows import Part
from qosflow_airflow.operators.stage import QoSStageOperator, bash_kwargs
from tests.support.small_model import FakeTaskInstance

pytestmark = pytest.mark.airflow


def rows_of(ti: FakeTaskInstance, stage: str, part: Part = "stage") -> list[dict[str, Any]]:
    operator = QoSStageOperator(task_id="rows", recommend_task_id="recommend", stage=stage, part=part)
    context: Any = {"ti": ti}
    return operator.execute(context)


def test_it_returns_what_the_recommendation_pushed(ti: FakeTaskInstance) -> None:
    ti.xcom_push("rows", {"split": [{"index": 0}], "stage_in.split": []})
    assert rows_of(ti, "split") == [{"index": 0}]
    assert rows_of(ti, "split", "stage_in") == []


def test_an_unknown_stage_fails_and_names_those_there_are(ti: FakeTaskInstance) -> None:
    ti.xcom_push("return_value", {"configuration": {"nodes": 1, "tiers": {"split": "ram", "merge": "ram"}}})
    with pytest.raises(AirflowFailException, match=r"no stage 'sort'.*split, merge"):
        rows_of(ti, "sort")


@pytest.mark.parametrize("value", ["{{ 6 * 7 }}", "folder/run.sh", "{% include 'x' %}", 'it\'s "quoted"'])
def test_environment_values_reach_a_bash_task_as_they_are(value: str) -> None:
    row = {"stage": "split", "env": {"QOSFLOW_OUTPUT": value}}
    operator = BashOperator(task_id="run", bash_command='printf %s "$QOSFLOW_OUTPUT"', **bash_kwargs(row))
    context: Any = {"ti": FakeTaskInstance()}
    operator.render_template_fields(context)
    assert operator.env == {"QOSFLOW_OUTPUT": value}
    assert operator.execute(context) == value
