"""Configurations: a node count and one tier per stage, and the space of all that are possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan_rules import MakespanRules
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Workflow
from qosflow_airflow.exceptions import SpaceTooLargeError

Layouts = NDArray[np.int8]
"""Configurations x stages: the position of each stage's tier in the catalog."""

MAX_LAYOUTS = 1 << 20
"""Layouts that are enumerated at most: what fits in memory, and in one part of a store, at once."""
SAMPLE = 20_000
"""Layouts that stand for a space that is not enumerated."""


class Configuration(NamedTuple):
    """A node count and one tier per stage."""

    nodes: int
    tiers: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"nodes": self.nodes, "tiers": dict(self.tiers)}


@frozen
class ConfigurationSpace:
    """Every assignment of the catalog's tiers to the workflow's stages that the rules allow.

    Layouts are enumerated in blocks, the first stage varying slowest and tiers in catalog order, so that
    memory stays bounded whatever the size of the space.
    """

    workflow: Workflow
    catalog: TierCatalog
    rules: MakespanRules

    @property
    def size(self) -> int:
        """Layouts before the rules take any away."""
        return int(len(self.catalog.tiers) ** len(self.workflow.stages))

    def blocks(self, layouts_per_block: int = 1 << 16) -> Iterator[Layouts]:
        """Yield the valid layouts, at most ``layouts_per_block`` at a time.

        Raises
        ------
        SpaceTooLargeError
            When the space holds more than ``MAX_LAYOUTS`` layouts.
        """
        tiers, stages = len(self.catalog.tiers), len(self.workflow.stages)
        if self.size > MAX_LAYOUTS:
            raise SpaceTooLargeError(
                f"{tiers} tiers on {stages} stages make {self.size:,} layouts, more than {MAX_LAYOUTS:,}",
                cure="Allow fewer tiers, or look at a sample of them.",
            )
        powers = tiers ** np.arange(stages - 1, -1, -1, dtype=np.int64)
        for start in range(0, self.size, layouts_per_block):
            numbers = np.arange(start, min(start + layouts_per_block, self.size), dtype=np.int64)
            layouts = (numbers[:, None] // powers % tiers).astype(np.int8)
            valid = layouts[self.valid(layouts)]
            if len(valid):
                yield valid

    @property
    def is_sampled(self) -> bool:
        """Whether the space has too many layouts, so that a sample stands for them."""
        return self.size > MAX_LAYOUTS

    def representatives(self) -> Iterator[Layouts]:
        """Yield all valid layouts in blocks, or the sample that stands for them."""
        if self.is_sampled:
            yield self.sample(SAMPLE)
        else:
            yield from self.blocks()

    def sample(self, count: int, seed: int = 0) -> Layouts:
        """Return at most ``count`` distinct valid layouts in the order of the space, always the same ones.

        Stage by stage, each allowed tier is as likely as the others: where the rules allow every layout, all
        of them are equally likely.
        """
        generator = np.random.default_rng(seed)
        index, tiers = self.workflow.index, len(self.catalog.tiers)
        local = ~np.array(self.catalog.shared)
        between = local[:, None] & local & ~np.eye(tiers, dtype=bool)
        layouts = np.zeros((count, len(index)), dtype=np.int8)
        for name in self.workflow.topological_order:
            likely = generator.random((count, tiers))
            if not self.rules.moves_between_local_tiers:
                for producer in self.workflow.stage(name).stage_predecessors:
                    likely[between[layouts[:, index[producer]]]] = -1.0
            layouts[:, index[name]] = likely.argmax(axis=1)
        return np.unique(layouts, axis=0)

    def valid(self, layouts: Layouts) -> NDArray[np.bool_]:
        """Return, per layout, whether the rules allow its moves."""
        allowed = np.ones(len(layouts), dtype=bool)
        if self.rules.moves_between_local_tiers:
            return allowed
        local = ~np.array(self.catalog.shared)
        for edge in self.workflow.edges:
            if edge.producer == INITIAL_DATA or edge.consumer not in self.workflow.index:
                continue
            source = layouts[:, self.workflow.index[edge.producer]]
            destination = layouts[:, self.workflow.index[edge.consumer]]
            allowed &= ~(local[source] & local[destination] & (source != destination))
        return allowed

    def layouts(self) -> Layouts:
        """Return all valid layouts in one array."""
        return np.concatenate(list(self.blocks()))

    def layout(self, tiers: Mapping[str, str]) -> Layouts:
        """Return the one-row layout of ``tiers``, a tier for every stage."""
        row = [self.catalog.index[self.catalog.tier(tiers[name]).name] for name in self.workflow.stage_names]
        return np.array([row], dtype=np.int8)

    def configuration(self, nodes: int, layout: NDArray[np.int8]) -> Configuration:
        """Return one row of a layout array in words."""
        names = self.catalog.names
        return Configuration(
            nodes, {stage: names[tier] for stage, tier in zip(self.workflow.stage_names, layout, strict=True)}
        )
