"""When the stages of one configuration begin and end, from what each of them takes.

A makespan is computed for many configurations at once (:mod:`~qosflow_airflow.core.schedule`) and tells what
it waits for, not when. An answer keeps what each stage takes; this chains it, so that an answer can be drawn
however old it is, without its model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from qosflow_airflow.core.workflow import Workflow

WORK = ("read_s", "compute_s", "write_s")
"""What a stage's tasks do themselves, among the seconds of a stage in an answer."""


class StageSeconds(NamedTuple):
    """What a stage takes: the longest copy before it, the work of its tasks, the longest copy home after."""

    before_s: float
    work_s: float
    after_s: float = 0.0


class StageSpan(NamedTuple):
    """When a stage's inputs are written, its work begins and ends, and its outputs are home; seconds."""

    ready_s: float
    start_s: float
    end_s: float
    done_s: float


def answered_seconds(stage_s: Mapping[str, Mapping[str, Any]]) -> dict[str, StageSeconds]:
    """Return what each stage takes by ``stage_s`` of an answer; a stage with an unknown part is left out."""
    found = {}
    for stage, parts in stage_s.items():
        names = ("stage_in_s", *WORK, "stage_out_s")
        if all(_is_known(parts.get(name)) for name in names):
            before_s, *work_s, after_s = (float(parts[name]) for name in names)
            found[stage] = StageSeconds(before_s, sum(work_s), after_s)
    return found


def timeline(
    workflow: Workflow, seconds: Mapping[str, StageSeconds], *, level_barrier: bool = False
) -> dict[str, StageSpan]:
    """Return when each stage begins and ends, from the beginning of the run.

    A stage begins when all its inputs are written and copied; under ``level_barrier`` when the whole level
    before has ended. Only the longest copy into a stage is known: it is taken to follow the last input, so
    that a stage may begin later than its makespan counts, never earlier. What takes an unknown time, and all
    that waits for it, is left out.
    """
    return _by_level(workflow, seconds) if level_barrier else _by_path(workflow, seconds)


def end_s(spans: Mapping[str, StageSpan]) -> float:
    """Return when the last stage is done, 0 without any."""
    return max((span.done_s for span in spans.values()), default=0.0)


def _is_known(seconds: object) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds)


def _by_path(workflow: Workflow, seconds: Mapping[str, StageSeconds]) -> dict[str, StageSpan]:
    spans: dict[str, StageSpan] = {}
    for name in workflow.topological_order:
        before = workflow.stage(name).stage_predecessors
        if name in seconds and all(one in spans for one in before):
            ready_s = max((spans[one].end_s for one in before), default=0.0)
            took = seconds[name]
            work_end_s = ready_s + took.before_s + took.work_s
            spans[name] = StageSpan(ready_s, ready_s + took.before_s, work_end_s, work_end_s + took.after_s)
    return spans


def _by_level(workflow: Workflow, seconds: Mapping[str, StageSeconds]) -> dict[str, StageSpan]:
    spans: dict[str, StageSpan] = {}
    ready_s = 0.0
    for level in workflow.levels:
        names = [stage.name for stage in workflow.stages if stage.level == level]
        if not all(name in seconds for name in names):
            break
        start_s = ready_s + max(seconds[name].before_s for name in names)
        out_s = start_s + max(seconds[name].work_s for name in names)
        for name in names:
            spans[name] = StageSpan(
                ready_s, start_s, start_s + seconds[name].work_s, out_s + seconds[name].after_s
            )
        ready_s = out_s + max(seconds[name].after_s for name in names)
    return spans
