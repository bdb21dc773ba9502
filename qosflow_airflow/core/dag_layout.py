"""Where the stages of a DAG are drawn: in columns by their distance from the first, with few crossings.

An edge that passes columns has a place of its own in each, so that it runs between stages and not behind
them; edges of one producer share it. Source: the layered drawing of Sugiyama, Tagawa and Toda (1981).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qosflow_airflow.core.workflow import INITIAL_DATA, Edge, Workflow

STAGE_ROWS, PASSING_ROWS = 1.0, 0.4
"""The room that a stage, and an edge that passes, take in a column."""
SWEEPS = 4


class Place(NamedTuple):
    """A column from 0, and a row: larger is lower, the middle is near 0."""

    column: int
    row: float


class DagLayout(NamedTuple):
    """The place of each stage, and for each edge between stages the places that it passes."""

    places: Mapping[str, Place]
    edges: Mapping[Edge, tuple[Place, ...]]


_Vertex = tuple[str, int]
"""A stage, or its output where that passes another column."""


def lay_out(workflow: Workflow) -> DagLayout:
    """Return where to draw ``workflow``."""
    column = _columns(workflow)
    inner = [edge for edge in workflow.edges if edge.producer != INITIAL_DATA and edge.consumer in column]
    above: dict[_Vertex, list[_Vertex]] = {(name, column[name]): [] for name in workflow.stage_names}
    for edge in inner:
        last = (edge.producer, column[edge.producer])
        for at in range(column[edge.producer] + 1, column[edge.consumer]):
            above.setdefault((edge.producer, at), [last])
            last = (edge.producer, at)
        above[edge.consumer, column[edge.consumer]].append(last)
    row = _rows(above, column)
    return DagLayout(
        {name: Place(column[name], row[name, column[name]]) for name in workflow.stage_names},
        {
            edge: tuple(
                Place(at, row[edge.producer, at])
                for at in range(column[edge.producer] + 1, column[edge.consumer])
            )
            for edge in inner
        },
    )


def _columns(workflow: Workflow) -> dict[str, int]:
    column: dict[str, int] = {}
    for name in workflow.topological_order:
        before = workflow.stage(name).stage_predecessors
        column[name] = max((column[producer] + 1 for producer in before), default=0)
    return column


def _rows(above: Mapping[_Vertex, list[_Vertex]], column: Mapping[str, int]) -> dict[_Vertex, float]:
    """Return a row per vertex: each column ordered and placed by the mean row of its neighbours."""
    below: dict[_Vertex, list[_Vertex]] = {vertex: [] for vertex in above}
    for vertex, before in above.items():
        for neighbour in before:
            below[neighbour].append(vertex)
    columns: list[list[_Vertex]] = [[] for _ in range(max(at for _, at in above) + 1)]
    for vertex in above:
        columns[vertex[1]].append(vertex)
    row = dict.fromkeys(above, 0.0)
    for members in columns:
        _place(members, {}, row, column)
    for sweep in range(SWEEPS):
        order, neighbours = (columns, above) if sweep % 2 == 0 else (columns[::-1], below)
        for members in order:
            _place(members, neighbours, row, column)
    middle = (min(row.values()) + max(row.values())) / 2
    return {vertex: value - middle for vertex, value in row.items()}


def _place(
    members: list[_Vertex],
    neighbours: Mapping[_Vertex, list[_Vertex]],
    row: dict[_Vertex, float],
    column: Mapping[str, int],
) -> None:
    """Move a column's vertices to the mean row of their neighbours, apart from each other."""
    wanted = {
        vertex: _mean([row[other] for other in neighbours.get(vertex, ())], row[vertex]) for vertex in members
    }
    members.sort(key=lambda vertex: wanted[vertex])
    taken: list[float] = []
    for number, vertex in enumerate(members):
        high = _height(vertex, column)
        least = taken[-1] + (_height(members[number - 1], column) + high) / 2 if taken else wanted[vertex]
        taken.append(max(wanted[vertex], least))
    shift = _mean([wanted[vertex] - at for vertex, at in zip(members, taken, strict=True)], 0.0)
    row.update({vertex: at + shift for vertex, at in zip(members, taken, strict=True)})


def _height(vertex: _Vertex, column: Mapping[str, int]) -> float:
    name, at = vertex
    return STAGE_ROWS if column[name] == at else PASSING_ROWS


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
