"""The recommendations of a Dag, or of one run of it, in a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from qosflow_airflow.core.explain import configuration_in_words
from qosflow_airflow.store.finished_runs import RunRecord
from qosflow_airflow.web.insights import NOTHING, moment, seconds
from qosflow_airflow.web.what_happened import off_by

LISTED = 200
"""So many of the newest recommendations of a Dag are listed."""


@dataclass(frozen=True)
class RunLine:
    """A recommendation and what came of it. ``run_query`` leads to its run; ``met`` is a class and words."""

    recommendation_id: str
    when: str
    run_id: str
    run_query: str
    workflow: str
    status: str
    configuration: str
    predicted: str
    measured: str
    off_by: str
    met: tuple[str, str]
    note: str


@dataclass(frozen=True)
class RunsView:
    """Recommendations, newest first, and how many runs met and missed their deadline."""

    lines: tuple[RunLine, ...]
    words: str


def run_lines(runs: Sequence[RunRecord]) -> RunsView:
    """Return what is shown of runs, newest first."""
    met = [(run.outcome or {}).get("met_deadline") for run in runs]
    counts = (("met", met.count(True)), ("missed", met.count(False)))
    told = ", ".join(f"{count} {words}" for words, count in counts)
    words = f"Deadlines: {told}, {met.count(None)} not known or without one."
    return RunsView(tuple(map(_line, runs)), words)


def _line(run: RunRecord) -> RunLine:
    outcome = run.outcome or {}
    measured_s = outcome.get("measured_s")
    predicted_s = outcome.get("predicted_s", run.predicted_s)
    return RunLine(
        recommendation_id=run.recommendation_id,
        when=moment(run.created_at),
        run_id=run.run_id or NOTHING,
        run_query=urlencode({"dag_id": run.dag_id or "", "run_id": run.run_id or ""}),
        workflow=run.workflow,
        status=run.status,
        configuration=configuration_in_words(run.configuration) if run.configuration else NOTHING,
        predicted=seconds(predicted_s),
        measured=seconds(measured_s),
        off_by=off_by(predicted_s, measured_s),
        met=_met(outcome.get("met_deadline"), run.is_told),
        note="" if run.replans is None else "planned again",
    )


def _met(met: bool | None, is_told: bool) -> tuple[str, str]:
    if met is None:
        return "", "" if is_told else "nothing known yet"
    return ("feasible", "met") if met else ("infeasible", "missed")
