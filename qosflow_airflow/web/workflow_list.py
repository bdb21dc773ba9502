"""What the first page shows: workflows with their newest models and runs, and the newest recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from markupsafe import Markup

from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.web.api_types import RunOut, WorkflowOut
from qosflow_airflow.web.charts import draw_sparkline
from qosflow_airflow.web.insights import NOTHING, RecommendationLine, age, moment, recommendation_line


@dataclass(frozen=True)
class ModelLine:
    """The newest model of a workflow."""

    model_id: str
    version: str
    age: str
    when: str
    rules: str
    scales: str
    configurations: str


@dataclass(frozen=True)
class WorkflowLine:
    """A workflow in a list; ``model`` is ``None`` before there is one, ``spark`` where no run is compared."""

    workflow: str
    model: ModelLine | None
    drift: str
    drift_words: str
    corrected_by: str
    met: str
    missed: str
    spark: Markup | None
    ratio: str


@dataclass(frozen=True)
class Overview:
    """Workflows by name, and the newest recommendations."""

    workflows: tuple[WorkflowLine, ...]
    recommendations: tuple[RecommendationLine, ...]


def overview(
    workflows: Sequence[WorkflowOut], records: Sequence[RecommendationRecord], now: datetime
) -> Overview:
    """Return what the first page shows."""
    lines = tuple(_line(one, now) for one in workflows)
    return Overview(lines, tuple(map(recommendation_line, records)))


def run_ratios(runs: Sequence[RunOut], workflow: str) -> dict[str, Any] | None:
    """Return what runs took, measured over predicted, oldest first; ``None`` where none was compared.

    ``met`` says of each whether its deadline was met, ``None`` where it had none. The description says all
    of it in words, for those who do not see the drawing.
    """
    compared = [
        (run.measured_s / run.predicted_s, run.met_deadline)
        for run in reversed(runs)
        if run.predicted_s and run.measured_s and run.measured_s / run.predicted_s > 0
    ]
    if not compared:
        return None
    ratios, met = [ratio for ratio, _ in compared], [one for _, one in compared]
    said = ", ".join(f"{ratio:.2f}{_MET[one]}" for ratio, one in zip(ratios, met, strict=True))
    plural = "" if len(compared) == 1 else "s"
    return {
        "figure": "spark",
        "title": f"{workflow}: measured over predicted of {len(compared)} run{plural}, the newest last",
        "description": f"{said}.",
        "ratio": ratios,
        "met": met,
        "median": median(ratios),
    }


_MET = {True: " (deadline met)", False: " (deadline missed)", None: ""}


def _line(found: WorkflowOut, now: datetime) -> WorkflowLine:
    ratios, runs = run_ratios(found.recent, found.name), found.runs
    count = found.corrected_by
    return WorkflowLine(
        workflow=found.name,
        model=_model_line(found, now),
        drift=found.drift.state,
        drift_words=found.drift.words,
        corrected_by=f"{count} run{'' if count == 1 else 's'}" if count else NOTHING,
        met=str(runs.met) if runs.met or runs.missed else NOTHING,
        missed=str(runs.missed) if runs.met or runs.missed else NOTHING,
        spark=None if ratios is None else draw_sparkline(ratios),
        ratio=NOTHING if ratios is None else f"{ratios['median']:.2f}",
    )


def _model_line(found: WorkflowOut, now: datetime) -> ModelLine | None:
    model = found.newest_model
    if model is None:
        return None
    configurations: Mapping[str, int] = model.summary.get("configurations") or {}
    scales = model.summary.get("scales")
    return ModelLine(
        model.model_id,
        str(model.version),
        age(now - model.created_at),
        moment(model.created_at),
        str(model.summary.get("rules") or NOTHING),
        ", ".join(map(str, scales)) if scales else NOTHING,
        f"{sum(configurations.values()):,}" if configurations else NOTHING,
    )
