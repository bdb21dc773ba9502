"""A small complete bundle on disk: a traced workflow, the rates of its tiers, and transfer times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.support.plain_table import Row

WORKFLOW = """\
name: line
description: Split, merge, report
stages:
  split:
    tasks: 4
    predecessors: {initial_data: {inputs: ["in_.*"]}}
    outputs: ["part_.*"]
  merge:
    tasks: 2
    predecessors: [split]
    outputs: ["sum_.*"]
    final: true
  report:
    tasks: 1
    predecessors: [merge]
    outputs: ["report"]
"""
TIERS = """\
home: disk
tiers:
  disk:  {shared: true, mount: disk}
  tmpfs: {shared: false, mount: tmpfs, memory: true}
  ssd:   {shared: false, mount: ssd}
node: {price_per_hour: 0.5, slots: 4}
"""
RATES_MIB_S = {
    ("read", "disk"): 100,
    ("write", "disk"): 50,
    ("read", "tmpfs"): 2000,
    ("write", "tmpfs"): 1000,
    ("read", "ssd"): 500,
    ("write", "ssd"): 400,
    ("cp", "disk-tmpfs"): 80,
    ("cp", "tmpfs-disk"): 40,
    ("cp", "disk-ssd"): 70,
    ("cp", "ssd-disk"): 40,
    ("scp", "tmpfs-tmpfs"): 90,
    ("scp", "ssd-ssd"): 60,
}
# operation, stage, task, file, MiB, producer
MOVED = [
    *(("read", "split", f"s{i}", f"in_{i}", 200, "initial_data") for i in range(4)),
    *(("write", "split", f"s{i}", f"part_{i}", 100, "") for i in range(4)),
    *(("read", "merge", f"m{i // 2}", f"part_{i}", 200, "split") for i in range(4)),
    *(("write", "merge", f"m{i}", f"sum_{i}", 50, "") for i in range(2)),
    *(("read", "report", "r", f"sum_{i}", 100, "merge") for i in range(2)),
    ("write", "report", "r", "report", 1, ""),
]
TASKS = {"split": 4, "merge": 2, "report": 1}
COMPUTE_S = {"split": 3.0, "merge": 2.0, "report": 0.5}


def write_bundle(folder: Path, *, without: Sequence[str] = (), **replaced: str) -> Path:
    """Write the bundle's files, leaving some out; ``workflow``, ``tiers`` … replace the text of one."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "workflow.yaml": replaced.get("workflow", WORKFLOW),
        "tiers.yaml": replaced.get("tiers", TIERS),
        "observations.csv": replaced.get("observations", observations()),
        "profile.csv": replaced.get("profile", profile()),
    }
    for name, text in texts.items():
        if name not in without:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


Moved = tuple[str, str, str, str, int, str]


def observations(nodes: Sequence[int] = (2, 4)) -> str:
    """The trace, taken on the first of ``nodes`` and to be projected to all of them."""
    return observations_of(MOVED, TASKS, COMPUTE_S, nodes)


def observations_of(
    moved: Sequence[Moved],
    tasks_of: Mapping[str, int],
    compute_s: Mapping[str, float],
    nodes: Sequence[int] = (2, 4),
) -> str:
    """The trace of what was moved by stages of so many tasks and seconds of compute."""
    header = (
        "operation,randomOffset,transferSize,aggregateFilesizeMB,numTasks,parallelism,totalTime,numNodesList,"
        "numNodes,tasksPerNode,trMiB,storageType,opCount,taskName,taskPID,fileName,stageOrder,prevTask,"
        "computeSeconds,startTime,endTime"
    )
    lines = [header]
    for operation, stage, task, file, mib, producer in moved:
        tasks = tasks_of[stage]
        run = f'{tasks},{tasks},1.0,"{list(nodes)}",{nodes[0]},{-(-tasks // nodes[0])},{mib},disk,{mib}'
        what = f"{stage},{task},{file},1,{producer},{compute_s[stage]},1000.0,1010.0"
        lines.append(f"{operation},0,1048576,{mib},{run},{what}")
    return "\n".join(lines) + "\n"


def profile(rates: Mapping[tuple[str, str], float] = RATES_MIB_S) -> str:
    """Rates at 1 to 4 nodes, 1 to 4 tasks per node, and any volume that the trace moves."""
    header = (
        "operation,randomOffset,transferSize,aggregateFilesizeMB,numTasks,totalTime,numNodes,tasksPerNode,"
        "parallelism,trMiB,storageType"
    )
    lines = [
        f"{operation},0,1048576,{mib},{n * tasks},-1,{n},{tasks},{n * tasks},{rate * n},{tiers}"
        for (operation, tiers), rate in rates.items()
        for n in (1, 2, 4)
        for tasks in (1, 2, 4)
        for mib in (1, 1000)
    ]
    return "\n".join([header, *lines]) + "\n"


def write_transfer_times(path: Path, rows: Iterable[Row]) -> Path:
    """Write a table of transfer times as the public artifact does."""
    header = (
        "producer,producerStageOrder,consumer,consumerStageOrder,producerStorageType,producerTasksPerNode,"
        "consumerStorageType,consumerTasksPerNode,SPM,estT_prod,estT_cons"
    )
    lines = [
        f"{row.producer},1,{row.consumer},2,{row.producer_tier},{row.producer_tasks_per_node},"
        f"{row.consumer_tier},{row.consumer_tasks_per_node},1.0,{row.producer_s},{row.consumer_s}"
        for row in rows
    ]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
