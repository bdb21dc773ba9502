"""What is known of a finished run, and the same beside a model that foretells it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.learn.modelled_run import ModelledRun


class FinishedRun(NamedTuple):
    """What is known of one run.

    ``stage_s`` is the wall clock of each stage whose tasks all succeeded by themselves at the first try; NaN
    where it cannot be. ``copies_s`` are the seconds of the copies before and after a stage. ``measured_s`` is
    from the first start to the last end. ``at_s`` is when the run was recommended, seconds since the epoch.
    ``moved_bytes`` is what its tasks read and wrote. ``load`` is how busy their hosts were, in the unit
    ``load_source``. ``dag_versions`` and ``images`` tell which code they ran. ``None`` and empty: not known.
    ``left_out`` says why something of it, or all of it, does not teach. ``foretold_s`` is what its answer
    foretold of stages that ran in other numbers of tasks than the model has: they are held against that.
    """

    run: str
    at_s: float
    nodes: int
    tiers: Mapping[str, str]
    stage_s: Mapping[str, float]
    copies_s: Mapping[str, tuple[float, float]] = {}
    measured_s: float | None = None
    left_out: tuple[str, ...] = ()
    moved_bytes: float | None = None
    load: float | None = None
    load_source: str | None = None
    dag_versions: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    foretold_s: Mapping[str, float] = {}


def waiting_s(workflow: Workflow, run: FinishedRun) -> float | None:
    """Return the seconds of a run beyond its critical path of measured stages and copies.

    ``None`` where not every stage is known, or the run as a whole is not.
    """
    taken_s = [run.stage_s.get(stage, math.nan) for stage in workflow.stage_names]
    if run.measured_s is None or not all(map(math.isfinite, taken_s)):
        return None
    finish: dict[str, float] = {}
    longest_s = 0.0
    for name in workflow.topological_order:
        before_s, after_s = run.copies_s.get(name, (0.0, 0.0))
        ready_s = max((finish[one] for one in workflow.stage(name).stage_predecessors), default=0.0)
        finish[name] = ready_s + before_s + run.stage_s[name]
        longest_s = max(longest_s, finish[name] + after_s)
    return max(0.0, run.measured_s - longest_s)


def modelled_run(
    model: Model,
    run: str,
    nodes: int,
    tiers: Mapping[str, str],
    took: FinishedRun | None = None,
    load: float | None = None,
    foretold_s: Mapping[str, float] | None = None,
) -> ModelledRun:
    """Return a run of ``tiers`` on ``nodes`` beside its model, with what it ``took``.

    ``load`` and ``foretold_s`` (of stages in other numbers of tasks) are those of a run to come.
    """
    workflow, catalog = model.workflow, model.catalog
    makespans = model.makespans(nodes)
    layout = tuple(catalog.index[tiers[stage]] for stage in workflow.stage_names)
    foretold_s = (foretold_s or {}) if took is None else took.foretold_s
    if foretold_s:
        makespans = _as_foretold(makespans, layout, foretold_s)
    stage_s = {stage: seconds for stage, seconds in (took.stage_s if took else {}).items() if seconds > 0}
    return ModelledRun(
        run=run,
        workflow=workflow.name,
        platform="+".join(catalog.names),
        makespans=makespans,
        layout=layout,
        observed_s=math.nan if took is None else _working_s(workflow, took),
        stage_s=stage_s,
        load=load if took is None else took.load,
        foretold=frozenset(foretold_s),
    )


def _as_foretold(
    makespans: MakespanModel, layout: Sequence[int], foretold_s: Mapping[str, float]
) -> MakespanModel:
    """Return a model in which stages of a layout take ``foretold_s``, with the parts of their estimate."""
    times = makespans.times
    seconds = {name: getattr(times, name).seconds.copy() for name in ("read", "write", "compute")}
    # What was foretold holds what a stage waits for others, and so does what a layout pays.
    charges = makespans.charges(np.array([layout], dtype=np.int8))
    estimated_s = (charges.read + np.nan_to_num(charges.compute) + charges.write)[0]
    for stage, taken_s in foretold_s.items():
        s = times.stages.index(stage)
        cells = {"read": (s, layout[s]), "write": (s, layout[s]), "compute": (s,)}
        for name, at in cells.items():
            if estimated_s[s] > 0:
                seconds[name][at] *= taken_s / estimated_s[s]
            else:
                seconds[name][at] = taken_s if name == "read" else 0.0
    tables = {name: replace(getattr(times, name), seconds=found) for name, found in seconds.items()}
    return makespans.with_work(replace(times, **tables))


def _working_s(workflow: Workflow, run: FinishedRun) -> float:
    """Return what a run took beyond the time in which Airflow started and followed its tasks."""
    if run.measured_s is None:
        return math.nan
    return run.measured_s - (waiting_s(workflow, run) or 0.0)
