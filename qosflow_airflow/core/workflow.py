"""The DAG template: stages, their order, their task counts and the data edges between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property
from typing import Any, NamedTuple

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.exceptions import WorkflowError

INITIAL_DATA = "initial_data"
"""The outside input, as a predecessor."""
FINAL_DATA = "final_data"
"""The outside output, as a consumer."""
MAX_TASKS = 1_000_000
"""More tasks in a stage than any scheduler takes: such a count is an error in the file."""


class Edge(NamedTuple):
    """Data that flows from ``producer`` to ``consumer``; either end may be the outside."""

    producer: str
    consumer: str


@frozen
class Stage:
    """A step of the workflow, run as ``tasks`` instances.

    ``predecessors`` maps a producing stage (or ``initial_data``) to the patterns (regular expressions) of the
    files read from it; ``outputs`` are the patterns of the files written. ``final`` marks outputs that are
    kept although other stages read them.
    """

    name: str
    level: int
    tasks: int
    predecessors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    final: bool = False

    def tasks_per_node(self, nodes: int) -> int:
        """Return ``max(1, ceil(tasks / nodes))``."""
        return max(1, math.ceil(self.tasks / nodes))

    @property
    def stage_predecessors(self) -> tuple[str, ...]:
        """The predecessors that are stages."""
        return tuple(name for name in self.predecessors if name != INITIAL_DATA)

    @property
    def reads_initial_data(self) -> bool:
        """Whether the stage reads the outside input."""
        return INITIAL_DATA in self.predecessors

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "name": self.name,
            "level": self.level,
            "tasks": self.tasks,
            "predecessors": {name: list(patterns) for name, patterns in self.predecessors.items()},
            "outputs": list(self.outputs),
            "final": self.final,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Stage:
        """Build a stage from what :meth:`to_json` returned."""
        return cls(
            name=value["name"],
            level=value["level"],
            tasks=value["tasks"],
            predecessors={name: tuple(patterns) for name, patterns in value["predecessors"].items()},
            outputs=tuple(value["outputs"]),
            final=value["final"],
        )


@frozen
class Workflow:
    """A DAG template of stages, in the order they were declared.

    Raises
    ------
    WorkflowError
        When a name is empty, reserved or given twice, a predecessor is unknown, a count is absurd, the stages
        form a cycle, or a level contradicts an edge.
    """

    name: str
    stages: tuple[Stage, ...]
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise WorkflowError("the workflow has no name", cure="Give it one.")
        if not self.stages:
            raise WorkflowError("the workflow has no stages", cure="Declare at least one stage.")
        self._check_names()
        for stage in self.stages:
            self._check_stage(stage)
        _ = self.topological_order

    def _check_names(self) -> None:
        seen: set[str] = set()
        for stage in self.stages:
            if not stage.name or stage.name in (INITIAL_DATA, FINAL_DATA):
                raise WorkflowError(f"{stage.name!r} cannot be the name of a stage", cure="Rename it.")
            if stage.name in seen:
                raise WorkflowError("declared twice", stage=stage.name, cure="Rename or remove one of them.")
            seen.add(stage.name)

    def _check_stage(self, stage: Stage) -> None:
        if not 1 <= stage.tasks <= MAX_TASKS:
            raise WorkflowError(
                f"tasks is {stage.tasks}",
                stage=stage.name,
                cure=f"Give a whole number from 1 to {MAX_TASKS:,}.",
            )
        for name in stage.stage_predecessors:
            if name not in self.index:
                known = ", ".join(self.stage_names)
                raise WorkflowError(
                    f"predecessor {name!r} is not a stage",
                    stage=stage.name,
                    cure=f"Use one of {known} or {INITIAL_DATA}.",
                )
            level = self.stage(name).level
            if level > stage.level:
                raise WorkflowError(
                    f"level {stage.level} is before level {level} of its predecessor {name!r}",
                    stage=stage.name,
                    cure="Raise its level or remove the edge.",
                )

    @cached_property
    def stage_names(self) -> tuple[str, ...]:
        """Names in declared order: the order of every stage axis."""
        return tuple(stage.name for stage in self.stages)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each stage on the stage axis."""
        return {name: position for position, name in enumerate(self.stage_names)}

    def with_tasks(self, tasks: Mapping[str, int]) -> Workflow:
        """Return the workflow with other numbers of tasks for some of its stages."""
        for name in tasks:
            self.stage(name)
        stages = (replace(stage, tasks=tasks.get(stage.name, stage.tasks)) for stage in self.stages)
        return replace(self, stages=tuple(stages))

    def stage(self, name: str) -> Stage:
        """Return the stage called ``name``."""
        try:
            return self.stages[self.index[name]]
        except KeyError:
            known = ", ".join(self.stage_names)
            raise WorkflowError(
                f"workflow {self.name!r} has no stage {name!r}", cure=f"Use one of {known}."
            ) from None

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The distinct levels, ascending."""
        return tuple(sorted({stage.level for stage in self.stages}))

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every data edge, the outside included: the order of every edge axis.

        A stage reads ``initial_data`` when it says so, and feeds ``final_data`` when it is marked final or no
        stage reads from it.
        """
        edges = [Edge(name, stage.name) for stage in self.stages for name in stage.predecessors]
        read = {edge.producer for edge in edges}
        edges += [Edge(s.name, FINAL_DATA) for s in self.stages if s.final or s.name not in read]
        return tuple(edges)

    def successors(self, name: str) -> tuple[str, ...]:
        """Return the stages that read what ``name`` writes."""
        return tuple(stage.name for stage in self.stages if name in stage.predecessors)

    @cached_property
    def topological_order(self) -> tuple[str, ...]:
        """Stages so that each comes after its predecessors (Kahn's algorithm, declared order on ties)."""
        waiting = {stage.name: set(stage.stage_predecessors) for stage in self.stages}
        order: list[str] = []
        while waiting:
            ready = [name for name, needs in waiting.items() if not needs]
            if not ready:
                raise WorkflowError(f"the stages {', '.join(waiting)} form a cycle", cure="Remove an edge.")
            for name in ready:
                del waiting[name]
            order += ready
            for needs in waiting.values():
                needs.difference_update(ready)
        return tuple(order)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "name": self.name,
            "description": self.description,
            "stages": [stage.to_json() for stage in self.stages],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Workflow:
        """Build a workflow from what :meth:`to_json` returned."""
        return cls(
            name=value["name"],
            description=value.get("description", ""),
            stages=tuple(Stage.from_json(stage) for stage in value["stages"]),
        )
