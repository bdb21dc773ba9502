"""What is left to decide once a run has begun and tiers have failed: a model of nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.model import Model
from qosflow_airflow.core.transfer import Provenance, StageTimes, TimeTable


def model_of_the_rest(model: Model, nodes: int, begun: Mapping[str, str], failed: Collection[str]) -> Model:
    """Return the model of a run of ``nodes`` nodes whose stages ``begun`` keep their tiers.

    Every other stage may take every tier but those that ``failed``. What must not be chosen has no known
    time, so that no request, however loose, leads to it. A stage that has begun counts as long as it was
    predicted: makespans stay those of the whole run.

    Raises
    ------
    QoSFlowError
        When the model knows no such number of nodes.
    TierError, WorkflowError
        When a tier or stage is not the model's.
    """
    for stage in begun:
        model.workflow.stage(stage)
    for name in (*begun.values(), *failed):
        model.catalog.tier(name)
    scale = model.scale(nodes)
    return replace(model, scales=(replace(scale, times=_without(scale.times, begun, failed)),))


def _without(times: StageTimes, begun: Mapping[str, str], failed: Collection[str]) -> StageTimes:
    closed = np.array(
        [
            [tier != begun[stage] if stage in begun else tier in failed for tier in times.tiers]
            for stage in times.stages
        ]
    )
    return replace(times, read=_unknown(times.read, closed), write=_unknown(times.write, closed))


def _unknown(table: TimeTable, closed: NDArray[np.bool_]) -> TimeTable:
    return replace(
        table,
        seconds=np.where(closed, np.nan, table.seconds),
        provenance=np.where(closed, np.int8(Provenance.UNKNOWN), table.provenance),
        log_sd=np.where(closed, np.nan, table.log_sd),
    )
