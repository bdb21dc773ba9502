"""What the page of a model shows of its report card: how its predictions held in runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from qosflow_airflow.core.validation import GOAL_CONCORDANCE, GOAL_COVERAGE_90, GOAL_MEDIAN_ERROR
from qosflow_airflow.store.base import ReportCard
from qosflow_airflow.web.insights import NOTHING, moment, seconds


class Figure(NamedTuple):
    """A figure of a report card: its name, its value, and the goal, empty where there is none."""

    name: str
    value: str
    goal: str = ""


def report_view(card: ReportCard | None) -> tuple[Figure, ...]:
    """Return the figures of a report card; what it does not say is a dash, and without one there are none."""
    return () if card is None else (*_figures(card.report), Figure("Tried", moment(card.created_at)))


def _figures(report: Mapping[str, Any]) -> Iterator[Figure]:
    low, high = GOAL_COVERAGE_90
    yield Figure(
        "Pairs put in the right order", _share(report, "concordance"), f"at least {GOAL_CONCORDANCE:.0%}"
    )
    yield Figure("Median error", _share(report, "median_error"), f"at most {GOAL_MEDIAN_ERROR:.0%}")
    yield Figure("Error that 9 of 10 stay below", _share(report, "p90_error"))
    yield Figure("Runs within their 90% interval", _share(report, "coverage_90"), f"{low:.0%} to {high:.0%}")
    yield Figure("Runs", _count(report, "runs"))
    yield Figure("Configurations that were run", _count(report, "configurations"))
    took = report.get("makespan_s")
    words = f"{seconds(took.get('least'))} to {seconds(took.get('most'))}" if took else NOTHING
    yield Figure("Measured makespans", words)


def _share(report: Mapping[str, Any], name: str) -> str:
    value = report.get(name)
    return f"{value:.0%}" if isinstance(value, int | float) else NOTHING


def _count(report: Mapping[str, Any], name: str) -> str:
    value = report.get(name)
    return f"{value:,}" if isinstance(value, int) else NOTHING
