"""What an answer cites of other runs: only what whoever reads it may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qosflow_airflow.store.base import RecommendationRecord, Store
from qosflow_airflow.web.access import DagReader
from qosflow_airflow.web.insights import NOTHING, seconds


@dataclass(frozen=True)
class SimilarLine:
    """A finished run that was like the one to come."""

    recommendation_id: str
    workflow: str
    configuration: str
    predicted: str
    observed: str
    ratio: str
    similarity: str


@dataclass(frozen=True)
class SimilarView:
    """Similar runs, and what they said; ``hidden`` are of Dags that may not be read."""

    lines: tuple[SimilarLine, ...]
    hidden: int
    words: str


@dataclass(frozen=True)
class CorrectionLine:
    """By how much a stage takes longer on a tier than estimated, and how many of its runs tell."""

    stage: str
    tier: str
    factor: str
    runs: str


@dataclass(frozen=True)
class LearnedView:
    """What finished runs had taught when it was answered; ``left_out`` are runs that did not teach, and why.

    A run that may not be read has no identifier here.
    """

    words: tuple[str, ...]
    corrections: tuple[CorrectionLine, ...]
    overhead: str
    drift: str
    left_out: tuple[tuple[str, str], ...]


def readable_runs(store: Store, reader: DagReader, answer: Mapping[str, Any]) -> frozenset[str]:
    """Return those of the runs that an answer names that the user may read, looked up all at once."""
    named = {one["run"] for one in (answer.get("cases") or {}).get("similar", ())}
    named |= set((answer.get("calibration") or {}).get("left_out", {}))
    dags = store.dags_of(named) if named else {}
    allowed = {dag: dag is None or reader.may_read(dag) for dag in set(dags.values())}
    return frozenset(run for run, dag in dags.items() if allowed[dag])


def readable_record(record: RecommendationRecord, readable: frozenset[str]) -> RecommendationRecord:
    """Return a recommendation without the similar runs that may not be read, and without their words."""
    cases = record.answer.get("cases")
    if not cases or all(one["run"] in readable for one in cases["similar"]):
        return record
    similar = [one for one in cases["similar"] if one["run"] in readable]
    hidden = len(cases["similar"]) - len(similar)
    said = f"{hidden} similar run{' is' if hidden == 1 else 's are'} of Dags that you may not read."
    explanation = str(record.answer.get("explanation", "")).replace(cases["words"], said)
    cited = {**cases, "similar": similar, "hidden": hidden, "words": said}
    return replace(record, answer={**record.answer, "explanation": explanation, "cases": cited})


def similar_view(answer: Mapping[str, Any]) -> SimilarView | None:
    """Return the similar runs that an answer holds, ``None`` where it holds none."""
    cases = answer.get("cases")
    if not cases:
        return None
    return SimilarView(tuple(map(_similar_line, cases["similar"])), cases.get("hidden", 0), cases["words"])


def _similar_line(one: Mapping[str, Any]) -> SimilarLine:
    places = " and ".join(sorted(set(one["tiers"])))
    predicted_s, observed_s = one["predicted_s"], one["observed_s"]
    return SimilarLine(
        recommendation_id=one["run"],
        workflow=one["workflow"],
        configuration=f"{one['nodes']} node{'' if one['nodes'] == 1 else 's'}, on {places}",
        predicted=seconds(predicted_s),
        observed=seconds(observed_s),
        ratio=f"{observed_s / predicted_s:.2f}" if predicted_s else NOTHING,
        similarity=f"{one['similarity']:.2f}",
    )


def learned_view(answer: Mapping[str, Any], readable: frozenset[str]) -> LearnedView | None:
    """Return what an answer was taught, ``None`` where it was made without."""
    taught = answer.get("calibration")
    if not taught:
        return None
    drift = taught.get("drift") or {}
    corrections = sorted(
        (one for one in taught.get("corrections", ()) if one["runs"]),
        key=lambda one: (one["stage"], one["tier"]),
    )
    cause = f"; {drift['cause']}" if drift.get("cause") else ""
    left_out = taught.get("left_out", {}).items()
    return LearnedView(
        words=tuple(taught.get("words", ())) or ("No run had taught yet.",),
        corrections=tuple(
            CorrectionLine(one["stage"], one["tier"], f"{one['factor']:.2f}", str(one["runs"]))
            for one in corrections
        ),
        overhead=seconds(taught.get("overhead_s") or None),
        drift=f"{drift['state']}: {drift.get('words', NOTHING)}{cause}" if drift else NOTHING,
        left_out=tuple((run if run in readable else "", reason) for run, reason in sorted(left_out)),
    )
