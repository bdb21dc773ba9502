"""Finished runs and stages as cases, and the ones most like a run to come.

The search is exact: the distance to every case is computed. Features are standardised over the base, and the
distance is the weighted root mean square of their differences, so that it is in standard deviations per
feature. Where a run's time goes and where it ran say more of how far an estimate is off than its shape and
size do, and weigh four times as much; another platform counts as :data:`PLATFORM_DIFFERENCE`.

A feature that the question does not know is left out of the comparison, and that is said. One that only a
case lacks counts as the difference to be expected from a case drawn at random: a case of which less is known
is further away, and never nearer. Similarity is ``exp(-distance)``: 1 for the same, 0.37 at one standard
deviation per feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.learn.calibration import OUTLIER_FACTOR
from qosflow_airflow.learn.case_features import FEATURES, run_features, stage_features
from qosflow_airflow.learn.modelled_run import ModelledRun

MIN_KNOWN = 0.5
"""A case of whose features a smaller share is known is like anything."""
PLATFORM_DIFFERENCE = 8.0
"""As many squared standard deviations lie between two platforms."""
_LIGHT = frozenset(
    {
        "ln_stages",
        "depth",
        "ln_width",
        "position",
        "ln_tasks",
        "fan_in",
        "ln_read_bytes",
        "ln_written_bytes",
        "ln_predicted_s",
    }
)
WEIGHTS = np.array([0.25 if name in _LIGHT else 1.0 for name in FEATURES])
"""What a squared difference counts, by feature."""


@frozen
class CaseSettings:
    """How many cases are asked at most, and how similar they must be (0 to 1)."""

    neighbours: int = 10
    min_similarity: float = 0.3

    def __post_init__(self) -> None:
        if self.neighbours < 1 or not 0 <= self.min_similarity <= 1:
            raise MeasurementError(
                f"{self.neighbours} neighbours of similarity {self.min_similarity}",
                cure="Ask for at least one neighbour, and a similarity from 0 to 1.",
            )


@frozen
class Case:
    """A finished run, or one stage of it, as its features; ``stage`` is ``None`` for the whole run.

    ``predicted_s`` is the I/O model's estimate, before any correction, ``observed_s`` what it took.
    """

    run: str
    workflow: str
    platform: str
    stage: str | None
    nodes: int
    tiers: tuple[str, ...]
    features: tuple[float, ...]
    predicted_s: float
    observed_s: float

    @property
    def log_ratio(self) -> float:
        """Return ``ln(observed / predicted)``, NaN where one of them is no time."""
        both = (self.predicted_s, self.observed_s)
        if not all(math.isfinite(seconds) and seconds > 0 for seconds in both):
            return math.nan
        return math.log(self.observed_s / self.predicted_s)

    @property
    def flaw(self) -> str | None:
        """Why it teaches nothing, ``None`` where it does."""
        if math.isnan(self.log_ratio):
            return "has no time, or no prediction"
        if abs(self.log_ratio) > math.log(OUTLIER_FACTOR):
            return f"is off by more than {OUTLIER_FACTOR:.0f} times"
        if len(self.features) != len(FEATURES) or any(map(math.isinf, self.features)):
            return "has other features"
        if sum(map(math.isnan, self.features)) > (1 - MIN_KNOWN) * len(FEATURES):
            return "lacks most features"
        return None

    @property
    def words(self) -> str:
        """Say it in a few words."""
        what = self.workflow if self.stage is None else f"{self.workflow}'s {self.stage}"
        where = " and ".join(sorted(set(self.tiers)))
        at = f"{self.nodes} node{'' if self.nodes == 1 else 's'}"
        return f"{what} on {at} and {where}: {self.observed_s:.3g} s, {self.predicted_s:.3g} s predicted"


def run_case(run: ModelledRun) -> Case:
    """Return a whole run as a case."""
    return Case(
        run.run,
        run.workflow,
        run.platform,
        None,
        run.makespans.times.nodes,
        tuple(run.makespans.catalog.names[tier] for tier in run.layout),
        tuple(run_features(run).tolist()),
        run.predicted_s,
        run.observed_s,
    )


def stage_cases(run: ModelledRun) -> list[Case]:
    """Return the stages of a run that were timed as cases."""
    rows = stage_features(run).tolist()
    names, tiers = run.makespans.workflow.stage_names, run.makespans.catalog.names
    return [
        Case(
            run.run,
            run.workflow,
            run.platform,
            stage,
            run.makespans.times.nodes,
            (tiers[run.layout[s]],),
            tuple(rows[s]),
            float(run.predicted_stage_s[s]),
            run.stage_s[stage],
        )
        for s, stage in enumerate(names)
        if stage in run.stage_s
    ]


class Neighbour(NamedTuple):
    """A case, and how similar it is: 0 to 1."""

    case: Case
    similarity: float


class Neighbourhood(NamedTuple):
    """The cases found, the most similar first, and the features that were not compared."""

    found: tuple[Neighbour, ...]
    not_compared: tuple[str, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return what an answer cites."""
        return [
            {
                "run": case.run,
                "workflow": case.workflow,
                "platform": case.platform,
                "stage": case.stage,
                "nodes": case.nodes,
                "tiers": list(case.tiers),
                "predicted_s": case.predicted_s,
                "observed_s": case.observed_s,
                "similarity": similarity,
            }
            for case, similarity in self.found
        ]


class CaseBase:
    """Cases to look into; those that teach nothing are left out, ``rejected`` says why by run."""

    def __init__(self, cases: Iterable[Case], settings: CaseSettings | None = None) -> None:
        self.settings = settings or CaseSettings()
        kept: list[Case] = []
        rejected: dict[str, str] = {}
        for case in cases:
            if case.flaw is None:
                kept.append(case)
            else:
                rejected[case.run] = case.flaw
        self.cases: Sequence[Case] = tuple(kept)
        self.rejected: Mapping[str, str] = rejected

    def __len__(self) -> int:
        return len(self.cases)

    def nearest(
        self,
        features: Sequence[float] | FloatArray,
        platform: str | None = None,
        *,
        without_workflow: str | None = None,
    ) -> Neighbourhood:
        """Return the cases most similar to ``features`` (in the order of ``FEATURES``) on ``platform``.

        Those of ``without_workflow`` do not count. Among equally similar ones the newest, which stand last
        in the base, come first.
        """
        asked = np.asarray(features, dtype=np.float64)
        compared = np.isfinite(asked) & self._somewhere
        not_compared = tuple(name for name, on in zip(FEATURES, compared, strict=True) if not on)
        not_compared += ("platform",) if platform is None else ()
        allowed = self._allowed(without_workflow)
        if not compared.any() or not len(allowed):
            return Neighbourhood((), not_compared)
        distance = self._distances(asked, platform, compared)[allowed]
        count = min(self.settings.neighbours, len(allowed))
        furthest = np.partition(distance, count - 1)[count - 1]
        near = np.flatnonzero(distance <= furthest)
        near = near[np.lexsort((-near, distance[near]))][:count]
        similar = np.exp(-distance[near])
        found = tuple(
            Neighbour(self.cases[allowed[at]], float(similarity))
            for at, similarity in zip(near, similar, strict=True)
            if similarity >= self.settings.min_similarity
        )
        return Neighbourhood(found, not_compared)

    def _distances(self, asked: FloatArray, platform: str | None, compared: NDArray[np.bool_]) -> FloatArray:
        centre, scale = self._scaling
        question = np.where(compared, (np.nan_to_num(asked) - centre) / scale, 0.0)
        weights = np.where(compared, WEIGHTS, 0.0)
        # A missing value stands at the mean (0), which gives q^2; a case at random would be at q^2 + 1.
        squares = self._missing @ weights
        if platform is not None:
            squares += PLATFORM_DIFFERENCE * (self._platforms != platform)
        # A column at a time: one pass over memory each, and no array of all differences.
        for f in np.flatnonzero(compared).tolist():
            difference = self._standardised[f] - question[f]
            difference *= difference
            squares += weights[f] * difference
        return np.asarray(np.sqrt(squares / weights.sum()))

    def _allowed(self, without_workflow: str | None) -> NDArray[np.intp]:
        if without_workflow is None:
            return np.arange(len(self.cases))
        return np.flatnonzero(self._workflows != without_workflow)

    @cached_property
    def log_ratios(self) -> FloatArray:
        """``ln(observed / predicted)`` of every case."""
        return np.array([case.log_ratio for case in self.cases])

    @cached_property
    def features(self) -> FloatArray:
        """All vectors, cases x features, NaN where not known."""
        return np.array([case.features for case in self.cases]).reshape(-1, len(FEATURES))

    @cached_property
    def _workflows(self) -> NDArray[np.object_]:
        return np.array([case.workflow for case in self.cases], dtype=object)

    @cached_property
    def _platforms(self) -> NDArray[np.object_]:
        return np.array([case.platform for case in self.cases], dtype=object)

    @cached_property
    def _somewhere(self) -> NDArray[np.bool_]:
        """Which features any case knows."""
        return np.asarray(~np.isnan(self.features).all(axis=0))

    @cached_property
    def _scaling(self) -> tuple[FloatArray, FloatArray]:
        known = ~np.isnan(self.features)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.nan_to_num(self.features).sum(axis=0) / count
        spread = np.sqrt(np.where(known, (self.features - centre) ** 2, 0.0).sum(axis=0) / count)
        # What does not vary has no scale of its own: a difference of 1 counts as one.
        return centre, np.where(spread > 1e-9, spread, 1.0)

    @cached_property
    def _standardised(self) -> FloatArray:
        """Features x cases, 0 where not known."""
        centre, scale = self._scaling
        return np.ascontiguousarray(np.nan_to_num((self.features - centre) / scale).T)

    @cached_property
    def _missing(self) -> FloatArray:
        return np.isnan(self.features).astype(np.float64)
