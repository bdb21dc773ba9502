"""Layouts at one node count in the order of preference, evaluated only as far as that order needs it.

How long work waits for other work takes a hundred times as long to find out as what it takes at least. So
the least is looked at of all layouts, and waiting only of those that come first, until nothing is left that
may come before them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.candidate import Candidate, rank
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, IntArray

LOOKED_AT = 64
"""Of so many layouts it is found out at first what they take; of twice as many whenever these do not do."""


@dataclass
class Effort:
    """What finding out has cost: about so many numbers were looked at."""

    numbers: float = 0.0


@dataclass
class RankedLayouts:
    """Layouts (C x S) at one node count; a makespan of NaN is unknown, or must not be chosen.

    Makespans that are not ``exact`` are what they are at least; to make one exact counts as ``effort``.
    """

    model: Model
    makespans: MakespanModel
    layouts: Layouts
    makespan_s: FloatArray
    exact: NDArray[np.bool_]
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def of(
        cls,
        model: Model,
        makespans: MakespanModel,
        layouts: Layouts,
        excluded: NDArray[np.bool_] | None = None,
        effort: Effort | None = None,
    ) -> Self:
        """Evaluate layouts as far as it is quick; those ``excluded`` are never chosen."""
        least_s = makespans.least_s(layouts)
        if excluded is not None:
            least_s = np.where(excluded, np.nan, least_s)
        exact = np.isnan(least_s) | (makespans.costs.contention is None)
        return cls(model, makespans, layouts, least_s, exact, effort or Effort())

    def best(self, request: QoSRequest, wanted: int, worst: float = np.inf) -> list[Candidate]:
        """Return the best that meet ``request``, those above an objective of ``worst`` left out."""
        looked_at = max(wanted, LOOKED_AT)
        while True:
            rows, objective = self._rank(request, looked_at)
            rows = rows[objective[rows] <= worst]
            if self.exact[rows[:wanted]].all():
                return [self._candidate(row, objective) for row in rows[:wanted].tolist()]
            self._make_exact(rows[~self.exact[rows]])
            looked_at *= 2

    def first(self, request: QoSRequest, at: int = 0) -> tuple[Candidate, bool] | None:
        """Return what none but ``at`` others can come before, and whether its makespan is exact; or none."""
        rows, objective = self._rank(request, at + 1)
        if len(rows) <= at:
            return None
        return self._candidate(int(rows[at]), objective), bool(self.exact[rows[at]])

    def look_at_more(self, request: QoSRequest) -> None:
        """Find out what some of the layouts take that may come first."""
        rows, _ = self._rank(request, None)
        self._make_exact(rows[~self.exact[rows]][:LOOKED_AT])

    def known(self, request: QoSRequest) -> list[Candidate]:
        """Return those that meet ``request`` and whose makespan is exact, best first."""
        rows, objective = self._rank(request, None)
        return [self._candidate(row, objective) for row in rows[self.exact[rows]].tolist()]

    def each(self, request: QoSRequest) -> list[Candidate | None]:
        """Return each layout as a candidate, ``None`` where it does not meet the request."""
        self._make_exact(np.flatnonzero(~self.exact))
        rows, objective = self._rank(request, None)
        found: list[Candidate | None] = [None] * len(self.layouts)
        for row in rows.tolist():
            found[row] = self._candidate(row, objective)
        return found

    def _rank(self, request: QoSRequest, wanted: int | None) -> tuple[IntArray, FloatArray]:
        return rank(self.model, request, self.makespans.times, self.layouts, self.makespan_s, wanted)

    def _candidate(self, row: int, objective: FloatArray) -> Candidate:
        layout = tuple(self.layouts[row].tolist())
        nodes = self.makespans.times.nodes
        return Candidate(float(objective[row]), float(self.makespan_s[row]), nodes, layout)

    def _make_exact(self, rows: IntArray) -> None:
        contention = self.makespans.costs.contention
        if contention is not None and len(rows):
            self.makespan_s[rows] = self.makespans.makespan_s(self.layouts[rows])
            self.exact[rows] = True
            self.effort.numbers += len(rows) * contention.work
