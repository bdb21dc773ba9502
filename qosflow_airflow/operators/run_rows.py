"""What a recommendation leaves in XCom for the tasks of its run, and under which keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from qosflow_airflow.exceptions import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qosflow_airflow.core.placement import Placement

Rows = list[dict[str, Any]]
Part = Literal["stage", "stage_in", "stage_out"]
"""What is done for a stage: its tasks, the copies before them, the copies after them."""

RETURN_VALUE = "return_value"
_KEY = re.compile(r"[\w.-]{1,200}")
_TAKEN = ("_", "stage_in.", "stage_out.")


def xcom_key(part: Part, stage: str) -> str:
    """Return the XCom key under which a recommendation keeps the rows of a part of a stage.

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


def xcom_rows(placement: Placement) -> dict[str, Rows]:
    """Return the rows of every part of every stage, by XCom key."""
    parts: dict[Part, Mapping[str, Rows]] = {
        "stage": placement.stages,
        "stage_in": placement.stage_in,
        "stage_out": placement.stage_out,
    }
    return {xcom_key(part, stage): rows for part, found in parts.items() for stage, rows in found.items()}


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


def _first(placement: Placement) -> dict[str, Any]:
    return next(iter(placement.stages.values()))[0]
