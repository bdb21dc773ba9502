"""The best configurations by looking at all of them.

Makespans do not depend on the request: they are evaluated once and kept while they fit in memory, so that the
next request costs a few comparisons. Larger spaces are evaluated again for every request, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qosflow_airflow.core.candidate import Candidate, feasible_makespan_s, rank
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, StageTimes

MAX_KEPT_BYTES = 128 << 20
"""Memory for evaluated blocks; beyond it, blocks are evaluated again for every request."""
FIRST = 8
"""How many candidates are ordered at first; eight times as many whenever these run out."""


class _Block(NamedTuple):
    """Evaluated layouts (C x S) at one node count; a makespan of NaN is unknown, or does not fit."""

    times: StageTimes
    layouts: Layouts
    makespan_s: FloatArray


@dataclass
class Enumeration:
    """Every configuration of a model, evaluated."""

    model: Model
    method: str = "enumeration"

    def __post_init__(self) -> None:
        space = self.model.space
        per_layout = len(self.model.scales) * 8 + len(self.model.workflow.stages)
        self._is_kept = space.size * per_layout <= MAX_KEPT_BYTES
        self._kept: list[_Block] | None = None

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
            best = sorted([*best, *self._best_of(block, request, wanted)])[:wanted]
        return best

    def _best_of(self, block: _Block, request: QoSRequest, wanted: int) -> list[Candidate]:
        times, layouts, makespan_s = block
        rows, objective = rank(self.model, request, times, layouts, makespan_s, wanted)
        return [
            Candidate(float(objective[r]), float(makespan_s[r]), times.nodes, tuple(layouts[r].tolist()))
            for r in rows
        ]

    def _blocks(self) -> Iterator[_Block]:
        if not self._is_kept:
            yield from self._evaluate()
            return
        if self._kept is None:
            self._kept = list(self._evaluate())
        yield from self._kept

    def _evaluate(self) -> Iterator[_Block]:
        makespans = [self.model.makespans(nodes) for nodes in self.model.nodes]
        for layouts in self.model.space.blocks():
            for at_nodes in makespans:
                yield _Block(at_nodes.times, layouts, feasible_makespan_s(at_nodes, layouts))
