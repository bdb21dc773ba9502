"""Chaining what a configuration pays: the split of its makespan, and its critical path.

There are two ways, and the rules say which: phase by phase behind a barrier per level, or along the longest
path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.charges import ChargedTimes, Charges
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA

SPLIT = ("movement", "shared_io", "local_io", "compute")
"""The parts of a makespan, on its critical path."""
TIE_S = 1e-12
"""Times closer than this are equal; the alphabetically first stage wins."""

BoolArray = NDArray[np.bool_]


class PathStep(NamedTuple):
    """One phase of a stage: the configurations with it on their critical path (C), and the tasks per node."""

    phase: str
    stage: str
    taken: BoolArray
    tasks_per_node: IntArray


def _tag(tasks_per_node: int) -> str:
    return "NA" if tasks_per_node < 0 else str(tasks_per_node)


class Schedule(NamedTuple):
    """When configurations finish, and what they wait for.

    Axes: C configurations, S stages, K levels. ``level_s`` holds C x K seconds of the phases in, exec and out
    under a level barrier, else ``None``. ``split_s`` is C x 4 (:data:`SPLIT`) and adds up to the makespan.
    ``on_critical_path`` is C x S. ``find_path`` returns the critical path's steps in order: as many arrays as
    there are phases of stages, which few need.
    """

    makespan_s: FloatArray
    provenance: NDArray[np.int8]
    split_s: FloatArray
    on_critical_path: BoolArray
    level_s: dict[str, FloatArray] | None
    find_path: Callable[[], Iterable[PathStep]]

    def critical_paths(self) -> list[str]:
        """Return each configuration's critical path, as ``phase_stage(tasks per node)`` joined by ``->``."""
        joined = np.full(len(self.makespan_s), "", dtype=object)
        for step in self.find_path():
            tags, at = np.unique(step.tasks_per_node, return_inverse=True)
            words = np.array([f"->{step.phase}_{step.stage}({_tag(tag)})" for tag in tags], dtype=object)[at]
            joined = joined + np.where(step.taken, words, "")
        return [path.removeprefix("->") for path in joined]


def level_barrier(
    model: ChargedTimes, layouts: Layouts, charges: Charges, makespan_s: FloatArray
) -> Schedule:
    """Chain the phases of each level: the longest copy in, the longest stage, the longest copy out."""
    rows = np.arange(len(layouts))
    execution = charges.read + charges.compute + charges.write
    into, into_edge = _longest_of_edges(model, layouts, charges.into, end=1)
    out_of, out_edge = _longest_of_edges(model, layouts, charges.out_of, end=0)
    source, destination = model.edge_tiers(layouts)

    on_path = np.zeros(layouts.shape, dtype=bool)
    split = np.zeros((len(layouts), len(SPLIT)))
    shared = np.array(model.catalog.shared)
    phases: dict[str, list[FloatArray]] = {"in": [], "exec": [], "out": []}
    steps: list[PathStep] = []
    for level in model.workflow.levels:
        members = [s for s in model.alphabetical if model.workflow.stages[s].level == level]
        for phase, seconds, edge in (
            ("in", into, into_edge),
            ("exec", execution, None),
            ("out", out_of, out_edge),
        ):
            longest = seconds[:, members].max(axis=1)
            winner = _first_longest(seconds, members, longest)
            phases[phase].append(longest)
            for s in members:
                won = (winner == s) & (longest > 0)
                on_path[:, s] |= won
                if edge is None:
                    steps += _execution_steps(model, charges, s, won)
                    io = np.where(won, charges.read[:, s] + charges.write[:, s], 0.0)
                    is_shared = shared[layouts[:, s]]
                    split[:, 1] += np.where(is_shared, io, 0.0)
                    split[:, 2] += np.where(is_shared, 0.0, io)
                    split[:, 3] += np.where(won, charges.compute[:, s], 0.0)
                else:
                    legs = model.legs
                    table = legs.into_tasks_per_node if phase == "in" else legs.out_of_tasks_per_node
                    e = edge[:, s]
                    tags = table[e, source[rows, e], destination[rows, e]]
                    steps.append(PathStep(f"stage_{phase}", model.workflow.stage_names[s], won, tags))
                    split[:, 0] += np.where(won, longest, 0.0)
    level_s = {phase: np.stack(parts, axis=1) for phase, parts in phases.items()}
    return Schedule(makespan_s, model.provenance(layouts), split, on_path, level_s, lambda: steps)


def _longest_of_edges(
    model: ChargedTimes, layouts: Layouts, seconds: FloatArray, *, end: int
) -> tuple[FloatArray, IntArray]:
    """Return, per configuration and stage, the longest copy at this end of its edges, and that edge."""
    best = np.zeros(layouts.shape)
    winner = np.zeros(layouts.shape, dtype=np.int64)
    source, destination = model.edge_tiers(layouts)
    fan_out = source == destination
    # Ties go to copies before fan-outs on one tier, then to the alphabetically first destination.
    by_name = sorted(range(len(model.catalog.names)), key=lambda t: model.catalog.names[t])
    for is_fan_out in (False, True):
        for tier in by_name:
            for e, edge in enumerate(model.times.edges):
                name = edge[end]
                if name not in model.workflow.index:
                    continue
                s = model.workflow.index[name]
                better = (
                    (seconds[:, e] > best[:, s]) & (destination[:, e] == tier) & (fan_out[:, e] == is_fan_out)
                )
                best[better, s] = seconds[better, e]
                winner[better, s] = e
    return best, winner


def _first_longest(seconds: FloatArray, members: list[int], longest: FloatArray) -> IntArray:
    """Return the first of ``members`` (already in order of preference) that takes the longest."""
    ties = np.abs(seconds[:, members] - longest[:, None]) < TIE_S
    return np.asarray(np.array(members)[ties.argmax(axis=1)])


def _execution_steps(model: ChargedTimes, charges: Charges, s: int, won: BoolArray) -> list[PathStep]:
    stage = model.workflow.stages[s]
    tags = np.full(len(won), stage.tasks_per_node(model.times.nodes), dtype=np.int64)
    return [
        PathStep(phase, stage.name, won & (getattr(charges, phase)[:, s] > 0), tags)
        for phase in ("read", "compute", "write")
    ]


def longest_path(model: ChargedTimes, layouts: Layouts, charges: Charges, makespan_s: FloatArray) -> Schedule:
    """Chain stages by their own predecessors: a stage starts when the last of its inputs has arrived."""
    count = len(layouts)
    execution = charges.read + charges.compute + charges.write
    delay = charges.into + charges.out_of
    incoming, final = _edges_by_consumer(model)
    finish = np.zeros(layouts.shape)
    last_edge = np.full(layouts.shape, -1, dtype=np.int64)
    for name in model.workflow.topological_order:
        s = model.workflow.index[name]
        start = np.zeros(count)
        if incoming[s]:
            arrivals = np.stack([_arrival(model, finish, delay, e) for e in incoming[s]], axis=1)
            start = arrivals.max(axis=1)
            last_edge[:, s] = np.array(incoming[s])[_first_of(arrivals, start)]
        finish[:, s] = start + execution[:, s]
    ends = np.stack([_arrival(model, finish, delay, e) for e in final], axis=1)
    end_edge = np.array(final)[_first_of(ends, ends.max(axis=1))]
    on_path, used = _walk_back(model, last_edge, end_edge)
    return Schedule(
        makespan_s,
        model.provenance(layouts),
        _split(model, layouts, charges, delay, on_path, used),
        on_path,
        None,
        lambda: _path_steps(model, layouts, charges, on_path, used),
    )


def _edges_by_consumer(model: ChargedTimes) -> tuple[dict[int, list[int]], list[int]]:
    """Return edge positions into each stage and those to the outside, in order of preference on ties."""
    order = sorted(range(len(model.times.edges)), key=lambda e: model.times.edges[e].producer.lower())
    incoming: dict[int, list[int]] = {s: [] for s in range(len(model.workflow.stages))}
    final = []
    for e in order:
        consumer = model.times.edges[e].consumer
        if consumer == FINAL_DATA:
            final.append(e)
        else:
            incoming[model.workflow.index[consumer]].append(e)
    return incoming, final


def _arrival(model: ChargedTimes, finish: FloatArray, delay: FloatArray, e: int) -> FloatArray:
    producer = model.times.edges[e].producer
    ready = 0.0 if producer == INITIAL_DATA else finish[:, model.workflow.index[producer]]
    return np.asarray(ready + delay[:, e])


def _first_of(values: FloatArray, longest: FloatArray) -> IntArray:
    return np.asarray((np.abs(values - longest[:, None]) < TIE_S).argmax(axis=1))


def _walk_back(model: ChargedTimes, last_edge: IntArray, end_edge: IntArray) -> tuple[BoolArray, BoolArray]:
    """Follow the last arrivals from the end; return C x S stages and C x E edges on the critical path."""
    edges = model.times.edges
    on_path = np.zeros(last_edge.shape, dtype=bool)
    used = np.zeros((len(last_edge), len(edges)), dtype=bool)
    rows = np.arange(len(last_edge))
    used[rows, end_edge] = True
    producers = np.array([model.workflow.index.get(edge.producer, -1) for edge in edges])
    on_path[rows, producers[end_edge]] = True
    for name in reversed(model.workflow.topological_order):
        s = model.workflow.index[name]
        here = rows[on_path[:, s] & (last_edge[:, s] >= 0)]
        edge = last_edge[here, s]
        used[here, edge] = True
        inside = producers[edge] >= 0
        on_path[here[inside], producers[edge[inside]]] = True
    return on_path, used


def _split(
    model: ChargedTimes,
    layouts: Layouts,
    charges: Charges,
    delay: FloatArray,
    on_path: BoolArray,
    used: BoolArray,
) -> FloatArray:
    io = np.where(on_path, charges.read + charges.write, 0.0)
    is_shared = np.array(model.catalog.shared)[layouts]
    return np.stack(
        [
            np.where(used, delay, 0.0).sum(axis=1),
            np.where(is_shared, io, 0.0).sum(axis=1),
            np.where(is_shared, 0.0, io).sum(axis=1),
            np.where(on_path, charges.compute, 0.0).sum(axis=1),
        ],
        axis=1,
    )


def _path_steps(
    model: ChargedTimes, layouts: Layouts, charges: Charges, on_path: BoolArray, used: BoolArray
) -> list[PathStep]:
    source, destination = model.edge_tiers(layouts)
    steps: list[PathStep] = []

    def copy(phase: str, stage: str, e: int, seconds: FloatArray) -> PathStep:
        legs = model.legs
        table = legs.into_tasks_per_node if phase == "stage_in" else legs.out_of_tasks_per_node
        tags = table[e, source[:, e], destination[:, e]]
        return PathStep(phase, stage, used[:, e] & (seconds[:, e] > 0), tags)

    for name in model.workflow.topological_order:
        s = model.workflow.index[name]
        for e, edge in enumerate(model.times.edges):
            if edge.consumer == name:
                steps.append(copy("stage_in", name, e, charges.into))
        steps += _execution_steps(model, charges, s, on_path[:, s])
        for e, edge in enumerate(model.times.edges):
            if edge.producer == name:
                steps.append(copy("stage_out", name, e, charges.out_of))
    return steps
