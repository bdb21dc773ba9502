"""What a run measured, beside what was predicted for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.operators.answer_table import PARTS, text_table

WORK = ("read_s", "compute_s", "write_s")
"""The parts of a stage that its tasks do themselves."""

Record = Mapping[str, Any]


def read_records(folder: Path) -> list[Record]:
    """Return the records (JSON objects with times) that lie in ``folder``, none where there is no folder.

    Raises
    ------
    MeasurementError
        When a file cannot be read as one.
    """
    records: list[Record] = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MeasurementError(
                f"is no record of a task: {error}", source=path, cure="Delete it and clear its task."
            ) from None
        if not isinstance(record, dict) or not {"stage", "start_s", "end_s"} <= record.keys():
            raise MeasurementError(
                "is no record of a task", source=path, cure="Delete it and clear its task."
            )
        records.append(record)
    return records


def compare(
    answered: Mapping[str, Any],
    deadline_s: float | None,
    tasks: Mapping[str, int],
    task_records: Sequence[Record],
    copy_records: Sequence[Record],
    foretold: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return predicted and measured seconds of a run and of each of its stages, as plain JSON.

    ``answered`` is the configuration that ran, as the answer describes it; ``tasks`` is how many tasks each
    stage has, and ``foretold`` for how many it was predicted, where that number was chosen. The run's
    ``measured_s`` is the time from the first start to the last end of all tasks and copies; ``busy_s`` is the
    part of it in which at least one of them was at work. A stage's ``measured_s`` and ``busy_s`` are those of
    its tasks, and ``measured`` the seconds of its slowest task per part; copies are parts of their own.

    Raises
    ------
    MeasurementError
        When tasks of a stage left no record.
    """
    by_stage = {stage: [r for r in task_records if r["stage"] == stage] for stage in tasks}
    _refuse_incomplete(by_stage, tasks)
    # In the order of the run: databases keep no order of keys.
    by_stage = dict(sorted(by_stage.items(), key=lambda found: min(r["start_s"] for r in found[1])))
    copies = {stage: [r for r in copy_records if r["stage"] == stage] for stage in tasks}
    everything = [*task_records, *copy_records]
    measured_s = span_s(everything)
    return {
        # Answers that were kept before runs taught have no more than a makespan.
        "predicted_s": answered.get("run_s", answered["makespan_s"]),
        "measured_s": measured_s,
        "busy_s": busy_s(everything),
        "deadline_s": deadline_s,
        "met_deadline": None if deadline_s is None else measured_s <= deadline_s,
        "stages": {
            stage: {
                "tier": answered["configuration"]["tiers"][stage],
                "tasks": tasks[stage],
                **({"predicted_tasks": foretold[stage]} if foretold and stage in foretold else {}),
                "predicted_s": sum(answered["stage_s"][stage][part] for part in WORK),
                "measured_s": span_s(records),
                "busy_s": busy_s(records),
                "predicted": {part: answered["stage_s"][stage][part] for part in PARTS},
                "measured": _measured(stage, records, copies[stage]),
            }
            for stage, records in by_stage.items()
        },
    }


def span_s(records: Iterable[Record]) -> float:
    """Return the seconds from the first start to the last end."""
    times = [(record["start_s"], record["end_s"]) for record in records]
    return float(max(end for _, end in times) - min(start for start, _ in times))


def busy_s(records: Iterable[Record]) -> float:
    """Return the seconds in which at least one of the records was running.

    >>> busy_s([{"start_s": 0, "end_s": 3}, {"start_s": 2, "end_s": 4}, {"start_s": 9, "end_s": 10}])
    5.0
    """
    busy, until = 0.0, float("-inf")
    for start, end in sorted((record["start_s"], record["end_s"]) for record in records):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def comparison_table(outcome: Mapping[str, Any]) -> str:
    """Return one line per stage and one for the run: predicted, measured and busy seconds."""
    rows = [
        (
            stage,
            found["tier"],
            str(found["tasks"]),
            f"{found['predicted_s']:.2f}",
            f"{found['measured_s']:.2f}",
            f"{found['busy_s']:.2f}",
            _pair(found, "stage_in_s"),
            _pair(found, "stage_out_s"),
        )
        for stage, found in outcome["stages"].items()
    ]
    totals = [f"{outcome[name]:.2f}" for name in ("predicted_s", "measured_s", "busy_s")]
    headings = ("stage", "tier", "tasks", "predicted s", "measured s", "busy s", "copy in s", "copy out s")
    return text_table([headings, *rows, ("whole run", "", "", *totals, "", "")], right=range(2, 8))


def _pair(found: Mapping[str, Any], part: str) -> str:
    """Return predicted -> measured seconds of a copy, nothing where there was none."""
    predicted, measured = found["predicted"][part], found["measured"][part]
    if measured is None:
        return "?"
    return f"{predicted:.2f} -> {measured:.2f}" if predicted or measured else ""


def _measured(stage: str, records: Sequence[Record], copies: Sequence[Record]) -> dict[str, float | None]:
    return {
        "stage_in_s": _copy_s([record for record in copies if record["data_of"] != stage]),
        "read_s": max(record["read_s"] for record in records),
        "compute_s": max(max(0.0, r["end_s"] - r["start_s"] - r["read_s"] - r["write_s"]) for r in records),
        "write_s": max(record["write_s"] for record in records),
        "stage_out_s": _copy_s([record for record in copies if record["data_of"] == stage]),
    }


def _copy_s(copies: Sequence[Record]) -> float | None:
    """Return the seconds of the slowest copy, ``None`` where one is not known."""
    seconds = [record["copy_s"] for record in copies]
    return None if None in seconds else float(max(seconds, default=0.0))


def _refuse_incomplete(by_stage: Mapping[str, Sequence[Record]], tasks: Mapping[str, int]) -> None:
    missing = {
        stage: sorted(set(range(tasks[stage])) - {record.get("index") for record in records})
        for stage, records in by_stage.items()
    }
    if any(missing.values()):
        lacks = "; ".join(
            f"{stage}: {len(left)} of {tasks[stage]} tasks" for stage, left in missing.items() if left
        )
        raise MeasurementError(
            f"the run is not complete, these left no record: {lacks}",
            cure="See the logs of the failed tasks, then clear them: the run goes on where it stopped.",
        )
