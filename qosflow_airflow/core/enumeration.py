"""The best configurations by looking at all of them.

Makespans do not depend on the request: they are evaluated once and kept while they fit in memory, so that the
next request costs a few comparisons. Larger spaces are evaluated again for every request, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.ranked_layouts import RankedLayouts

MAX_KEPT_BYTES = 128 << 20
"""Memory for evaluated blocks; beyond it, blocks are evaluated again for every request."""
FIRST = 8
"""How many candidates are ordered at first; eight times as many whenever these run out."""


@dataclass
class Enumeration:
    """Every configuration of a model, evaluated."""

    model: Model
    method: str = "enumeration"

    def __post_init__(self) -> None:
        space = self.model.space
        per_layout = len(self.model.scales) * 8 + len(self.model.workflow.stages)
        self._is_kept = space.size * per_layout <= MAX_KEPT_BYTES
        self._kept: list[RankedLayouts] | None = None

    def in_order(self, request: QoSRequest) -> Iterator[Candidate]:
        """Yield all configurations that meet ``request``, best first."""
        wanted, given = FIRST, 0
        while True:
            found = self._best(request, wanted)
            yield from found[given:]
            if len(found) < wanted:
                return
            given, wanted = len(found), wanted * 8

    def lower_bound(self, request: QoSRequest) -> None:
        """Return ``None``: nothing is ever missed."""

    def _best(self, request: QoSRequest, wanted: int) -> list[Candidate]:
        best: list[Candidate] = []
        for block in self._blocks():
            worst = best[-1].objective if len(best) == wanted else np.inf
            best = sorted([*best, *block.best(request, wanted, worst)])[:wanted]
        return best

    def _blocks(self) -> Iterator[RankedLayouts]:
        if not self._is_kept:
            yield from self._evaluate()
            return
        if self._kept is None:
            self._kept = list(self._evaluate())
        yield from self._kept

    def _evaluate(self) -> Iterator[RankedLayouts]:
        makespans = [self.model.makespans(nodes) for nodes in self.model.nodes]
        for layouts in self.model.space.blocks():
            for at_nodes in makespans:
                fits = at_nodes.capacity
                over = fits.fit(layouts).over if fits.limited else None
                yield RankedLayouts.of(self.model, at_nodes, layouts, over)
