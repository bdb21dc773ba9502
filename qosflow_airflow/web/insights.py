"""What the pages show, computed from stored records; every value is ready to be printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from qosflow_airflow.core.explain import configuration_in_words
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.store.base import ModelVersion, OutcomeRecord, RecommendationRecord

PARTS = ("stage_in_s", "read_s", "compute_s", "write_s", "stage_out_s")
"""The seconds of a stage, in the order in which they are spent."""

NOTHING = "–"
"""Stands where there is no value."""


@dataclass(frozen=True)
class StageLine:
    """One stage of a configuration: tier, seconds per part (:data:`PARTS`), what its choice means."""

    stage: str
    tasks: str
    tier: str
    parts: tuple[str, ...]
    role: str


@dataclass(frozen=True)
class MeasuredLine:
    """One stage, or the whole run: predicted and measured seconds."""

    stage: str
    tier: str
    predicted: str
    measured: str


@dataclass(frozen=True)
class OutcomeView:
    """What a run measured. ``met`` is empty where there was no deadline."""

    when: str
    met: str
    lines: tuple[MeasuredLine, ...]


@dataclass(frozen=True)
class TradeOffLine:
    """A configuration that nothing beats in time, node-hours and cost; ``knee`` is a word for one of them."""

    configuration: str
    makespan: str
    node_hours: str
    cost: str
    knee: str


@dataclass(frozen=True)
class RepairLine:
    """A change that makes the request feasible, and what is recommended then."""

    change: str
    configuration: str
    makespan: str


@dataclass(frozen=True)
class RecommendationView:
    """A recommendation: what was asked, what was answered, what came of it."""

    recommendation_id: str
    workflow: str
    model: str
    model_id: str
    status: str
    when: str
    task: str
    explanation: str
    nodes: str
    request: tuple[tuple[str, str], ...]
    stages: tuple[StageLine, ...]
    alternatives: tuple[tuple[str, str], ...]
    trade_offs: tuple[TradeOffLine, ...]
    depends_on: tuple[str, ...]
    repairs: tuple[RepairLine, ...]
    outcomes: tuple[OutcomeView, ...]


@dataclass(frozen=True)
class RecommendationLine:
    """A recommendation in a list."""

    recommendation_id: str
    workflow: str
    status: str
    makespan: str
    task: str
    when: str


def recommendation_view(
    record: RecommendationRecord,
    model: ModelVersion,
    workflow: Workflow,
    outcomes: Sequence[OutcomeRecord],
) -> RecommendationView:
    """Return what the page of a recommendation shows, stages in the order of ``workflow``."""
    found = configured(record)
    configuration = found.get("configuration") or {}
    return RecommendationView(
        recommendation_id=record.recommendation_id,
        workflow=record.workflow,
        model=f"version {model.version} of {moment(model.created_at)}",
        model_id=model.model_id,
        status=record.status,
        when=moment(record.created_at),
        task=_task(record),
        explanation=str(record.answer.get("explanation", "")),
        nodes=_text(configuration.get("nodes")),
        request=tuple(_asked(record.request)),
        stages=tuple(stage_lines(found, workflow)),
        alternatives=tuple(alternatives(record.answer)),
        trade_offs=tuple(trade_offs(record.answer)),
        depends_on=tuple((record.answer.get("sensitivity") or {}).get("words", ())),
        repairs=tuple(_repairs(record.answer)),
        outcomes=tuple(_outcome_view(outcome, workflow) for outcome in outcomes),
    )


def seconds(value: object) -> str:
    """Return seconds as they are shown.

    >>> seconds(12.345), seconds(None)
    ('12.35 s', '–')
    """
    return f"{value:,.2f} s" if isinstance(value, int | float) else NOTHING


def configured(record: RecommendationRecord) -> Mapping[str, Any]:
    """Return what the answer says of its configuration: the best, or the nearest where none is feasible."""
    if record.status == "feasible":
        return record.answer
    return record.answer.get("nearest") or {}


def stage_lines(found: Mapping[str, Any], workflow: Workflow) -> list[StageLine]:
    """Return the stages of a configuration that is described, in the order of ``workflow``."""
    tiers = (found.get("configuration") or {}).get("tiers") or {}
    times = found.get("stage_s") or {}
    roles = {
        **dict.fromkeys(found.get("flexible_stages", ()), "flexible"),
        **dict.fromkeys(found.get("critical_stages", ()), "critical"),
    }
    return [
        StageLine(
            stage.name,
            str(stage.tasks),
            _text(tiers[stage.name]),
            tuple(seconds(times.get(stage.name, {}).get(part)) for part in PARTS),
            roles.get(stage.name, ""),
        )
        for stage in workflow.stages
        if stage.name in tiers
    ]


def alternatives(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the configurations that are nearly as good, with their makespans."""
    return [
        (configuration_in_words(found["configuration"]), seconds(found.get("makespan_s")))
        for found in answer.get("alternatives", ())
    ]


def trade_offs(answer: Mapping[str, Any]) -> list[TradeOffLine]:
    """Return the points of the front; none where there is only one, and in answers of older versions."""
    points = (answer.get("pareto") or {}).get("points", ())
    if len(points) < 2:
        return []
    return [
        TradeOffLine(
            configuration_in_words(point["configuration"]),
            seconds(point["makespan_s"]),
            _text(point["node_hours"]),
            _text(point["cost"]),
            "knee" if point["knee"] else "",
        )
        for point in points
    ]


def _repairs(answer: Mapping[str, Any]) -> list[RepairLine]:
    return [
        RepairLine(
            found["words"], configuration_in_words(found["configuration"]), seconds(found["makespan_s"])
        )
        for found in answer.get("repairs", ())
    ]


def _asked(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in request.items() if value not in (None, [], {}, "")]


def _outcome_view(record: OutcomeRecord, workflow: Workflow) -> OutcomeView:
    outcome = record.outcome
    stages = outcome.get("stages") or {}
    lines = [_measured_line(name, stages[name]) for name in workflow.stage_names if name in stages]
    met = outcome.get("met_deadline")
    return OutcomeView(
        when=moment(record.created_at),
        met="" if met is None else "deadline met" if met else "deadline not met",
        lines=(*lines, _measured_line("whole run", outcome)),
    )


def _measured_line(name: str, found: Mapping[str, Any]) -> MeasuredLine:
    predicted, measured = seconds(found.get("predicted_s")), seconds(found.get("measured_s"))
    return MeasuredLine(name, str(found.get("tier", "")), predicted, measured)


def recommendation_line(record: RecommendationRecord) -> RecommendationLine:
    """Return a recommendation as a list shows it."""
    return RecommendationLine(
        record.recommendation_id,
        record.workflow,
        record.status,
        seconds(configured(record).get("makespan_s")),
        _task(record),
        moment(record.created_at),
    )


def age(passed: timedelta) -> str:
    """Return how long ago something was, roughly.

    >>> age(timedelta(seconds=30)), age(timedelta(hours=1)), age(timedelta(days=3, hours=5))
    ('just now', '1 hour ago', '3 days ago')
    """
    for unit, length_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(passed.total_seconds() // length_s)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def _task(record: RecommendationRecord) -> str:
    """Return who asked: a task of a Dag run, or the command line."""
    if record.dag_id is None:
        return "command line"
    return " / ".join(part for part in (record.dag_id, record.run_id, record.task_id) if part)


def moment(at: datetime) -> str:
    """Return a date and a time as they are shown."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _text(value: object) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(found)}" for key, found in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
