"""The slack that a run has left at each stage boundary: what was promised, what is done, what is to come."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.operators.outcome import Record, read_records, span_s

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.core.workflow import Workflow

SLACK = "slack"
"""The XCom key under which a stage's first task says what is left."""

Promise = Mapping[str, Any]

log = logging.getLogger(__name__)


def promise(
    workflow: Workflow, described: Mapping[str, Any], deadline_s: float | None, records: str
) -> dict[str, Any]:
    """Return what later tasks need to tell how a run keeps to its plan, as plain JSON.

    ``described`` is a configuration as an answer describes it. A stage's ``seconds`` are those of its copies
    and of its slowest task.
    """
    return {
        "deadline_s": deadline_s,
        "makespan_s": described["makespan_s"],
        "records": records,
        "stages": {
            stage.name: {
                "level": stage.level,
                "after": list(stage.stage_predecessors),
                "tasks": stage.tasks,
                "seconds": sum(described["stage_s"][stage.name].values()),
            }
            for stage in workflow.stages
        },
    }


def slack_at(
    promised: Promise, stage: str, records: Sequence[Record], began_s: float, now_s: float
) -> dict[str, Any]:
    """Return how a run stands as ``stage`` begins; times of the clock are seconds since the epoch.

    What is done took as long as its records say. What is to come takes as long as was predicted, from now on:
    ``estimate_s`` is the whole run's length, from its beginning, and ``slack_s`` how much shorter than the
    deadline that is (negative where longer, ``None`` without a deadline).
    """
    done = _done(promised, records)
    behind = _before(promised, stage)
    ends: dict[str, float] = {}
    # Not in the order of the keys: databases keep none.
    for name, plan in sorted(promised["stages"].items(), key=lambda found: found[1]["level"]):
        if name in done:
            ends[name] = max(record["end_s"] for record in done[name])
        elif name in behind:
            ends[name] = now_s  # it has run, where its records cannot be read
        else:
            ready_s = max((ends[before] for before in plan["after"]), default=began_s)
            ends[name] = max(now_s, (now_s if name == stage else ready_s) + plan["seconds"])
    estimate_s = max(ends.values()) - began_s
    deadline_s = promised["deadline_s"]
    return {
        "stage": stage,
        "elapsed_s": now_s - began_s,
        "remaining_s": max(ends.values()) - now_s,
        "estimate_s": estimate_s,
        "promised_s": promised["makespan_s"],
        "deadline_s": deadline_s,
        "slack_s": None if deadline_s is None else deadline_s - estimate_s,
        "done": {
            name: {"predicted_s": promised["stages"][name]["seconds"], "measured_s": span_s(found)}
            for name, found in done.items()
        },
    }


def sentence(slack: Mapping[str, Any]) -> str:
    """Say in words how a run stands."""
    said = f"{slack['stage']} begins {slack['elapsed_s']:.1f} s after the run."
    if slack["done"]:
        each = (
            f"{name} in {found['measured_s']:.1f} s (predicted {found['predicted_s']:.1f} s)"
            for name, found in slack["done"].items()
        )
        said += f" Done: {', '.join(each)}."
    said += f" Still to come: {slack['remaining_s']:.1f} s; the run would take {slack['estimate_s']:.1f} s"
    if slack["slack_s"] is None:
        return f"{said}."
    side = "before" if slack["slack_s"] >= 0 else "AFTER"
    return f"{said} and end {abs(slack['slack_s']):.1f} s {side} its deadline of {slack['deadline_s']:g} s."


def say_slack(context: Context, promised: Promise | None, stage: str) -> None:
    """Log how the run stands as a stage begins, as a warning where its deadline is at risk; push it."""
    began = getattr(context.get("dag_run"), "start_date", None)
    if promised is None or began is None:
        return
    try:
        records = read_records(Path(promised["records"]))
    except MeasurementError as error:
        log.info("%s", error)
        records = []
    slack = slack_at(promised, stage, records, began.timestamp(), time.time())
    at_risk = slack["slack_s"] is not None and slack["slack_s"] < 0
    log.log(logging.WARNING if at_risk else logging.INFO, "%s", sentence(slack))
    context["ti"].xcom_push(key=SLACK, value=slack)


def _done(promised: Promise, records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of the stages whose tasks have all left one."""
    by_stage = {name: [one for one in records if one["stage"] == name] for name in promised["stages"]}
    return {
        name: found
        for name, found in by_stage.items()
        if len({one.get("index") for one in found}) >= promised["stages"][name]["tasks"]
    }


def _before(promised: Promise, stage: str) -> set[str]:
    """Return the stages that have run when ``stage`` begins."""
    found: set[str] = set()
    waiting = list(promised["stages"][stage]["after"])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += promised["stages"][name]["after"]
    return found
