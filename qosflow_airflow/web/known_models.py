"""Models as the pages ask for them: loaded once a process, with what was computed of them.

A model version never changes, so that what is computed of one is kept as long as it is. What finished runs
teach does change: it is looked up again after a while.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from time import monotonic
from typing import Any

import numpy as np

from qosflow_airflow.answers import load_model_version
from qosflow_airflow.core.describe import state_of
from qosflow_airflow.core.evaluation import evaluate_scale
from qosflow_airflow.core.explain import explain
from qosflow_airflow.core.figure_data import cost_shift, region_costs, regions_scatter, totals
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.search import ConfidentSearch
from qosflow_airflow.core.space_costs import SpaceCosts, scales_of
from qosflow_airflow.learn.layers import Layers
from qosflow_airflow.learn.lessons import Lesson
from qosflow_airflow.learned import lesson_for
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.store.base import ModelVersion, Store

MAX_MODELS = 3
"""Models kept by a process; each holds its times and makespans, up to some 100 MiB."""
LESSON_S = 15.0
"""For so long, what finished runs teach is not looked up again, seconds."""
MAX_POINTS = 1500
"""Points of a scatter on a page: each is an element of it."""


@dataclass
class _Taught:
    """What runs taught about a model, and the search of the model once that is heeded."""

    lesson: Lesson
    search: ConfidentSearch
    at_s: float


@dataclass
class KnownModel:
    """A model version, its figures, and answers to what is asked of it."""

    version: ModelVersion
    model: Model
    clock: Callable[[], float] = monotonic
    layers: Layers = field(default_factory=Layers)
    _lock: RLock = field(default_factory=RLock)
    _taught: _Taught | None = None

    def answer(self, store: Store, request: QoSRequest) -> dict[str, Any]:
        """Return the answer that ``qosflow recommend`` gives by this model; nothing is kept.

        Similar runs are not cited: they may be of Dags that whoever asks may not read.

        Raises
        ------
        RequestError, TierError, WorkflowError
            As :func:`~qosflow_airflow.core.recommend.recommend`.
        """
        with self._lock:  # one search at a time: its tables are made by the first, and read by the next
            taught = self._learn(store)
            found = recommend(
                taught.search.model, request, taught.search, overhead_s=taught.lesson.overhead_s
            )
        answer = {**found.answer, "calibration": taught.lesson.to_json()}
        return {**answer, "explanation": explain(answer)}

    def figures(self) -> dict[str, Any]:
        """Return figures per node count (``scales``), and those over all of them: ``totals`` and ``shift``.

        ``totals`` is ``None`` where nothing is measured, ``shift`` where fewer than two scales have regions.

        Of each scale: ``evaluation``, ``states`` (configurations by state), and ``regions`` and ``costs``,
        figures that are ``None`` where the scale has no regions.
        """
        with self._lock:
            return self._figures

    def _learn(self, store: Store) -> _Taught:
        now = self.clock()
        if self._taught is None or now - self._taught.at_s > LESSON_S:
            lesson = lesson_for(PastRuns(store), self.version, self.model, self.layers)
            if self._taught is None or self._taught.lesson.to_json() != lesson.to_json():
                self._taught = _Taught(lesson, lesson.search(self.model), now)
            self._taught.at_s = now
        return self._taught

    @cached_property
    def _figures(self) -> dict[str, Any]:
        scales = {costs.nodes: self._of_scale(costs) for costs in scales_of(self.model)}
        evaluations = {str(nodes): found["evaluation"] for nodes, found in scales.items()}
        is_measured = any(found["makespan_s"] for found in evaluations.values())
        evaluation = {"workflow": self.model.workflow.name, "scales": evaluations}
        costs = [found["costs"] for found in scales.values() if found["costs"] is not None]
        return {
            "scales": scales,
            "totals": totals(evaluation) if is_measured else None,
            "shift": cost_shift(self.model.workflow.name, costs) if len(costs) > 1 else None,
        }

    def _of_scale(self, costs: SpaceCosts) -> dict[str, Any]:
        has_regions = self.model.scale(costs.nodes).regions is not None and bool(costs.measured.any())
        return {
            "evaluation": evaluate_scale(self.model, costs),
            "states": _states(costs),
            "regions": regions_scatter(self.model, costs, MAX_POINTS) if has_regions else None,
            "costs": region_costs(self.model, costs) if has_regions else None,
        }


def _states(costs: SpaceCosts) -> dict[str, int]:
    """Return how many configurations are measured, extrapolated, unmeasured, over capacity, and so on."""
    states: Counter[str] = Counter()
    unknown = np.isnan(costs.makespan_s)
    for provenance in np.unique(costs.provenance).tolist():
        for is_unknown in (False, True):
            for is_over in (False, True):
                found = (costs.provenance == provenance) & (unknown == is_unknown)
                count = int(np.count_nonzero(found & (costs.over_capacity == is_over)))
                states[state_of(provenance, np.nan if is_unknown else 0.0, is_over)] += count
    return {state: count for state, count in states.items() if count}


class KnownModels:
    """The models that were asked for last; ``layers`` says what their answers heed."""

    def __init__(self, most: int = MAX_MODELS, layers: Callable[[], Layers] = Layers) -> None:
        self._most = most
        self._layers = layers
        self._kept: OrderedDict[str, KnownModel] = OrderedDict()
        self._lock = RLock()

    def get(self, store: Store, model_id: str) -> KnownModel:
        """Return a model version, from the store where it is not known yet.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        with self._lock:
            if model_id in self._kept:
                self._kept.move_to_end(model_id)
                return self._kept[model_id]
        loaded, layers = load_model_version(store, model_id), self._layers()
        with self._lock:
            found = self._kept.setdefault(loaded.version.model_id, KnownModel(*loaded, layers=layers))
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found
