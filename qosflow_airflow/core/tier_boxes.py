"""Sets of tiers per stage, and what is known of them while they are searched."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.bounds import BoolArray
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray


class Box(NamedTuple):
    """Layouts at one scale (its position): the tiers that each stage may take, S x T."""

    scale: int
    tiers: BoolArray

    @property
    def size(self) -> float:
        """How many layouts there are in it; a float, as there may be very many."""
        return float(np.prod(self.tiers.sum(axis=1), dtype=np.float64))

    @property
    def first(self) -> tuple[int, ...]:
        """The layout that is enumerated first."""
        return tuple(self.tiers.argmax(axis=1).tolist())

    def layouts(self) -> Layouts:
        """Return every layout in the order of the space."""
        choices = [np.flatnonzero(row).astype(np.int8) for row in self.tiers]
        grid = np.indices([len(choice) for choice in choices]).reshape(len(choices), -1)
        columns = [choice[at] for choice, at in zip(choices, grid, strict=True)]
        return np.ascontiguousarray(np.stack(columns, axis=1))


class Cells(NamedTuple):
    """Bounds of a box with one of some stages (F) on one tier, F x T; infinite where that cannot be.

    ``least`` is the bound of the whole box: its objective and its makespan in seconds.
    """

    stages: list[int]
    objective: FloatArray
    makespan_s: FloatArray
    least: tuple[float, float]

    @classmethod
    def of(cls, tiers: BoolArray, stages: list[int], objective: FloatArray, makespan_s: FloatArray) -> Cells:
        """Leave out what is not among ``tiers``; what no tier of some stage can do without bounds all."""
        objective = np.where(tiers[stages], objective, np.inf)
        makespan_s = np.where(tiers[stages], makespan_s, np.inf)
        least = float(objective.min(axis=1).max()), float(makespan_s.min(axis=1).max())
        return cls(stages, objective, makespan_s, least)

    def reaching(self, tiers: BoolArray, objective: float) -> BoolArray:
        """Return the tiers of a box that a configuration of at most ``objective`` may take."""
        left = tiers.copy()
        left[self.stages] &= self.objective <= objective
        return left

    def promising(self, tiers: BoolArray) -> NDArray[np.int8]:
        """Return the layout (S) of each stage's tier with the lowest bound."""
        layout = tiers.argmax(axis=1)
        layout[self.stages] = self.objective.argmin(axis=1)
        return np.asarray(layout, dtype=np.int8)

    def least_of(self, at: int, tiers: BoolArray) -> tuple[float, float]:
        """Return the bound of a part of the box; what it leaves of the stage at ``at`` raises it."""
        left = tiers[self.stages[at]]
        objective, makespan_s = self.least
        return (
            max(objective, float(self.objective[at, left].min())),
            max(makespan_s, float(self.makespan_s[at, left].min())),
        )

    def most_telling(self) -> int:
        """Return the position of the stage whose tiers raise the bound most, the first on ties."""
        least = self.least[0]
        allowed = np.isfinite(self.objective)
        # A tier that is impossible, or far too long, tells no more than one that doubles the bound.
        raised = np.where(allowed, np.minimum(self.objective - least, least), 0.0)
        choices = allowed.sum(axis=1)
        return int(np.argmax(np.where(choices > 1, raised.sum(axis=1) / choices, -1.0)))


def only(tiers: BoolArray, stage: int, tier: int) -> BoolArray:
    """Return the tiers with one stage on one of them."""
    fixed = tiers.copy()
    fixed[stage] = False
    fixed[stage, tier] = True
    return fixed


def single(tiers: BoolArray, layout: tuple[int, ...]) -> BoolArray:
    """Return the tiers with every stage on one of them."""
    fixed = np.zeros_like(tiers)
    fixed[np.arange(len(layout)), layout] = True
    return fixed


def neighbours(layout: tuple[int, ...], tiers: BoolArray) -> Layouts:
    """Return the layouts that differ from one by the tier of one stage, and itself."""
    stages, choices = np.nonzero(tiers)
    near = np.tile(np.array(layout, dtype=np.int8), (len(stages), 1))
    near[np.arange(len(stages)), stages] = choices
    return near
