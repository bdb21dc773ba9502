"""What finished runs teach about a model, and recommendations that heed it.

:mod:`~qosflow_airflow.learn.teaching` says how runs teach it. The model itself stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

from qosflow_airflow.core.explain import explain
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.search import ConfidentSearch, search_of
from qosflow_airflow.learn.calibration import Calibration
from qosflow_airflow.learn.drift import Drift, DriftState
from qosflow_airflow.learn.run_errors import RunErrors

SAID = 0.05
"""Corrections of less than this are not worth a word."""
MAX_SAID = 3


class Lesson(NamedTuple):
    """What runs teach.

    ``left_out`` maps runs that do not teach, or not all they could, to the reason. ``cause`` is what a drift
    may come from, empty where nothing tells. ``errors`` is how far whole runs were off.
    """

    calibration: Calibration = Calibration()
    overhead_s: float = 0.0
    drift: Drift = Drift(DriftState.UNKNOWN)
    left_out: Mapping[str, str] = {}
    cause: str = ""
    errors: RunErrors = RunErrors()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Return the lesson that an answer was made with; one of nothing where it was made without."""
        return cls.from_json(answer["calibration"]) if "calibration" in answer else cls()

    @property
    def added_log_sd(self) -> float:
        """By how much the spread of stage times grows because the model no longer holds."""
        return abs(self.drift.shift) if self.drift.state == DriftState.STALE else 0.0

    def applied(self, model: Model) -> Model:
        """Return the model with its stage times corrected; the same one where nothing is to be."""
        if not self.calibration.corrections and not self.added_log_sd:
            return model
        added = dict.fromkeys(("read", "compute", "write"), self.added_log_sd)
        scales = []
        for scale in model.scales:
            times = self.calibration.applied(scale.times)
            if self.added_log_sd:
                times = times.with_spread(dict.fromkeys(times.stages, added))
            scales.append(replace(scale, times=times))
        return replace(model, scales=tuple(scales))

    def search(
        self,
        model: Model,
        change: Callable[[Model], Model] | None = None,
        untried: Collection[str] = (),
    ) -> ConfidentSearch:
        """Return the search of the model with all of this heeded, worth keeping for several requests.

        ``change`` is what else changes the corrected model, ``untried`` the stages that never ran as they
        will.
        """
        # A model that no longer holds is less sure than its runs were on the whole.
        may_narrow = self.drift.state != DriftState.STALE
        found = {nodes: self.errors.spread(nodes, may_narrow, untried) for nodes in model.nodes}
        spreads = {nodes: spread for nodes, spread in found.items() if spread is not None}
        taught = self.applied(model)
        return search_of(taught if change is None else change(taught), spreads)

    @property
    def words(self) -> list[str]:
        """Say what is different because of it, a sentence each; nothing where no run has taught."""
        said = []
        if self.calibration.runs:
            said.append(_corrections_in_words(self.calibration))
        if self.overhead_s:
            said.append(
                f"On top come {self.overhead_s:.1f} s in which Airflow starts and follows tasks, as in these "
                "runs."
            )
        if self.drift.state in (DriftState.WATCH, DriftState.STALE):
            stale = self.drift.state == DriftState.STALE
            holds = "The model no longer holds" if stale else "The model may no longer hold"
            cure = "; intervals are wider until it is built again" if stale else ""
            cause = f"; {self.cause}" if self.cause else ""
            said.append(f"{holds}: {self.drift.words}{cause}{cure}.")
        if self.left_out:
            run, reason = min(self.left_out.items())  # databases keep no order of keys
            more = len(self.left_out) - 1
            others = f", and so for {more} more" if more else ""
            said.append(f"Not all runs teach: {run} ({reason}){others}.")
        return said

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            **self.calibration.to_json(),
            "overhead_s": self.overhead_s,
            "drift": {
                "state": str(self.drift.state),
                "shift": self.drift.shift,
                "since": self.drift.since,
                "words": self.drift.words,
                "cause": self.cause,
            },
            "left_out": dict(self.left_out),
            "errors": self.errors.to_json(),
            "words": self.words,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a lesson from what :meth:`to_json` returned."""
        drift = value["drift"]
        return cls(
            Calibration.from_json(value),
            value["overhead_s"],
            Drift(DriftState(drift["state"]), drift["shift"], drift["since"]),
            dict(value["left_out"]),
            drift.get("cause", ""),
            RunErrors.from_json(value["errors"]) if "errors" in value else RunErrors(),
        )


def recommend_with(
    model: Model,
    request: QoSRequest,
    lesson: Lesson,
    change: Callable[[Model], Model] | None = None,
    untried: Collection[str] = (),
) -> Recommendation | Infeasible:
    """Return the optimum of a request once what runs teach is heeded; the answer holds it as ``calibration``.

    ``change`` and ``untried`` are those of :meth:`Lesson.search`. Errors are those of
    :func:`~qosflow_airflow.core.recommend.recommend`.
    """
    search = lesson.search(model, change, untried)
    found = recommend(search.model, request, search, overhead_s=lesson.overhead_s)
    answer = {**found.answer, "calibration": lesson.to_json()}
    answer["explanation"] = explain(answer)
    return found._replace(answer=answer)


def _corrections_in_words(calibration: Calibration) -> str:
    runs = f"{calibration.runs} run{'' if calibration.runs == 1 else 's'}"
    tried = [(key, found) for key, found in calibration.corrections.items() if found.runs]
    tried.sort(key=lambda item: -abs(math.log(item[1].factor)))
    worth = [(key, found) for key, found in tried if abs(found.factor - 1) >= SAID]
    if not worth:
        return f"{runs} took what was estimated, within {SAID:.0%} a stage."
    said = [
        f"{stage} on {tier} takes {found.factor:.2g} times its estimate"
        for (stage, tier), found in worth[:MAX_SAID]
    ]
    more = len(worth) - MAX_SAID
    return f"Corrected by {runs}: {', '.join(said)}{f', and {more} more' if more > 0 else ''}."
