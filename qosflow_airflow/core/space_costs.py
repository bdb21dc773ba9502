"""What every configuration of one scale takes, and its region: orderings are judged on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.model import Model
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
    """

    nodes: int
    layouts: Layouts
    makespan_s: FloatArray
    split_s: FloatArray
    region: IntArray

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
    layouts, makespan_s, split_s, region = [], [], [], []
    for block in model.space.representatives():
        schedule = makespans.schedule(block)
        over = makespans.capacity.fit(block).over
        layouts.append(block)
        makespan_s.append(np.where(over, np.nan, schedule.makespan_s))
        split_s.append(schedule.split_s)
        region.append(
            regions.classify(block) if regions else np.full(len(block), NO_REGION, dtype=np.int64),
        )
    return SpaceCosts(
        nodes,
        np.concatenate(layouts),
        np.concatenate(makespan_s),
        np.concatenate(split_s),
        np.concatenate(region),
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
