"""The rows of one stage of a recommendation, so that Airflow can map tasks over them.

Airflow maps over what a task returns and over nothing else, while a recommendation has rows for every stage;
so each stage that is mapped over has a small task that returns its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import BaseOperator
from airflow.sdk.definitions.template import literal

from qosflow_airflow.operators.run_rows import Part, Rows, xcom_key
from qosflow_airflow.operators.session import task_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


class QoSStageOperator(BaseOperator):
    """Returns the rows of a part of a stage, as the recommending task pushed them.

    :param recommend_task_id: the task that recommended.
    :param stage: the stage.
    :param part: ``stage`` for its tasks, ``stage_in`` or ``stage_out`` for the copies before or after them.
    """

    ui_color = "#eef3f7"

    def __init__(self, *, recommend_task_id: str, stage: str, part: Part = "stage", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id
        self.stage = stage
        self.part = part

    def execute(self, context: Context) -> Rows:
        """Return the rows; Airflow maps over them."""
        return pull_rows(context, self.recommend_task_id, self.part, self.stage)


def pull_rows(context: Context, recommend_task_id: str, part: Part, stage: str) -> Rows:
    """Return the rows of a part of a stage, as the recommending task pushed them.

    Raises
    ------
    AirflowFailException
        When the recommendation has no such stage.
    """
    with task_errors():
        key = xcom_key(part, stage)
    rows: Rows | None = context["ti"].xcom_pull(task_ids=recommend_task_id, key=key)
    if rows is None:
        summary = context["ti"].xcom_pull(task_ids=recommend_task_id) or {}
        known = ", ".join((summary.get("configuration") or {}).get("tiers", ()))
        raise AirflowFailException(
            f"The recommendation of task {recommend_task_id!r} has no stage {stage!r}. "
            f"Use one of {known or 'the stages of its workflow'}."
        )
    return rows


def bash_kwargs(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a stage as what ``BashOperator.expand_kwargs`` takes: the ``QOSFLOW_*`` variables.

    The values are taken as they are: Airflow would render a name that looks like a template, and take one
    that ends in ``.sh`` for a file to read.
    """
    return {"env": literal(dict(row["env"]))}
