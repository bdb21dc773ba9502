"""The plans of a run: the recommendation that it began with, and those that took its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from qosflow_airflow.core.explain import configuration_in_words
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.web.insights import NOTHING, configured, moment, seconds


class _Plan(Protocol):
    @property
    def recommendation_id(self) -> str: ...

    @property
    def replans(self) -> str | None: ...


Plan = TypeVar("Plan", bound=_Plan)


@dataclass(frozen=True)
class PlanLine:
    """One plan; ``is_shown`` is the one that the page is about."""

    recommendation_id: str
    words: str
    when: str
    status: str
    configuration: str
    makespan: str
    is_shown: bool


@dataclass(frozen=True)
class PlansView:
    """The plans of a run, oldest first; why the one that is shown was made; and each stage's tier by plan."""

    lines: tuple[PlanLine, ...]
    failed: tuple[tuple[str, str], ...]
    begun: str
    stages: tuple[tuple[str, ...], ...]


def plans_of(recommendation_id: str, runs: Sequence[Plan]) -> list[Plan]:
    """Return the plans of the run that a recommendation belongs to, oldest first, itself among them.

    ``runs`` is what is known of a Dag run, newest first; a task that recommended twice began two runs.
    """
    by_id = {run.recommendation_id: run for run in runs}
    root = _root(recommendation_id, by_id)
    return [run for run in reversed(runs) if _root(run.recommendation_id, by_id) == root]


def _root(recommendation_id: str, by_id: Mapping[str, _Plan]) -> str:
    found = recommendation_id
    for _ in by_id:  # no more steps than there are plans, whatever they name
        before = by_id[found].replans if found in by_id else None
        if before is None:
            break
        found = before
    return found


def plan_name(number: int, count: int) -> str:
    """Return how a plan is called among ``count``; the first has number 0.

    >>> plan_name(0, 1), plan_name(0, 2), plan_name(1, 2)
    ('predicted', 'plan 1', 'plan 2')
    """
    return "predicted" if count == 1 else f"plan {number + 1}"


def plans_view(
    shown: RecommendationRecord, plans: Sequence[RecommendationRecord], workflow: Workflow
) -> PlansView | None:
    """Return the plans of a run, oldest first; ``None`` where there is only one and it replaced none."""
    replans: Mapping[str, Any] = shown.answer.get("replans") or {}
    if len(plans) < 2 and not replans:
        return None
    tiers = [(configured(plan).get("configuration") or {}).get("tiers") or {} for plan in plans]
    return PlansView(
        lines=tuple(_line(plan, at, len(plans), shown) for at, plan in enumerate(plans)),
        failed=tuple(sorted((replans.get("failed") or {}).items())),
        begun=", ".join(f"{stage} on {tier}" for stage, tier in sorted((replans.get("begun") or {}).items())),
        stages=tuple(
            (stage, *(str(found.get(stage, NOTHING)) for found in tiers)) for stage in workflow.stage_names
        ),
    )


def _line(plan: RecommendationRecord, at: int, count: int, shown: RecommendationRecord) -> PlanLine:
    found = configured(plan)
    configuration = found.get("configuration")
    return PlanLine(
        plan.recommendation_id,
        plan_name(at, count),
        moment(plan.created_at),
        plan.status,
        configuration_in_words(configuration) if configuration else NOTHING,
        seconds(found.get("makespan_s")),
        plan.recommendation_id == shown.recommendation_id,
    )
