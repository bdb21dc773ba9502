"""What a run did beside what was predicted for it: bars on one axis, the same as numbers, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from qosflow_airflow.core.timeline import StageSeconds, StageSpan, answered_seconds, end_s, timeline
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.store.finished_runs import RunRecord, StageRun
from qosflow_airflow.web.gantt import Gantt, Track, bars_of, draw_gantt
from qosflow_airflow.web.insights import NOTHING, configured, seconds
from qosflow_airflow.web.model_page import Legend
from qosflow_airflow.web.plans import plan_name

HEAD = ("Stage", "Tier", "Begins", "Takes", "Ends", "Began", "Took", "Ended", "Waited", "Off by")
"""Of the table: predicted seconds, then observed ones, both since the run began."""
CLOSE = 0.01
"""Times that differ by less are the same to whoever looks at a drawing."""


class Observed(NamedTuple):
    """When a stage really ran, seconds since the run began; ``waited_s`` is how long its first task waited.

    ``waited_s`` is ``None`` where that is not known.
    """

    start_s: float
    end_s: float
    waited_s: float | None


@dataclass(frozen=True)
class HappenedView:
    """A drawing with its legend, the table of what it shows, and sentences; ``met`` is a word or empty."""

    words: tuple[str, ...]
    met: str
    svg: Markup | None
    legend: tuple[Legend, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """What is known of the run that followed a recommendation.

    ``plans`` are all of it, oldest first; ``stages`` what its tasks told, each stage by the newest plan that
    it ran by; ``tiers`` where each stage ran or was to run; ``outcome`` is the newest one, if any.
    """

    plans: tuple[RecommendationRecord, ...]
    stages: Mapping[str, StageRun]
    tiers: Mapping[str, str]
    outcome: Mapping[str, Any] | None


def told_of(
    plans: Sequence[RecommendationRecord], runs: Sequence[RunRecord], outcome: Mapping[str, Any] | None
) -> Told:
    """Put together what the tasks of a run told; ``plans`` and ``runs`` come oldest first."""
    stages: dict[str, StageRun] = {}
    tiers: dict[str, str] = {}
    for run in runs:
        planned = (run.configuration or {}).get("tiers") or {}
        told = {stage.stage: stage for stage in run.stages}
        # A later plan says where those stages go that have told nothing yet.
        tiers |= {stage: tier for stage, tier in planned.items() if stage in told or stage not in stages}
        stages |= told
        outcome = outcome or run.outcome
    if not runs:
        tiers = (configured(plans[-1]).get("configuration") or {}).get("tiers") or {}
    return Told(tuple(plans), stages, tiers, outcome)


def happened_view(told: Told, workflow: Workflow, *, level_barrier: bool = False) -> HappenedView:
    """Return what is shown of a run; ``level_barrier`` is as the rules of its model have it."""
    planned = [
        timeline(workflow, answered_seconds(_stage_s(plan)), level_barrier=level_barrier)
        for plan in told.plans
    ]
    observed = observed_spans(told.stages)
    measured = {} if observed else _measured(workflow, told.outcome)
    tracks = [*_planned_tracks(planned), *_observed_track(observed), *_measured_track(measured)]
    stages = [name for name in workflow.stage_names if any(name in track.bars for track in tracks)]
    predicted_s = _predicted_s(told)
    return HappenedView(
        words=tuple(_words(told, workflow, predicted_s)),
        met=_met(told.outcome),
        svg=_drawn(told, stages, tracks) if stages else None,
        legend=tuple(_legend(tracks)),
        head=HEAD,
        rows=tuple(_rows(told, workflow, planned[-1], observed, predicted_s)),
        notes=tuple(_notes(told, planned[-1], bool(measured))),
    )


def observed_spans(stages: Mapping[str, StageRun]) -> dict[str, Observed]:
    """Return when stages ran, from the first moment of which is known that something was to be done."""
    known = {
        name: (one.first_s, one.last_s, one.ready_s)
        for name, one in stages.items()
        if one.first_s is not None and one.last_s is not None
    }
    # A clock of another machine may say that a task began before it was ready: it did not wait then.
    ready = {
        name: None if ready_s is None else min(ready_s, first_s)
        for name, (first_s, _, ready_s) in known.items()
    }
    begins = [first_s if ready[name] is None else ready[name] for name, (first_s, _, _) in known.items()]
    zero_s = min((begin for begin in begins if begin is not None), default=0.0)
    return {
        name: Observed(
            first_s - zero_s, last_s - zero_s, None if (at := ready[name]) is None else first_s - at
        )
        for name, (first_s, last_s, _) in known.items()
    }


def _stage_s(plan: RecommendationRecord) -> Mapping[str, Any]:
    return configured(plan).get("stage_s") or {}


def _predicted_s(told: Told) -> float | None:
    """Return what the whole run was to take, what Airflow takes for it included where that was known."""
    found = configured(told.plans[-1])
    predicted_s = found.get("run_s", found.get("makespan_s"))
    return float(predicted_s) if isinstance(predicted_s, int | float) else None


def _measured(workflow: Workflow, outcome: Mapping[str, Any] | None) -> dict[str, StageSpan]:
    """Return the measured stages of an outcome, one after the other: it does not say when they ran."""
    took = {}
    for name, found in ((outcome or {}).get("stages") or {}).items():
        parts = found.get("measured") or {}
        if isinstance(found.get("measured_s"), int | float):
            before_s, after_s = (float(parts.get(part) or 0.0) for part in ("stage_in_s", "stage_out_s"))
            took[name] = StageSeconds(before_s, float(found["measured_s"]), after_s)
    return timeline(workflow, took)


def _planned_tracks(planned: Sequence[Mapping[str, StageSpan]]) -> Iterator[Track]:
    for number, spans in enumerate(planned):
        is_last = number == len(planned) - 1
        bars = {name: _span_bars(span) for name, span in spans.items()}
        yield Track(plan_name(number, len(planned)), "planned" if is_last else "earlier", bars)


def _span_bars(span: StageSpan) -> Any:
    return bars_of(("copy", span.start_s), ("work", span.end_s), ("copy", span.done_s), begin_s=span.ready_s)


def _observed_track(observed: Mapping[str, Observed]) -> Iterator[Track]:
    if observed:
        bars = {
            name: bars_of(
                ("wait", one.start_s), ("work", one.end_s), begin_s=one.start_s - (one.waited_s or 0.0)
            )
            for name, one in observed.items()
        }
        yield Track("observed", "observed", bars)


def _measured_track(measured: Mapping[str, StageSpan]) -> Iterator[Track]:
    if measured:
        yield Track("measured", "observed", {name: _span_bars(span) for name, span in measured.items()})


def _drawn(told: Told, stages: Sequence[str], tracks: Sequence[Track]) -> Markup:
    ends = ", ".join(f"{track.words} until {track.end_s:,.4g} s" for track in tracks)
    described = f"Stages from top to bottom, seconds from left to right: {ends}. The table has the numbers."
    deadline_s = told.plans[-1].request.get("deadline_s")
    return draw_gantt(
        Gantt(
            "Stages over time, predicted and observed" if len(tracks) > 1 else "Stages over time",
            described,
            tuple((name, str(told.tiers.get(name, ""))) for name in stages),
            tuple(tracks),
            float(deadline_s) if isinstance(deadline_s, int | float) else None,
        )
    )


def _legend(tracks: Sequence[Track]) -> Iterator[Legend]:
    for track in tracks:
        kinds = {bar.kind for bars in track.bars.values() for bar in bars}
        yield Legend(f"{track.colour} work", track.words)
        if "copy" in kinds:
            yield Legend(f"{track.colour} copy", f"{track.words}: copies")
        if "wait" in kinds:
            yield Legend(f"{track.colour} wait", f"{track.words}: waiting for Airflow")


def _rows(
    told: Told,
    workflow: Workflow,
    planned: Mapping[str, StageSpan],
    observed: Mapping[str, Observed],
    predicted_s: float | None,
) -> Iterator[tuple[str, ...]]:
    for name in workflow.stage_names:
        plan, seen = planned.get(name), observed.get(name)
        if plan is None and seen is None and name not in told.tiers:
            continue
        work_s = None if plan is None else plan.end_s - plan.start_s
        took_s = None if seen is None else seen.end_s - seen.start_s
        yield (
            name,
            str(told.tiers.get(name, NOTHING)),
            *(seconds(one) for one in ((plan.start_s, work_s, plan.end_s) if plan else (None,) * 3)),
            *(seconds(one) for one in ((seen.start_s, took_s, seen.end_s) if seen else (None,) * 3)),
            seconds(seen.waited_s if seen else None),
            off_by(work_s, took_s),
        )
    measured_s = (told.outcome or {}).get("measured_s")
    last_s = max((one.end_s for one in observed.values()), default=None)
    whole = (seconds(0.0 if predicted_s is not None else None), seconds(predicted_s), seconds(predicted_s))
    yield (
        *("whole run", "", *whole),
        *(seconds(None if last_s is None else 0.0), seconds(measured_s), seconds(last_s)),
        *("", off_by(predicted_s, measured_s)),
    )


def off_by(predicted_s: float | None, took_s: object) -> str:
    """Return by how much something took longer than predicted.

    >>> off_by(2.0, 3.0), off_by(2.0, 1.5), off_by(None, 1.5), off_by(0.0, 1.0)
    ('+50 %', '-25 %', '–', '–')
    """
    if not predicted_s or not isinstance(took_s, int | float):
        return NOTHING
    return f"{100 * (took_s / predicted_s - 1):+.0f} %"


def _words(told: Told, workflow: Workflow, predicted_s: float | None) -> Iterator[str]:
    outcome, plan = told.outcome, told.plans[-1]
    if outcome is not None:
        measured_s = outcome.get("measured_s")
        yield (
            f"The run took {seconds(measured_s)}, predicted were {seconds(predicted_s)} "
            f"({off_by(predicted_s, measured_s)})."
        )
        if outcome.get("run_s") is not None and outcome.get("airflow_s") is not None:
            yield (
                f"It was compared {seconds(outcome['run_s'])} after the Dag run had begun. In "
                f"{seconds(outcome['airflow_s'])} of them no task and no copy was at work: that is Airflow "
                "starting and following tasks."
            )
    elif told.stages:
        count = len(workflow.stage_names)
        yield (
            f"Tasks of {len(told.stages)} of {count} stages have told what they did; the run has not been "
            "compared yet, or could not be."
        )
    elif plan.dag_id is None:
        yield "It was asked for on the command line. No run is known that followed it."
    elif plan.status == "infeasible":
        yield "Nothing was feasible, and no task is known that ran on the nearest configuration."
    else:
        yield "No task has told anything of this run yet. Each tells what it did when it ends."
    for name in workflow.stage_names:
        others = told.stages[name].others if name in told.stages else 0
        if others:
            yield (
                f"{name}: {others} {'try' if others == 1 else 'tries'} failed, came after one that failed, "
                "or had a state set by somebody."
            )


def _notes(told: Told, planned: Mapping[str, StageSpan], is_measured: bool) -> Iterator[str]:
    makespan_s = configured(told.plans[-1]).get("makespan_s")
    if planned and isinstance(makespan_s, int | float):
        drawn_s = end_s(planned)
        if abs(drawn_s - makespan_s) > CLOSE * max(makespan_s, drawn_s):
            yield (
                f"The bars end at {seconds(drawn_s)}, the makespan is {seconds(makespan_s)}: the longest "
                "copy into a stage is drawn after its last input, whichever input it copies."
            )
    if is_measured:
        yield "The outcome says how long stages took, and not when: they are drawn one after the other."
    waits = [one.queue_s for one in told.stages.values() if one.queue_s is not None]
    if waits:
        yield f"No task waited longer than {seconds(max(0.0, *waits))} for Airflow to start it."


def _met(outcome: Mapping[str, Any] | None) -> str:
    met = (outcome or {}).get("met_deadline")
    return "" if met is None else "deadline met" if met else "deadline not met"
