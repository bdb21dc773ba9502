"""In how many tasks the stages of a run are done, and the answer of a model whose stages are so divided.

A number is chosen per stage, tier and node count: by the stage's runs there, or by the I/O model before there
are any. First the request is answered with the best number everywhere, so that tiers, nodes and tasks fit
together. Then it is answered again in the numbers that were chosen for the configuration that was found, the
same on all tiers: these may hold one that is only tried. What is answered last is what will run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.chunk_times import share_of_slots
from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import NodePool
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes, TimeTable
from qosflow_airflow.learn.chunk_choice import ChunkGoal, Objective
from qosflow_airflow.learn.chunk_request import ChunkRequest
from qosflow_airflow.learn.divided_stage import OTHER_NUMBER_LOG_SD, DividedStage
from qosflow_airflow.learn.lessons import Lesson, recommend_with
from qosflow_airflow.learn.parallelism import StageParallelism
from qosflow_airflow.learn.stage_chunks import StageChunks, choose_by_model, choose_for_stage

OBJECTIVES: Mapping[str, Objective] = {
    "makespan": "time",
    "node_hours": "node_hours",
    "cost": "cost",
    # The geometric mean of makespan and node-hours is T sqrt(s), where a chunk has a node.
    "balanced": "published",
}
"""By the objective of the request, what a stage's number of tasks makes small."""
ROUNDS = 3
"""So often a configuration may change with its numbers of tasks."""
LEAST_SHARE = 0.01
"""Of what a fit says, at least so much is work: the rest waits and starts."""

Cell = tuple[str, str, int]
"""Stage, tier and node count."""
Numbers = Callable[[Cell], int]


@dataclass(frozen=True)
class Division:
    """What numbers of tasks are chosen by.

    ``limits`` is stage to at most so many tasks; ``no_slower`` says that none may take longer than it does in
    its own number. ``fits`` is what finished runs tell of a stage on a tier and node count, ``startup_s``
    what a task of the workflow took to start, seconds.

    Raises
    ------
    RequestError
        When the objective is unknown.
    """

    limits: Mapping[str, int]
    objective: Objective = "time"
    no_slower: bool = False
    fits: Mapping[Cell, StageParallelism] = field(default_factory=dict)
    startup_s: float = 0.0

    def __post_init__(self) -> None:
        ChunkGoal(self.objective)

    @classmethod
    def asked(cls, asked: ChunkRequest, request: QoSRequest, **told: Any) -> Self:
        """Return what the numbers are chosen by for a request; ``told`` is what runs tell."""
        objective = asked.objective or OBJECTIVES[request.objective]
        return cls(
            asked.limits,
            objective,  # type: ignore[arg-type]  # it refuses others
            no_slower=request.deadline_s is not None,
            **told,
        )

    def choose(self, model: Model, cell: Cell, *, to_learn: bool = True) -> StageChunks:
        """Return the number of tasks for a stage on a tier and node count of a model, and why.

        Without ``to_learn`` no number is only tried.
        """
        name, tier, nodes = cell
        own, limit, goal = model.workflow.stage(name).tasks, self.limits[name], self._goal(model, name, nodes)
        where = f"on {tier} and {nodes} node{'s' if nodes > 1 else ''}"
        if cell in self.fits:
            found = self.fits[cell]
            return choose_for_stage(found, own, limit, goal, no_slower=self.no_slower, to_learn=to_learn)
        stage = self._stage(model, cell)
        return choose_by_model(stage, limit, goal, where=where, no_slower=self.no_slower)

    def chosen(self, model: Model, configuration: Configuration) -> dict[str, StageChunks]:
        """Return the choice for each stage of a configuration that has a limit."""
        tiers, nodes = configuration.tiers, configuration.nodes
        return {name: self.choose(model, (name, tiers[name], nodes)) for name in self.limits}

    def at_best(self, model: Model) -> Model:
        """Return a model with each stage in the best number of tasks for each tier and node count."""
        return self.applied(model, lambda cell: self.choose(model, cell, to_learn=False).chunks)

    def in_numbers(self, numbers: Mapping[str, int], model: Model) -> Model:
        """Return a model with stages in the same number of tasks on all tiers and node counts."""
        return self.applied(model, lambda cell: numbers[cell[0]])

    def applied(self, model: Model, numbers: Numbers) -> Model:
        """Return a model whose stages take as long as they do in ``numbers``; the same one where all stay.

        What runs tell of a stage counts where it ran; elsewhere it is taken to be off by as much.
        """
        if not self.fits and all(numbers(cell) == self._own(model, cell) for cell in self._cells(model)):
            return model
        scales = [replace(scale, times=self._times(model, scale.times, numbers)) for scale in model.scales]
        return replace(model, scales=tuple(scales))

    def _cells(self, model: Model) -> list[Cell]:
        tiers = model.catalog.names
        return [(stage, tier, nodes) for stage in self.limits for tier in tiers for nodes in model.nodes]

    def _times(self, model: Model, times: StageTimes, numbers: Numbers) -> StageTimes:
        read, write, compute = (table.copied() for table in (times.read, times.write, times.compute))
        demand = times.demand
        for name in self.limits:
            s = times.stages.index(name)
            cells = [(name, tier, times.nodes) for tier in times.tiers]
            tasks = [numbers(cell) for cell in cells]
            parts = np.stack([self._parts(model, *found) for found in zip(cells, tasks, strict=True)])
            # A model computes as long on all tiers: what one has more of it goes into its reads.
            common_s = np.nanmin(parts[:, 1])
            read.seconds[s], write.seconds[s] = parts[:, 0] + parts[:, 1] - common_s, parts[:, 2]
            if not np.isnan(compute.seconds[s]):
                compute.seconds[s] = common_s
            doubt = np.array([self._doubt(model, *found) for found in zip(cells, tasks, strict=True)])
            changed = np.array([count != model.workflow.stage(name).tasks for count in tasks])
            for table in (read, write):
                _unsure(table, s, doubt, changed)
            compute.log_sd[s] = np.hypot(compute.log_sd[s], doubt.min())
            if changed.any():
                demand = _demand(demand, s, model.catalog.node, times.nodes, max(tasks))
        return replace(times, read=read, write=write, compute=compute, demand=demand)

    def _parts(self, model: Model, cell: Cell, tasks: int) -> FloatArray:
        """Return seconds of reading, computing and writing (3)."""
        parts_s = self._stage(model, cell).parts(np.array([float(tasks)]))[:, 0]
        return np.asarray(parts_s * self._level(model, cell, tasks))

    def _doubt(self, model: Model, cell: Cell, tasks: int) -> float:
        """Return the standard deviation of ln time that a number of tasks adds to that of the estimate."""
        if cell in self.fits:
            return float(self.fits[cell].estimate(np.array([float(tasks)])).log_sd[0])
        return 0.0 if tasks == self._own(model, cell) else OTHER_NUMBER_LOG_SD

    def _level(self, model: Model, cell: Cell, tasks: int) -> float:
        """Return how many times as long as estimated a stage takes in so many tasks, as its runs have it."""
        told = cell if cell in self.fits else self._most_told(cell[0])
        if told is None:
            return 1.0
        found = self.fits[told]
        seconds = float(found.estimate(np.array([float(tasks)])).seconds[0])
        work_s = max(seconds - found.law.startup_s, LEAST_SHARE * seconds)
        if told[2] not in model.nodes:
            return 1.0
        ratio = work_s / (self._stage(model, told).seconds(tasks) * _stretch(model, told))
        return ratio if math.isfinite(ratio) and ratio > 0 else 1.0

    def _most_told(self, stage: str) -> Cell | None:
        """Return where most runs tell of a stage, ``None`` where none do."""
        told = sorted(cell for cell in self.fits if cell[0] == stage)
        return max(told, key=lambda cell: self.fits[cell].runs, default=None)

    def _own(self, model: Model, cell: Cell) -> int:
        return model.workflow.stage(cell[0]).tasks

    def _stage(self, model: Model, cell: Cell) -> DividedStage:
        name, tier, nodes = cell
        times = model.scale(nodes).times
        s, t = times.stages.index(name), times.tiers.index(tier)
        return DividedStage(times, s, t, self._own(model, cell), model.catalog.node, self.startup_s)

    def _goal(self, model: Model, stage: str, nodes: int) -> ChunkGoal:
        node, most = model.catalog.node, max(model.workflow.stage(stage).tasks, self.limits[stage])
        # Without a number of slots, a node takes its share of all tasks at once.
        at_once = node.slots or -(-most // nodes)
        return ChunkGoal(
            self.objective, chunks_per_node=at_once, node_price_per_hour=node.price_per_hour or 0.0
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        fits = [
            {"stage": stage, "tier": tier, "nodes": nodes, "parallelism": found.to_json()}
            for (stage, tier, nodes), found in self.fits.items()
        ]
        return {**asdict(replace(self, fits={})), "limits": dict(self.limits), "fits": fits}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build it from what :meth:`to_json` returned."""
        fits = {
            (one["stage"], one["tier"], one["nodes"]): StageParallelism.from_json(one["parallelism"])
            for one in value["fits"]
        }
        return cls(**{**value, "fits": fits})


def recommend_divided(
    model: Model, request: QoSRequest, lesson: Lesson, division: Division
) -> Recommendation | Infeasible:
    """Return the optimum of a request with stages in numbers of tasks that are chosen with it.

    The answer holds them as ``chunks``, and what they were chosen by as ``division``; its times are those in
    these numbers. Errors are those of :func:`~qosflow_airflow.core.recommend.recommend`; and

    Raises
    ------
    WorkflowError
        When a limit is for a stage that the workflow does not have.
    """
    for stage in division.limits:
        model.workflow.stage(stage)
    answer = recommend_with(model, request, lesson, division.at_best)
    taught, configuration = lesson.applied(model), _configuration(answer)
    for _ in range(ROUNDS):
        if configuration is None:
            return answer
        chosen = division.chosen(taught, configuration)
        answer = recommend_in_numbers(model, request, lesson, division, chosen)
        before, configuration = configuration, _configuration(answer)
        if configuration == before:
            break
    return answer


def recommend_in_numbers(
    model: Model, request: QoSRequest, lesson: Lesson, division: Division, chosen: Mapping[str, StageChunks]
) -> Recommendation | Infeasible:
    """Return the optimum of a request with stages in numbers of tasks that have been ``chosen``."""
    numbers = {stage: one.chunks for stage, one in chosen.items()}
    untried = frozenset(stage for stage, one in chosen.items() if not one.tried)
    answer = recommend_with(model, request, lesson, partial(division.in_numbers, numbers), untried)
    changed = [f"{name} in {one.chunks} instead of {one.was}" for name, one in chosen.items() if one.changed]
    said = f" In other numbers of tasks than the workflow's: {', '.join(changed)}." if changed else ""
    found = {
        **answer.answer,
        "explanation": f"{answer.answer['explanation']}{said}",
        "chunks": {stage: one.to_json() for stage, one in chosen.items()},
        "division": division.to_json(),
    }
    return answer._replace(answer=found)


def _configuration(answer: Recommendation | Infeasible) -> Configuration | None:
    return answer.nearest if isinstance(answer, Infeasible) else answer.configuration


def _demand(demand: Demand | None, s: int, node: NodePool, nodes: int, tasks: int) -> Demand | None:
    """Return demands with that of a stage for processors as it is in so many tasks."""
    if demand is None or node.slots is None:
        return demand
    compute = demand.compute.copy()
    compute[s] = share_of_slots(node, nodes, tasks)
    return demand._replace(compute=compute)


def _stretch(model: Model, cell: Cell) -> float:
    """Return how many times longer than alone a stage takes because other work of its run shares devices.

    Which tiers its runs had for other stages is taken not to matter much: all have the stage's here.
    """
    name, tier, nodes = cell
    makespans, s = model.makespans(nodes), model.workflow.index[name]
    if makespans.times.demand is None:
        return 1.0
    layouts = np.full((1, len(model.workflow.stages)), model.catalog.index[tier], dtype=np.int8)
    stretch = makespans.costs.stretch(layouts)
    return 1.0 if stretch is None else float(stretch.stages[0, s])


def _unsure(table: TimeTable, s: int, doubt: FloatArray, changed: NDArray[np.bool_]) -> None:
    """Make times of a stage less sure, by the ``doubt`` that its number of tasks adds (per tier)."""
    provenance, log_sd = table.provenance[s], table.log_sd[s]
    measured = changed & (provenance == Provenance.MEASURED)
    table.provenance[s] = np.where(measured, np.int8(Provenance.EXTRAPOLATED), provenance)
    # A time of nothing is certain however many tasks take it.
    table.log_sd[s] = np.where(table.seconds[s] > 0, np.hypot(log_sd, doubt), log_sd)
