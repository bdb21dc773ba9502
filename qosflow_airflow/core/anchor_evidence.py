"""Anchors from a traced run: how long each stage really read and wrote, and what the rates say of that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from qosflow_airflow.core.anchoring import Anchor
from qosflow_airflow.core.estimate import MIB, io_query
from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.profile import RateQuery, StorageProfile
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import Stage, Workflow

OPERATIONS = ("read", "write")


class Evidence(NamedTuple):
    """The anchors that a trace gives; where there are none, ``missing`` says why."""

    anchors: tuple[Anchor, ...]
    missing: str = ""


class _Traced(NamedTuple):
    stage: Stage
    operation: str
    tier: str
    tasks: int
    seconds: float
    slots: int
    query: RateQuery


def anchor_evidence(
    workflow: Workflow, catalog: TierCatalog, observations: IOObservations, profile: StorageProfile
) -> Evidence:
    """Return an anchor per stage, operation, tier and node count of the trace that has times and rates.

    ``observations`` are those of the runs as traced, not brought to another scale. A tier of the trace is
    known by its name in the catalog or in the profile.
    """
    if not observations.nodes_known:
        return Evidence((), "the trace does not say at which of its node counts it ran")
    frame = observations.frame[observations.frame["io_s"] > 0]
    if frame.empty:
        return Evidence((), "the trace has no times of reads and writes")
    traced: list[_Traced] = []
    for (label, nodes), run in frame.groupby(["tier", "nodes"], sort=True):
        tier = _tier(catalog, str(label))
        if tier is not None:
            traced += _of_run(workflow, catalog, tier, int(str(nodes)), run)
    if not traced:
        names = ", ".join(sorted({repr(str(name)) for name in frame["tier"].unique()}))
        return Evidence((), f"no tier is known by the name of the trace's: {names}")
    rates = profile.rates_of([one.query for one in traced])
    anchors = []
    for one, found in zip(traced, rates, strict=True):
        rated_s = one.query.volume_bytes / MIB / found.mib_s
        if rated_s > 0:
            slot_bytes = one.query.volume_bytes / one.slots
            place = (one.tier, one.query.source, int(one.query.nodes), one.tasks)
            times = (one.seconds, rated_s, slot_bytes)
            anchors.append(Anchor(one.stage.name, one.operation, *place, *times))
    return Evidence(tuple(anchors), "" if anchors else "the tiers of the trace were not measured")


def _tier(catalog: TierCatalog, label: str) -> str | None:
    if label in catalog.index:
        return label
    return next((tier.name for tier in catalog.tiers if tier.profile_name == label), None)


def _of_run(
    workflow: Workflow, catalog: TierCatalog, tier: str, nodes: int, run: pd.DataFrame
) -> list[_Traced]:
    volumes = TracedVolumes(workflow, IOObservations(run))
    found = []
    for stage in workflow.stages:
        slots = catalog.node.busy_slots(stage.tasks, nodes)
        for operation in OPERATIONS:
            query = io_query(volumes, catalog, stage, operation, tier, nodes)
            rows = run[(run["stage"] == stage.name) & (run["operation"] == operation)]
            tasks = rows.drop_duplicates("task")
            if query is not None:
                seconds = stage_io_s(tasks, slots)
                found.append(_Traced(stage, operation, tier, len(tasks), seconds, slots, query))
    return found


def stage_io_s(tasks: pd.DataFrame, slots: int) -> float:
    """Return the seconds that a stage's tasks spent in one operation, as part of the stage's wall clock.

    With start and end times it is the operation's share of the wall clock, in the proportion of all tasks'
    time, as :meth:`~qosflow_airflow.core.volumes.TracedVolumes.compute` has it for the rest: the parts add up
    to the wall clock. Without them it is what ``slots`` tasks at a time need: the longest task at least.
    """
    total_s = float(tasks["io_s"].sum())
    busy_s = float((tasks["end_s"] - tasks["start_s"]).sum(min_count=len(tasks)))
    if np.isnan(busy_s) or busy_s <= 0:
        return max(float(tasks["io_s"].max()), total_s / slots)
    return float(tasks["end_s"].max() - tasks["start_s"].min()) * min(total_s / busy_s, 1.0)
