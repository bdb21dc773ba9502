"""What a run of one configuration measured, in the parts of which a makespan is made, and what was off.

The parts are measured as they are estimated: a stage's wall clock runs from its first task's start to its
last one's end, and is split in the proportion in which its tasks read, computed and wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.core.workflow import Edge

TERMS = ("volume", "rate", "compute", "schedule")
"""Where an error comes from, in the order in which measured values are put in the place of estimates.

``volume``: other bytes than foreseen; ``rate``: the same bytes at another speed; ``compute``: the time that
is not I/O; ``schedule``: what no stage and no copy accounts for, starting and ending processes and comparing
copies with their source among it.
"""
IO = ("read", "write")


class StageParts(NamedTuple):
    """The parts of a stage's wall clock, seconds, and what its tasks moved, bytes."""

    read_s: float
    compute_s: float
    write_s: float
    read_bytes: float
    write_bytes: float


class CopyParts(NamedTuple):
    """A copy's seconds until its data was on the storage, and its bytes."""

    seconds: float
    bytes: float


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a layout: its wall clock, its stages, and its copies by edge."""

    layout: tuple[int, ...]
    makespan_s: float
    stages: Mapping[str, StageParts]
    copies: Mapping[Edge, CopyParts] = field(default_factory=dict)


def stage_parts(records: Iterable[Mapping[str, Any]]) -> dict[str, StageParts]:
    """Return the parts of each stage from its tasks' records.

    A record has ``stage``, ``start_s``, ``end_s``, ``read_s``, ``write_s``, and ``files``: each with its
    ``operation`` and the ``bytes`` that were moved.
    """
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_stage.setdefault(record["stage"], []).append(record)
    return {stage: _parts(tasks) for stage, tasks in by_stage.items()}


def _parts(tasks: Sequence[Mapping[str, Any]]) -> StageParts:
    wall_s = max(task["end_s"] for task in tasks) - min(task["start_s"] for task in tasks)
    busy_s = sum(task["end_s"] - task["start_s"] for task in tasks)
    share = {name: sum(task[f"{name}_s"] for task in tasks) / busy_s if busy_s > 0 else 0.0 for name in IO}
    files = [file for task in tasks for file in task["files"]]
    moved = {name: sum(file["bytes"] for file in files if file["operation"] == name) for name in IO}
    compute_s = wall_s * max(0.0, 1.0 - share["read"] - share["write"])
    return StageParts(wall_s * share["read"], compute_s, wall_s * share["write"], *map(float, moved.values()))


def error_terms(
    makespans: MakespanModel, run: MeasuredRun, foreseen_bytes: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    """Return predicted minus measured seconds by :data:`TERMS`; they add up to the whole difference.

    Measured values take the place of estimates one kind after the other, and each kind's term is by how much
    that shortens the makespan. ``foreseen_bytes`` is what the model has each stage ``read`` and ``write``,
    by stage and operation.
    """
    times = makespans.times
    volumes = _with_volumes(makespans, run, foreseen_bytes)
    rates = _with_io(makespans, run)
    compute = _with_compute(rates, run)
    seconds = [_makespan_s(makespans, one, run.layout) for one in (times, volumes, rates, compute)]
    steps = [*seconds, run.makespan_s]
    return {term: steps[at] - steps[at + 1] for at, term in enumerate(TERMS)}


def storage_makespan_s(makespans: MakespanModel, run: MeasuredRun) -> float:
    """Return what the run would have taken with its own I/O and copies, and computing as foreseen."""
    return _makespan_s(makespans, _with_io(makespans, run), run.layout)


def _makespan_s(makespans: MakespanModel, times: StageTimes, layout: Sequence[int]) -> float:
    return float(replace(makespans, times=times).makespan_s(np.array([layout], dtype=np.int8))[0])


def _with_volumes(
    makespans: MakespanModel, run: MeasuredRun, foreseen_bytes: Mapping[tuple[str, str], float]
) -> StageTimes:
    """Return the stage times with I/O in proportion to the bytes that were really moved."""
    times = makespans.times
    read, write = times.read.copied(), times.write.copied()
    for s, stage in enumerate(times.stages):
        parts = run.stages[stage]
        for table, name, moved in ((read, "read", parts.read_bytes), (write, "write", parts.write_bytes)):
            foreseen = foreseen_bytes.get((stage, name), 0.0)
            if foreseen > 0:
                table.seconds[s, run.layout[s]] *= moved / foreseen
    into, out = times.stage_in.copied(), times.stage_out.copied()
    for e, edge in enumerate(times.edges):
        foreseen = 0.0 if times.edge_bytes is None else float(times.edge_bytes[e])
        if edge in run.copies and foreseen > 0:
            for leg, (a, b) in charged(makespans, e, run.layout):
                (into if leg == "in" else out).seconds[e, a, b] *= run.copies[edge].bytes / foreseen
    return replace(times, read=read, write=write, stage_in=into, stage_out=out)


def _with_io(makespans: MakespanModel, run: MeasuredRun) -> StageTimes:
    """Return the stage times with the measured seconds of reads, writes and copies.

    What was measured holds what was waited for; and so does then what stays as foreseen.
    """
    times = _as_paid(makespans, run.layout)
    read, write = times.read.copied(), times.write.copied()
    for s, stage in enumerate(times.stages):
        read.seconds[s, run.layout[s]] = run.stages[stage].read_s
        write.seconds[s, run.layout[s]] = run.stages[stage].write_s
    into, out = times.stage_in.copied(), times.stage_out.copied()
    for e, edge in enumerate(times.edges):
        left_s = run.copies[edge].seconds if edge in run.copies else 0.0
        # One copy is made, whatever the legs that the rules charge for it.
        for leg, (a, b) in charged(makespans, e, run.layout):
            (into if leg == "in" else out).seconds[e, a, b] = left_s
            left_s = 0.0
    return replace(times, read=read, write=write, stage_in=into, stage_out=out)


def _as_paid(makespans: MakespanModel, layout: Sequence[int]) -> StageTimes:
    """Return the stage times with what a layout pays, waiting for its own other work included."""
    times, charges = makespans.times, makespans.charges(np.array([layout], dtype=np.int8))
    read, write, compute = (table.copied() for table in (times.read, times.write, times.compute))
    stages = np.arange(len(times.stages))
    read.seconds[stages, list(layout)], write.seconds[stages, list(layout)] = (
        charges.read[0],
        charges.write[0],
    )
    compute.seconds[:] = charges.compute[0]
    into, out = times.stage_in.copied(), times.stage_out.copied()
    for e in range(len(times.edges)):
        for leg, tiers in charged(makespans, e, layout):
            paid, table = (charges.into, into) if leg == "in" else (charges.out_of, out)
            table.seconds[(e, *tiers)] = paid[0, e]
    return replace(times, read=read, write=write, compute=compute, stage_in=into, stage_out=out, demand=None)


def _with_compute(times: StageTimes, run: MeasuredRun) -> StageTimes:
    compute = times.compute.copied()
    for s, stage in enumerate(times.stages):
        compute.seconds[s] = run.stages[stage].compute_s
    return replace(times, compute=compute)


def charged(makespans: MakespanModel, e: int, layout: Sequence[int]) -> list[tuple[str, tuple[int, int]]]:
    """Return the copies that the rules charge to edge ``e`` of a layout, as (leg, tiers)."""
    home, index = makespans.catalog.index[makespans.catalog.home], makespans.workflow.index
    edge = makespans.times.edges[e]
    source, destination = (layout[index[name]] if name in index else home for name in edge)
    return makespans.charged_legs(edge, int(source), int(destination))
