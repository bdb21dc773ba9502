"""A WfFormat instance as a workflow of stages and as observations, and what it cannot tell."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pandas as pd

from qosflow_airflow.core.observations import COLUMNS, IOObservations
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.files import SourceFile
from qosflow_airflow.readers.stages import MAX_NAME_LENGTH
from qosflow_airflow.readers.trace_report import TraceReport
from qosflow_airflow.readers.wfformat_json import Instance, InstanceTask, read_wfformat_json

ACCESS_BYTES = 1 << 20
"""Size of an access where an instance tells none: what bulk transfers use."""

RENAMED = "tasks whose name cannot be that of a stage; characters were replaced"
SPLIT = "stages that were split by level: their tasks wait for one another"
UNSIZED = "uses of files whose size is not given"
IDLE = "uses of files by tasks that moved nothing, as the instance tells"
EMPTY = "uses of files of 0 bytes"
UNTIMED = "tasks without a runtime, or one of 0 s: how long they compute is not known"
ASSUMED = "transfers that count each file once and whole: what was really read or written is not told"
MIXED = (
    "tasks whose compute time is their whole runtime, I/O included: their use of the processor is not told"
)

UNKNOWN = (
    "storage tiers; the tier is blank",
    "access sizes; the given one stands for all",
    "seconds of reading and writing; they are blank",
    "patterns of file names; the workflow has none",
)
_NUMBER = re.compile(r"[_-](?:ID)?\d+$")


def read_wfformat(
    file: str | Path | SourceFile, *, nodes: int | None = None, access_bytes: int = ACCESS_BYTES
) -> tuple[Workflow, IOObservations | None, TraceReport]:
    """Return the workflow, the observations where sizes are given, and the report.

    A stage is the tasks of one category, or of one name without the number at its end. Tasks of a stage that
    wait for one another, directly or through other stages, become a stage per level. Levels are the longest
    paths to a stage, from 1. A stage reads ``initial_data`` where it reads a file that no task writes.

    Parameters
    ----------
    file:
        The instance.
    nodes:
        Nodes that the workflow ran on; by default the machines that its tasks name.
    access_bytes:
        Size of an access, which no instance tells.

    Raises
    ------
    BundleError
        When the file cannot be read or is not JSON.
    WorkflowError
        When it is not a WfFormat instance of a version that is known, or is not a DAG.
    MeasurementError
        When neither ``nodes`` nor the instance says how many nodes there were.
    """
    instance = read_wfformat_json(file)
    flagged: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    stage_of = _stages_of(instance, flagged)
    workflow = _workflow(instance, stage_of)
    count = nodes if nodes is not None else _machines(instance)
    rows = list(_rows(instance, stage_of, access_bytes, dropped, flagged))
    observations = None
    if rows:
        index = pd.RangeIndex(1, len(rows) + 1, name="line")
        frame = pd.DataFrame(rows, index=index).assign(nodes=count, tier="")
        frame["tasks"] = frame["stage"].map({stage.name: stage.tasks for stage in workflow.stages})
        observations = IOObservations(frame[list(COLUMNS)])
    unknown = UNKNOWN if instance.makespan_s > 0 else (*UNKNOWN, "the makespan; the file has none, or 0 s")
    return workflow, observations, TraceReport(instance.source, len(rows), dropped, flagged, unknown)


def _machines(instance: Instance) -> int:
    machines = {name for task in instance.tasks.values() for name in task.machines}
    if not machines:
        raise MeasurementError(
            "does not say on how many nodes it ran", source=instance.source, cure="Give the number of nodes."
        )
    return len(machines)


def _stages_of(instance: Instance, flagged: Counter[str]) -> dict[str, str]:
    """Return the stage of each task."""
    stages = {}
    for name, task in instance.tasks.items():
        plain = _NUMBER.sub("", task.name) or task.name
        stages[name] = _stage_name(plain)
        flagged[RENAMED] += stages[name] != plain
    split = _in_cycles(instance, stages)
    flagged[SPLIT] += len(split)
    taken = set(stages.values())
    for name, stage in stages.items():
        if stage in split:
            by_level = f"{stage}_level{instance.levels[name]}"
            while by_level in taken:
                by_level += "_"
            stages[name] = by_level
    return stages


def _stage_name(name: str) -> str:
    plain = re.sub(r"[^\w.]", "_", name).lstrip(".")[: MAX_NAME_LENGTH - len("_level1000000")]
    return f"{plain}_" if plain in ("", INITIAL_DATA, FINAL_DATA) else plain


def _in_cycles(instance: Instance, stages: Mapping[str, str]) -> set[str]:
    """Return the stages that wait for themselves, directly or through others."""
    reads: dict[str, set[str]] = {stage: set() for stage in stages.values()}
    for name, task in instance.tasks.items():
        reads[stages[name]].update(stages[parent] for parent in task.parents)
    found = {stage for stage, others in reads.items() if stage in others}
    while True:
        # One cycle after the other; the stages of those that were found no longer count.
        graph = {stage: others - found for stage, others in reads.items() if stage not in found}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found.update(str(stage) for stage in error.args[1])
        else:
            break
    return found


def _workflow(instance: Instance, stage_of: Mapping[str, str]) -> Workflow:
    reads: dict[str, set[str]] = {stage: set() for stage in stage_of.values()}
    written = {file for task in instance.tasks.values() for file in task.outputs}
    for name, task in instance.tasks.items():
        reads[stage_of[name]].update(stage_of[parent] for parent in task.parents)
        if any(file not in written for file in task.inputs):
            reads[stage_of[name]].add(INITIAL_DATA)
    levels: dict[str, int] = {INITIAL_DATA: 0}
    for stage in TopologicalSorter(reads).static_order():
        if stage != INITIAL_DATA:
            levels[stage] = 1 + max((levels[other] for other in reads[stage]), default=0)
    counts = Counter(stage_of.values())
    order = sorted(reads, key=lambda stage: (levels[stage], stage))
    return Workflow(
        instance.name,
        tuple(
            Stage(
                name=stage,
                level=levels[stage],
                tasks=counts[stage],
                predecessors={other: () for other in (INITIAL_DATA, *order) if other in reads[stage]},
            )
            for stage in order
        ),
        instance.description,
    )


def _rows(
    instance: Instance,
    stage_of: Mapping[str, str],
    access_bytes: int,
    dropped: Counter[str],
    flagged: Counter[str],
) -> Iterator[dict[str, object]]:
    writers = {file: stage_of[name] for name, task in instance.tasks.items() for file in task.outputs}
    for name, task in instance.tasks.items():
        stage = stage_of[name]
        compute_s = _compute_s(task, flagged)
        start_s = task.start_s if not math.isnan(compute_s) else math.nan
        parts = (("read", task.inputs, task.read_bytes), ("write", task.outputs, task.written_bytes))
        for operation, files, moved_bytes in parts:
            sizes = {file: instance.sizes[file] for file in files if instance.sizes.get(file, 0) > 0}
            dropped[UNSIZED] += sum(file not in instance.sizes for file in files)
            dropped[EMPTY] += sum(instance.sizes.get(file) == 0 for file in files)
            if moved_bytes == 0:
                dropped[IDLE] += len(sizes)
                continue
            told = moved_bytes > 0
            flagged[ASSUMED] += 0 if told else len(sizes)
            volume_bytes = moved_bytes if told else sum(sizes.values())
            for file, size_bytes in sizes.items():
                producer = writers.get(file, INITIAL_DATA) if operation == "read" else ""
                yield {
                    "operation": operation,
                    "stage": stage,
                    "task": name,
                    "file": file,
                    "producer": "" if producer == stage else producer,
                    "volume_bytes": volume_bytes,
                    # What a task moved in all is told, not how it is spread: by the sizes, then.
                    "file_bytes": volume_bytes * size_bytes / sum(sizes.values()),
                    "file_size_bytes": size_bytes,
                    "access_bytes": float(min(access_bytes, volume_bytes)),
                    "accesses": float(math.ceil(volume_bytes / access_bytes)),
                    "io_s": math.nan,
                    "compute_s": compute_s,
                    "start_s": start_s,
                    "end_s": start_s + task.runtime_s,
                }


def _compute_s(task: InstanceTask, flagged: Counter[str]) -> float:
    if not task.runtime_s > 0:
        flagged[UNTIMED] += 1
        return math.nan
    if math.isnan(task.cpu_share):
        flagged[MIXED] += 1
        return task.runtime_s
    return task.runtime_s * task.cpu_share
