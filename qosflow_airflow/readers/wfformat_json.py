"""WfFormat 1.5 and 1.6 (https://wfcommons.org/format): instances of workflows, as tasks and files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from qosflow_airflow.core.workflow import MAX_TASKS
from qosflow_airflow.exceptions import WorkflowError
from qosflow_airflow.readers.csv_table import MAX_BYTES, MAX_SECONDS
from qosflow_airflow.readers.document import Node, Origin
from qosflow_airflow.readers.document_json import parse_json
from qosflow_airflow.readers.files import SourceFile, read_file

MAX_INSTANCE_BYTES = 2**27
"""Larger instances are refused: each value is kept with its line."""
VERSIONS = ("1.5", "1.6")
MAX_PERCENT = 1e6


@dataclass(frozen=True)
class InstanceTask:
    """A task: its files, the tasks it waits for, and what its run took (NaN where not told)."""

    id: str
    name: str
    line: int
    parents: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runtime_s: float = math.nan
    start_s: float = math.nan
    cpu_share: float = math.nan
    read_bytes: float = math.nan
    written_bytes: float = math.nan
    machines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """A workflow's tasks in an order in which each comes after those it waits for, and the size of its files.

    A task waits for its parents, and for whichever tasks write what it reads. ``levels`` is the longest path
    to each task, from 1. A file without a size is not in ``sizes``.
    """

    source: str
    name: str
    description: str
    tasks: Mapping[str, InstanceTask]
    sizes: Mapping[str, float]
    levels: Mapping[str, int]
    makespan_s: float


def read_wfformat_json(file: str | Path | SourceFile) -> Instance:
    """Read an instance.

    Raises
    ------
    BundleError
        When the file cannot be read or is not JSON.
    WorkflowError
        When it is not WfFormat of a version that is known, a task or file is declared twice, a parent is
        unknown, a number is impossible, or tasks wait for one another.
    """
    source = read_file(file, limit_bytes=MAX_INSTANCE_BYTES)
    document = parse_json(source, Origin(source.name, WorkflowError))
    document.require(["workflow"])
    top = document.mapping()
    _check_version(top, top["workflow"])
    workflow = top["workflow"].mapping()
    specification, execution = workflow["specification"].mapping(), _section(workflow, "execution")
    runs = {_label(node, "id"): node for node in _list(execution, "tasks")}
    tasks = _tasks(_list(specification, "tasks"), runs)
    if not tasks:
        raise workflow["specification"].fail("has no tasks", "Give an instance with tasks.")
    levels = _levels(tasks, workflow["specification"])
    return Instance(
        source=source.name,
        name=_text(top, "name") or source.path.stem,
        description=" ".join(_text(top, "description").split()),
        tasks={name: tasks[name] for name in levels},
        sizes=_sizes(_list(specification, "files")),
        levels=levels,
        makespan_s=_number(execution, "makespanInSeconds", MAX_SECONDS),
    )


def _check_version(top: Mapping[str, Node], workflow: Node) -> None:
    version = _text(top, "schemaVersion")
    if version not in VERSIONS:
        node = top.get("schemaVersion", workflow)
        known = " or ".join(VERSIONS)
        raise node.fail(f"is {version!r}, not {known}", f"Convert it to WfFormat {known}.")
    workflow.require(["specification"])
    workflow.mapping()["specification"].require(["tasks"])


def _section(fields: Mapping[str, Node], name: str) -> Mapping[str, Node]:
    node = fields.get(name)
    return {} if node is None or node.content is None else node.mapping()


def _list(fields: Mapping[str, Node], name: str) -> tuple[Node, ...]:
    node = fields.get(name)
    return () if node is None or node.content is None else node.sequence()


def _text(fields: Mapping[str, Node], name: str) -> str:
    node = fields.get(name)
    return "" if node is None or node.content in (None, "") else node.text()


def _label(node: Node, name: str) -> str:
    node.require([name])
    return node.mapping()[name].text()


def _number(fields: Mapping[str, Node], name: str, high: float) -> float:
    node = fields.get(name)
    return math.nan if node is None or node.content is None else node.number(0, high)


def _names(node: Node, name: str) -> tuple[str, ...]:
    # An order, and each once: a file may be listed twice.
    return tuple(dict.fromkeys(item.text() for item in _list(node.mapping(), name)))


def _tasks(nodes: Iterable[Node], runs: Mapping[str, Node]) -> dict[str, InstanceTask]:
    declared: dict[str, Node] = {}
    parents: dict[str, set[str]] = {}
    for node in nodes:
        name = _label(node, "id")
        if name in declared:
            raise node.fail(
                f"is task {name!r}, declared on line {declared[name].line}", "Remove one of them."
            )
        if len(declared) >= MAX_TASKS:
            raise node.fail("is one task too many", f"Give at most {MAX_TASKS:,}.")
        declared[name] = node
        parents.setdefault(name, set()).update(_names(node, "parents"))
    for name, node in declared.items():
        for child in _names(node, "children"):
            parents.setdefault(child, set()).add(name)
    unknown = {name for several in parents.values() for name in several}.union(parents) - declared.keys()
    for name, node in declared.items():
        wrong = unknown & ({*_names(node, "children")} | parents[name])
        if wrong:
            raise node.fail(
                f"(task {name!r}) is next to {min(wrong)!r}, which is no task", "Correct the name."
            )
    made = {name: _task(name, node, runs.get(name)) for name, node in declared.items()}
    writers: dict[str, set[str]] = {}
    for name, task in made.items():
        for file in task.outputs:
            writers.setdefault(file, set()).add(name)
    return {name: _with_parents(task, parents[name], writers) for name, task in made.items()}


def _with_parents(
    task: InstanceTask, parents: Iterable[str], writers: Mapping[str, set[str]]
) -> InstanceTask:
    wrote = {writer for file in task.inputs for writer in writers.get(file, ())} - {task.id}
    return InstanceTask(**{**vars(task), "parents": frozenset(parents) | wrote})


def _task(name: str, node: Node, run: Node | None) -> InstanceTask:
    fields = node.mapping()
    took = {} if run is None else run.mapping()
    percent, cores = _number(took, "avgCPU", MAX_PERCENT), _number(took, "coreCount", MAX_PERCENT)
    cores = 1.0 if math.isnan(cores) or cores <= 0 else cores
    return InstanceTask(
        id=name,
        name=_text(fields, "category") or _text(fields, "name") or name,
        line=node.line,
        parents=frozenset(),
        inputs=_names(node, "inputFiles"),
        outputs=_names(node, "outputFiles"),
        runtime_s=_number(took, "runtimeInSeconds", MAX_SECONDS),
        start_s=_time(took.get("executedAt")),
        cpu_share=min(percent / 100 / cores, 1.0),  # NaN stays
        read_bytes=_number(took, "readBytes", MAX_BYTES),
        written_bytes=_number(took, "writtenBytes", MAX_BYTES),
        machines=() if run is None else _names(run, "machines"),
    )


def _time(node: Node | None) -> float:
    if node is None or node.content is None:
        return math.nan
    try:
        seconds = datetime.fromisoformat(node.text()).timestamp()
    except (ValueError, OverflowError, OSError):
        seconds = -1.0
    if seconds < 0:
        raise node.fail(f"is {node.kind}, not a time", "Write it as in 2026-01-31T12:00:00+00:00.")
    return seconds


def _sizes(nodes: Iterable[Node]) -> dict[str, float]:
    sizes: dict[str, float] = {}
    seen: dict[str, Node] = {}
    for node in nodes:
        name = _label(node, "id")
        if name in seen:
            raise node.fail(f"is file {name!r}, declared on line {seen[name].line}", "Remove one of them.")
        seen[name] = node
        size = _number(node.mapping(), "sizeInBytes", MAX_BYTES)
        if not math.isnan(size):
            sizes[name] = size
    return sizes


def _levels(tasks: Mapping[str, InstanceTask], node: Node) -> dict[str, int]:
    try:
        order = list(TopologicalSorter({name: task.parents for name, task in tasks.items()}).static_order())
    except CycleError as error:
        cycle = " -> ".join(str(name) for name in error.args[1][:10])
        raise node.fail(f"has tasks that wait for one another: {cycle}", "Remove a dependency.") from None
    levels: dict[str, int] = {}
    for name in order:
        levels[name] = 1 + max((levels[parent] for parent in tasks[name].parents), default=0)
    return levels
