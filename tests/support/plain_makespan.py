"""The makespan of one configuration in plain Python, written from the description of the two rule sets.

``cells`` is anything with ``read``, ``write`` and ``compute`` per stage (and tier), ``copy_in`` and
``copy_out`` per edge and two tiers, each returning a :class:`~tests.support.plain_table.Cell`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import StageTimes, TimeTable
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Workflow
from tests.support.plain_table import MEASURED, UNKNOWN, Cell, tasks_per_node


class Step(NamedTuple):
    """A phase of a stage, on the tier where it happens (copies have none)."""

    phase: str
    stage: str
    seconds: float
    tasks_per_node: int
    tier: str | None = None

    def __str__(self) -> str:
        return f"{self.phase}_{self.stage}({'NA' if self.tasks_per_node < 0 else self.tasks_per_node})"


class Run(NamedTuple):
    """What one configuration takes; ``makespan_s`` is ``None`` when a needed time is unknown."""

    makespan_s: float | None
    state: int
    steps: list[Step]
    level_s: dict[str, list[float]]
    tied: bool = False

    @property
    def critical_path(self) -> str:
        return "->".join(str(step) for step in self.steps if step.seconds > 0)

    def split_s(self, catalog: TierCatalog) -> list[float]:
        """Seconds of movement, I/O on shared tiers, I/O on local tiers, and computing."""
        parts = [0.0] * 4
        for step in self.steps:
            if step.phase.startswith("stage_"):
                parts[0] += step.seconds
            elif step.phase == "compute":
                parts[3] += step.seconds
            else:
                parts[1 if catalog.tier(step.tier or "").shared else 2] += step.seconds
        return parts


class TimesCells:
    """Cells out of the package's own tables."""

    def __init__(self, times: StageTimes) -> None:
        self.times = times

    def _cell(self, table: TimeTable, *at: int) -> Cell:
        state = int(table.provenance[at])
        seconds = None if state == UNKNOWN else float(table.seconds[at])
        return Cell(seconds, state, int(table.tasks_per_node[at]))

    def read(self, stage: str, tier: str) -> Cell:
        return self._cell(self.times.read, self.times.stages.index(stage), self.times.tiers.index(tier))

    def write(self, stage: str, tier: str) -> Cell:
        return self._cell(self.times.write, self.times.stages.index(stage), self.times.tiers.index(tier))

    def compute(self, stage: str) -> Cell:
        return self._cell(self.times.compute, self.times.stages.index(stage))

    def copy_in(self, edge: Edge, source: str, destination: str) -> Cell:
        tiers = self.times.tiers
        at = (self.times.edges.index(edge), tiers.index(source), tiers.index(destination))
        return self._cell(self.times.stage_in, *at)

    def copy_out(self, edge: Edge, source: str, destination: str) -> Cell:
        tiers = self.times.tiers
        at = (self.times.edges.index(edge), tiers.index(source), tiers.index(destination))
        return self._cell(self.times.stage_out, *at)


def reference_run(
    workflow: Workflow, catalog: TierCatalog, cells: Any, nodes: int, tiers: Mapping[str, str]
) -> Run:
    """Sum, level by level, the longest copy in, the longest stage and the longest copy out."""
    used: list[Cell] = []
    steps: list[Step] = []
    level_s: dict[str, list[float]] = {"in": [], "exec": [], "out": []}
    for level in workflow.levels:
        # The first of several that take longest wins, in alphabetical order.
        names = sorted((s.name for s in workflow.stages if s.level == level), key=str.lower)
        for phase in level_s:
            by_stage = {}
            for name in names:
                if phase == "exec":
                    by_stage[name] = _execution(workflow, cells, nodes, tiers, name, used)
                else:
                    of = _copies_in if phase == "in" else _copies_out
                    found = list(of(workflow, catalog, cells, tiers, name))
                    used += found
                    longest = max(found, key=lambda cell: cell.seconds or 0.0, default=Cell(0.0, MEASURED))
                    copy = Step(f"stage_{phase}", name, longest.seconds or 0.0, longest.tasks_per_node)
                    by_stage[name] = [copy]
            winner = max(names, key=lambda name: _seconds(by_stage[name]))
            level_s[phase].append(_seconds(by_stage[winner]))
            steps += by_stage[winner]
    makespan_s = sum(a + b + c for a, b, c in zip(*level_s.values(), strict=True))
    return Run(makespan_s, max((cell.state for cell in used), default=MEASURED), steps, level_s)


def _seconds(steps: Sequence[Step]) -> float:
    return sum(step.seconds for step in steps)


def _execution(
    workflow: Workflow, cells: Any, nodes: int, tiers: Mapping[str, str], name: str, used: list[Cell]
) -> list[Step]:
    parts = {
        "read": cells.read(name, tiers[name]),
        "compute": cells.compute(name),
        "write": cells.write(name, tiers[name]),
    }
    used += [parts["read"], parts["write"]]  # an unknown compute time is said elsewhere
    own = tasks_per_node(workflow.stage(name), nodes)
    return [Step(phase, name, cell.seconds or 0.0, own, tiers[name]) for phase, cell in parts.items()]


def _copies_in(
    workflow: Workflow, catalog: TierCatalog, cells: Any, tiers: Mapping[str, str], name: str
) -> Iterator[Cell]:
    """Rule 3: to a local tier, from shared storage, whoever wrote there."""
    for producer in workflow.stage(name).predecessors:
        lies_on = catalog.home if producer == INITIAL_DATA else tiers[producer]
        if lies_on == catalog.home != tiers[name]:
            yield cells.copy_in(Edge(producer, name), catalog.home, tiers[name])


def _copies_out(
    workflow: Workflow, catalog: TierCatalog, cells: Any, tiers: Mapping[str, str], name: str
) -> Iterator[Cell]:
    """Rule 6: to where readers on later levels are, and from the last level to shared storage."""
    level, tier = workflow.stage(name).level, tiers[name]
    for reader in workflow.successors(name):
        stays = tier == tiers[reader] == catalog.home
        if workflow.stage(reader).level > level and not stays:
            yield cells.copy_out(Edge(name, reader), tier, tiers[reader])
    if level == workflow.levels[-1] and tier != catalog.home:
        yield cells.copy_out(Edge(name, FINAL_DATA), tier, catalog.home)


def complete_run(
    workflow: Workflow, catalog: TierCatalog, cells: Any, nodes: int, tiers: Mapping[str, str]
) -> Run:
    """List every path of stages from the outside to the outside; the longest is the makespan."""
    used: list[Cell] = []

    def movement(edge: Edge) -> list[Step]:
        copies = movement_of(workflow, catalog, cells, nodes, tiers, edge)
        used.extend(cell for _, _, cell in copies)
        return [Step(phase, at, cell.seconds or 0.0, cell.tasks_per_node) for phase, at, cell in copies]

    runs = {name: _execution(workflow, cells, nodes, tiers, name, used) for name in workflow.stage_names}
    moves = {edge: movement(edge) for edge in workflow.edges}

    def paths_to(name: str) -> Iterator[list[Step]]:
        incoming = [edge for edge in workflow.edges if edge.consumer == name]
        if not incoming:
            yield runs[name]
        for edge in incoming:
            for before in [[]] if edge.producer == INITIAL_DATA else list(paths_to(edge.producer)):
                yield before + moves[edge] + runs[name]

    paths = [
        before + moves[edge]
        for edge in workflow.edges
        if edge.consumer == FINAL_DATA
        for before in paths_to(edge.producer)
    ]
    paths.sort(key=_seconds, reverse=True)
    lengths = [_seconds(path) for path in paths]
    state = max((cell.state for cell in used), default=MEASURED)
    makespan_s = None if any(cell.seconds is None for cell in used) else lengths[0]
    tied = len(lengths) > 1 and lengths[0] - lengths[1] < 1e-9
    return Run(makespan_s, state, paths[0], {}, tied)


def movement_of(
    workflow: Workflow, catalog: TierCatalog, cells: Any, nodes: int, tiers: Mapping[str, str], edge: Edge
) -> list[tuple[str, str, Cell]]:
    """The copies that the data of one edge needs, paid once: phase, the stage that copies, and the time."""
    source = catalog.home if edge.producer == INITIAL_DATA else tiers[edge.producer]
    destination = catalog.home if edge.consumer == FINAL_DATA else tiers[edge.consumer]
    local = {tier.name for tier in catalog.tiers if not tier.shared}
    if source == destination:
        if source in local and nodes > 1:
            # Another node's task reads it: it is on the right tier, but not on all the right nodes.
            return [("stage_out", edge.producer, cells.copy_out(edge, source, source))]
        return []
    if edge.producer == INITIAL_DATA:
        return [("stage_in", edge.consumer, cells.copy_in(edge, source, destination))]
    if edge.consumer == FINAL_DATA:
        return [("stage_out", edge.producer, cells.copy_out(edge, source, destination))]
    if source in local and destination in local:
        inner = [other for other in workflow.edges if {INITIAL_DATA, FINAL_DATA}.isdisjoint(other)]
        times = [cells.copy_out(other, source, destination) for other in inner]
        if nodes == 1 and any(cell.state != UNKNOWN for cell in times):
            return [("stage_out", edge.producer, cells.copy_out(edge, source, destination))]
        return [
            ("stage_out", edge.producer, cells.copy_out(edge, source, catalog.home)),
            ("stage_in", edge.consumer, cells.copy_in(edge, catalog.home, destination)),
        ]
    if destination in local:
        return [("stage_in", edge.consumer, cells.copy_in(edge, source, destination))]
    return [("stage_out", edge.producer, cells.copy_out(edge, source, destination))]
