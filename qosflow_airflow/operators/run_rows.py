"""What a recommendation leaves in XCom for the tasks of its run, and under which keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException

from qosflow_airflow.exceptions import WorkflowError
from qosflow_airflow.operators.session import task_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.core.placement import Placement
    from qosflow_airflow.core.pods import PodPlan

Rows = list[dict[str, Any]]
Part = Literal["stage", "stage_in", "stage_out"]
"""What is done for a stage: its tasks, the copies before them, the copies after them."""

RETURN_VALUE = "return_value"
ROWS = "rows"
"""The XCom key of all rows. They are kept at once: each value costs a task a call of Airflow's web server."""
CATALOG = "_catalog"
"""The XCom key of the tiers, for tasks that place a run elsewhere than on this machine."""
RECORDS = "_records"
"""The key, beside the rows of pods, of the pod that prints what the run recorded."""
PODS = "_pods"
"""The key, beside the rows of pods, of what they were planned with: nodes, and what else a new plan needs."""
PROMISE = "_promise"
"""The key, beside the rows, of what tells a stage's first task how much time is left."""
PLAN = "_plan"
"""The key, beside the rows, of what tells a stage's first task which plan these are, and what to do without
the tier."""
_KEY = re.compile(r"[\w.-]{1,200}")
_TAKEN = ("_", "stage_in.", "stage_out.")


def xcom_key(part: Part, stage: str) -> str:
    """Return the key under which a recommendation keeps the rows of a part of a stage, within :data:`ROWS`.

    The rows of the stage itself lie under its name; those of the copies under ``stage_in.<name>`` and
    ``stage_out.<name>``.

    Raises
    ------
    WorkflowError
        When Airflow could not keep or find a value under the stage's name.
    """
    if not _KEY.fullmatch(stage) or stage == RETURN_VALUE or stage.startswith(_TAKEN):
        raise WorkflowError(
            "tasks cannot be mapped over a stage of this name",
            stage=stage,
            cure="Use letters, digits, dots, dashes and underscores, and begin with none of "
            f"{', '.join(_TAKEN)}.",
        )
    return stage if part == "stage" else f"{part}.{stage}"


def pull_rows(
    context: Context,
    recommend_task_id: str,
    part: Part,
    stage: str,
    run: Mapping[str, Any] | None = None,
) -> Rows:
    """Return the rows of a part of a stage, as a recommending task pushed them, or one that plans its pods.

    ``run`` is what :func:`pull_run` returned, where it was pulled already.

    Raises
    ------
    AirflowFailException
        When the recommendation has no such stage.
    """
    with task_errors():
        key = xcom_key(part, stage)
    rows: Rows | None = (run if run is not None else pull_run(context, recommend_task_id)).get(key)
    if rows is None:
        summary = context["ti"].xcom_pull(task_ids=recommend_task_id)
        configuration = summary.get("configuration") if isinstance(summary, Mapping) else None
        known = ", ".join((configuration or {}).get("tiers", ()))
        raise AirflowFailException(
            f"The recommendation of task {recommend_task_id!r} has no stage {stage!r}. "
            f"Use one of {known or 'the stages of its workflow'}."
        )
    return rows


def pull_run(context: Context, recommend_task_id: str) -> Mapping[str, Any]:
    """Return all that such a task pushed for a run, by :func:`xcom_key`, and its :data:`PROMISE`."""
    found: Mapping[str, Any] | None = context["ti"].xcom_pull(task_ids=recommend_task_id, key=ROWS)
    return found or {}


def xcom_rows(placement: Placement | PodPlan, *, first_only: bool = False) -> dict[str, Rows]:
    """Return the rows of every part of every stage, by :func:`xcom_key`.

    With ``first_only``, the first task of a stage stands for all of them.
    """
    stages = placement.stages
    parts: dict[Part, Mapping[str, Rows]] = {
        "stage": {name: rows[:1] for name, rows in stages.items()} if first_only else stages,
        "stage_in": placement.stage_in,
        "stage_out": placement.stage_out,
    }
    return {xcom_key(part, stage): rows for part, found in parts.items() for stage, rows in found.items()}


def placement_of(run: Mapping[str, Any]) -> Placement:
    """Return the placement whose rows a recommending task pushed, or a boundary that planned again."""
    from qosflow_airflow.core.placement import Placement

    stages: Iterable[str] = run[PROMISE]["stages"]
    parts: dict[Part, dict[str, Rows]] = {
        part: {stage: run[xcom_key(part, stage)] for stage in stages}
        for part in ("stage", "stage_in", "stage_out")
    }
    return Placement(parts["stage"], parts["stage_in"], parts["stage_out"])


def records_folder(placement: Placement) -> str:
    """Return the folder in which the tasks of the run leave what they measured."""
    folder: str = _first(placement)["env"]["QOSFLOW_RECORDS"]
    return folder


def temporary_folders(placement: Placement, home: str) -> list[str]:
    """Return the folders that nobody needs once the run is over.

    These are the copies that were made for a stage, and what was written on another tier than ``home``: final
    outputs were copied from there to the home tier.
    """
    staged = [row["destination"] for rows in placement.stage_in.values() for row in rows]
    written = [rows[0]["output"] for rows in placement.stages.values() if rows[0]["tier"] != home]
    return [*staged, *written]


def fallback_folders(plan: Mapping[str, Any]) -> list[str]:
    """Return all folders that a run may leave on any tier, however often it is planned again.

    ``plan`` is what lies under :data:`PLAN`.
    """
    return [
        str(PurePosixPath(mount, plan["run"], part))
        for tier, mount in plan["mounts"].items()
        for part in ("staged", "output")
        if (tier, part) != (plan["home"], "output")
    ]


def _first(placement: Placement) -> dict[str, Any]:
    return next(iter(placement.stages.values()))[0]
