"""What every configuration of one scale takes, and its region: orderings are judged on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.regions import RegionSet
from qosflow_airflow.core.schedule import Schedule
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.exceptions import QoSFlowError

NO_REGION = -1
"""Stands for the region where a model has none."""


@dataclass(frozen=True)
class SpaceCosts:
    """The valid configurations (C) of one node count, over S stages, in the order of enumeration.

    ``layouts`` is C x S. ``makespan_s`` holds C seconds, NaN where a time is unknown or the data does not fit
    on its tiers. ``split_s`` is C x 4 seconds (:data:`~qosflow_airflow.core.schedule.SPLIT`) on the critical
    path. ``region`` holds each configuration's region, :data:`NO_REGION` where the model has none.
    ``provenance`` and ``over_capacity`` say what its makespan rests on, and whether its data does not fit.
    """

    nodes: int
    layouts: Layouts
    makespan_s: FloatArray
    split_s: FloatArray
    region: IntArray
    provenance: NDArray[np.int8]
    over_capacity: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.layouts)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which configurations have a makespan."""
        return np.asarray(~np.isnan(self.makespan_s))


def space_costs(model: Model, nodes: int) -> SpaceCosts:
    """Evaluate every valid configuration at ``nodes`` nodes, or a sample where there are too many."""
    makespans = model.makespans(nodes)
    regions = model.scale(nodes).regions
    blocks = [
        _costs_of(makespans, regions, layouts, makespans.schedule(layouts))
        for layouts in model.space.representatives()
    ]
    return SpaceCosts(nodes, *(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def _costs_of(
    makespans: MakespanModel, regions: RegionSet | None, layouts: Layouts, schedule: Schedule
) -> tuple[NDArray[Any], ...]:
    over = makespans.capacity.fit(layouts).over
    return (
        layouts,
        np.where(over, np.nan, schedule.makespan_s),
        schedule.split_s,
        regions.classify(layouts) if regions else np.full(len(layouts), NO_REGION, dtype=np.int64),
        schedule.provenance,
        over,
    )


def scales_of(model: Model) -> Iterator[SpaceCosts]:
    """Yield the configurations of each scale, by ascending node count.

    Raises
    ------
    QoSFlowError
        When the model has no scales.
    """
    if not model.scales:
        raise QoSFlowError(
            f"the model of {model.workflow.name!r} has no scales", cure="Build it again with `--scales`."
        )
    for nodes in sorted(model.nodes):
        yield space_costs(model, nodes)
