"""What a rule may ask of a layout: the tier of a stage, which data moves between tiers, what stages share.

A tree splits a space by such questions. Moves are what the model charges for, so that a rule which names them
says in a few words what boxes of tiers say in many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.workflow import Workflow

BoolArray = NDArray[np.bool_]
Column = Callable[[str], NDArray[np.int8]]
"""From a stage's name to the position of its tier in each layout."""


class OnTier(NamedTuple):
    """Whether every one of ``stages``, or only some, is on ``tier``."""

    stages: tuple[str, ...]
    tier: str
    every: bool = True

    def holds(self, column: Column, tier_names: Sequence[str]) -> BoolArray:
        """Return, per layout, whether it holds."""
        tier = tier_names.index(self.tier)
        return _combined([column(stage) == tier for stage in self.stages], self.every)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :func:`condition_from_json`."""
        return {"stages": list(self.stages), "tier": self.tier, "every": self.every}


class Moves(NamedTuple):
    """Whether the data of every one of ``edges`` (producer, consumer), or only some, moves between tiers."""

    edges: tuple[tuple[str, str], ...]
    every: bool = True

    def holds(self, column: Column, tier_names: Sequence[str]) -> BoolArray:
        """Return, per layout, whether it holds."""
        return _combined([column(a) != column(b) for a, b in self.edges], self.every)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :func:`condition_from_json`."""
        return {"moves": [list(edge) for edge in self.edges], "every": self.every}


Condition = OnTier | Moves


def condition_from_json(value: Mapping[str, Any]) -> Condition:
    """Build a condition from its JSON."""
    if "moves" in value:
        return Moves(tuple((a, b) for a, b in value["moves"]), value["every"])
    return OnTier(tuple(value["stages"]), value["tier"], value["every"])


def tiers_of_stages(stage_names: Sequence[str], tier_names: Sequence[str]) -> tuple[Condition, ...]:
    """Return each stage on each tier, the stages varying slowest."""
    return tuple(OnTier((stage,), tier) for stage in stage_names for tier in tier_names)


def structure_of(workflow: Workflow, tier_names: Sequence[str]) -> tuple[Condition, ...]:
    """Return what the workflow itself suggests to ask beside the tiers of stages.

    Whether an edge's data moves; of a stage with several inputs (or outputs), whether some or all of them do;
    of a level with several stages, whether some or all are on one tier.
    """
    edges = sorted(
        {(edge.producer, edge.consumer) for edge in workflow.edges}
        & {(a, b) for a in workflow.stage_names for b in workflow.stage_names}
    )
    found: list[Condition] = [Moves((edge,)) for edge in edges]
    for stage in workflow.stage_names:
        for end in (1, 0):
            mine = tuple(edge for edge in edges if edge[end] == stage)
            if len(mine) > 1:
                found += [Moves(mine, every=False), Moves(mine)]
    by_level = sorted(workflow.stages, key=lambda stage: stage.level)
    for _, members in groupby(by_level, key=lambda stage: stage.level):
        names = tuple(stage.name for stage in members)
        if len(names) > 1:
            found += [OnTier(names, tier, every) for tier in tier_names for every in (False, True)]
    return tuple(found)


def truths(
    conditions: Sequence[Condition],
    layouts: Layouts,
    stage_names: Sequence[str],
    tier_names: Sequence[str],
) -> BoolArray:
    """Return layouts x conditions: whether each holds."""
    found = np.empty((len(layouts), len(conditions)), dtype=bool)
    index = {stage: s for s, stage in enumerate(stage_names)}
    for c, condition in enumerate(conditions):
        found[:, c] = condition.holds(lambda stage: layouts[:, index[stage]], tier_names)
    return found


def _combined(parts: Sequence[BoolArray], every: bool) -> BoolArray:
    found = parts[0]
    for part in parts[1:]:
        found = found & part if every else found | part
    return found
