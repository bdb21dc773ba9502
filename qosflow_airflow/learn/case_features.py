"""What a run, or a stage of one, is compared by: a vector of numbers, the same ones for every workflow.

Amounts are logarithms (``ln_``), so that twice as much is as far at every size; shares are 0 to 1. NaN is not
known. A run and a stage have the same features, each of its own extent:

=====================  =================================================  ================================
feature                of a run                                           of a stage
=====================  =================================================  ================================
``ln_stages``          stages of the workflow                             the same
``depth``              levels of the workflow                             the same
``ln_width``           tasks of its widest stage                          the same
``position``           0.5                                                its level over the levels
``ln_tasks``           tasks of all stages                                its own
``fan_in``             edges between stages, per stage                    stages that it reads from
``ln_read_bytes``      bytes along edges into stages                      along those into it
``ln_written_bytes``   bytes that stages write                            that it writes
``local_share``        share of stages on local tiers                     0 or 1
``memory_share``       share of stages on tiers in memory                 0 or 1
``ln_io_rate``         bytes over predicted seconds of reading, writing   the same
``ln_nodes``           nodes                                              the same
``ln_tasks_per_node``  tasks per node of its widest stage                 its own
``load``               how busy the platform was, 0 to 1                  the same
``ln_predicted_s``     predicted makespan                                 predicted seconds of its work
``compute_share``      predicted computing over all predicted work        the same
``copy_share``         predicted copies over work and copies              those into it
=====================  =================================================  ================================
"""

from __future__ import annotations

import math

import numpy as np

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA
from qosflow_airflow.learn.modelled_run import ModelledRun

FEATURES = (
    "ln_stages",
    "depth",
    "ln_width",
    "position",
    "ln_tasks",
    "fan_in",
    "ln_read_bytes",
    "ln_written_bytes",
    "local_share",
    "memory_share",
    "ln_io_rate",
    "ln_nodes",
    "ln_tasks_per_node",
    "load",
    "ln_predicted_s",
    "compute_share",
    "copy_share",
)
"""The names, in the order of the vector."""


def run_features(run: ModelledRun) -> FloatArray:
    """Return the vector of a whole run; its ``observed_s`` is not looked at."""
    workflow, tiers = run.makespans.workflow, run.makespans.catalog.tiers
    nodes = run.makespans.times.nodes
    widest = max(workflow.stages, key=lambda stage: stage.tasks)
    inner = [edge for edge in workflow.edges if {INITIAL_DATA, FINAL_DATA}.isdisjoint(edge)]
    read_bytes, written_bytes = _volumes(run)
    charged = run.charges
    io_s = float((charged.read + charged.write).sum())
    return _vector(
        run,
        position=0.5,
        ln_tasks=_ln(sum(stage.tasks for stage in workflow.stages)),
        fan_in=len(inner) / len(workflow.stages),
        ln_read_bytes=_ln(read_bytes.sum()),
        ln_written_bytes=_ln(written_bytes.sum()),
        local_share=float(np.mean([not tiers[t].shared for t in run.layout])),
        memory_share=float(np.mean([tiers[t].memory for t in run.layout])),
        ln_io_rate=_ln(_ratio(read_bytes.sum() + written_bytes.sum(), io_s)),
        ln_tasks_per_node=_ln(widest.tasks_per_node(nodes)),
        ln_predicted_s=_ln(run.predicted_s),
        compute_share=_share(np.nan_to_num(charged.compute).sum(), io_s),
        copy_share=_share(float((charged.into + charged.out_of).sum()), run.predicted_stage_s.sum()),
    )


def stage_features(run: ModelledRun) -> FloatArray:
    """Return the vectors of a run's stages, stages x features."""
    workflow, tiers = run.makespans.workflow, run.makespans.catalog.tiers
    nodes, edges = run.makespans.times.nodes, run.makespans.times.edges
    read_bytes, written_bytes = _volumes(run)
    charged = run.charges
    rows = []
    for s, stage in enumerate(workflow.stages):
        tier = tiers[run.layout[s]]
        io_s = float(charged.read[0, s] + charged.write[0, s])
        into = [e for e, edge in enumerate(edges) if edge.consumer == stage.name]
        copies_s = float((charged.into[0, into] + charged.out_of[0, into]).sum())
        rows.append(
            _vector(
                run,
                position=stage.level / workflow.levels[-1],
                ln_tasks=_ln(stage.tasks),
                fan_in=float(len(stage.stage_predecessors)),
                ln_read_bytes=_ln(read_bytes[s]),
                ln_written_bytes=_ln(written_bytes[s]),
                local_share=float(not tier.shared),
                memory_share=float(tier.memory),
                ln_io_rate=_ln(_ratio(read_bytes[s] + written_bytes[s], io_s)),
                ln_tasks_per_node=_ln(stage.tasks_per_node(nodes)),
                ln_predicted_s=_ln(run.predicted_stage_s[s]),
                compute_share=_share(float(np.nan_to_num(charged.compute[0, s])), io_s),
                copy_share=_share(copies_s, run.predicted_stage_s[s]),
            )
        )
    return np.stack(rows)


def _vector(run: ModelledRun, **own: float) -> FloatArray:
    """Return a vector of what is the same for a run and its stages, and of what is not."""
    workflow = run.makespans.workflow
    own |= {
        "ln_stages": _ln(len(workflow.stages)),
        "depth": float(len(workflow.levels)),
        "ln_width": _ln(max(stage.tasks for stage in workflow.stages)),
        "ln_nodes": _ln(run.makespans.times.nodes),
        "load": math.nan if run.load is None else run.load,
    }
    return np.array([own[name] for name in FEATURES])


def _volumes(run: ModelledRun) -> tuple[FloatArray, FloatArray]:
    """Return the bytes that each stage reads and writes, NaN where not known."""
    times = run.makespans.times
    unknown = np.full(len(times.stages), math.nan)
    if times.edge_bytes is None:
        read_bytes = unknown
    else:
        consumers = [edge.consumer for edge in times.edges]
        read_bytes = np.array(
            [
                sum(
                    moved
                    for moved, consumer in zip(times.edge_bytes.tolist(), consumers, strict=True)
                    if consumer == stage
                )
                for stage in times.stages
            ]
        )
    return read_bytes, unknown if times.output_bytes is None else times.output_bytes


def _ln(value: float) -> float:
    """Return the logarithm, NaN of what has none."""
    return math.log(value) if value > 0 and math.isfinite(value) else math.nan


def _ratio(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 else math.nan


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else math.nan
