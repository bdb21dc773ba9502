"""What a stage's tier means to a region: critical, flexible or constrained, by swapping it for the others.

Critical: the stage is on the critical path of most of the region's configurations, and swapping its tier
changes the makespan by more than the tolerance. Flexible: whatever its tier, the makespan stays within the
tolerance. Constrained: neither; its tier matters only together with others, or a swap was not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.exceptions import SpaceTooLargeError

Role = Literal["critical", "flexible", "constrained"]
CRITICAL_SHARE = 0.8
"""A critical stage is on the critical path of at least this share of a region's configurations."""
EXAMINED = 2000
"""Configurations of a region whose swaps are looked up at most: a share is then known to about 1 %."""


class StageRole(NamedTuple):
    """The role of a stage in a region, and why.

    ``path_share`` is the share of configurations with the stage on their critical path. ``swap_change`` is
    the relative change of the makespan at the tier that changes it most, the median over configurations;
    ``None`` where no swap leads to another measured configuration of the space.
    """

    role: Role
    path_share: float
    swap_change: float | None


Evaluate = Callable[[Layouts], tuple[NDArray[np.bool_], FloatArray]]
"""Tells of layouts whether they belong to the space, and what they take (NaN where that is unknown)."""


class SpaceIndex:
    """Makespans of a space by layout: what a configuration becomes when one stage moves to another tier.

    Where ``layouts`` are only a sample of the space, ``evaluate`` tells of the others.
    """

    def __init__(
        self, layouts: Layouts, makespan_s: FloatArray, tiers: int, evaluate: Evaluate | None = None
    ) -> None:
        self.tiers = tiers
        self.evaluate = evaluate
        self.weights = _weights(layouts.shape[1], tiers)
        self.code = np.asarray(layouts @ self.weights, dtype=np.int64)
        self.order = np.argsort(self.code, kind="stable")
        self.sorted_code = self.code[self.order]
        self.layouts = layouts
        self.makespan_s = makespan_s

    def swaps(self, rows: IntArray, stage: int) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return, rows x tiers, makespans with ``stage`` on each tier instead, and whether that is a swap.

        A swap leads to another configuration of the space; its makespan may be NaN (unmeasured).
        """
        own = self.layouts[rows, stage].astype(np.int64)
        tier = np.arange(self.tiers)
        wanted = self.code[rows, None] + (tier - own[:, None]) * self.weights[stage]
        at = np.searchsorted(self.sorted_code, wanted)
        found = self.order[np.minimum(at, len(self.order) - 1)]
        known = (self.code[found] == wanted) & self._are_swaps(rows, stage, found)
        exists = known & (tier != own[:, None])
        swapped_s = np.where(exists, self.makespan_s[found], np.nan)
        if self.evaluate is not None and not known.all():
            row, moved_to = np.nonzero(~known)
            swapped = self.layouts[rows[row]]
            swapped[:, stage] = moved_to
            exists[row, moved_to], swapped_s[row, moved_to] = self.evaluate(swapped)
        return swapped_s, exists

    def _are_swaps(self, rows: IntArray, stage: int, found: IntArray) -> NDArray[np.bool_]:
        """Return whether the layouts found differ from those of ``rows`` by ``stage`` only, on each tier."""
        same = np.ones(found.shape, dtype=bool)
        for s in range(self.layouts.shape[1]):
            own = np.arange(self.tiers) if s == stage else self.layouts[rows, s, None]
            same &= self.layouts[found, s] == own
        return same


def stage_role(
    index: SpaceIndex, rows: IntArray, stage: int, path_share: float, tolerance: float
) -> StageRole:
    """Return the role of ``stage`` in the region of ``rows``, all measured.

    ``tolerance`` is a share of the makespan.
    """
    makespan_s = index.makespan_s[rows, None]
    swapped_s, is_swap = index.swaps(rows, stage)
    known = is_swap & ~np.isnan(swapped_s)
    if not known.any():
        return StageRole("constrained", path_share, None)
    # From 0 s to any makespan is a change by all of it.
    whole_s = np.where(makespan_s > 0, makespan_s, swapped_s)
    change = np.zeros(swapped_s.shape)
    np.divide(np.abs(swapped_s - makespan_s), whole_s, out=change, where=known & (whole_s > 0))
    largest = change.max(axis=1)[known.any(axis=1)]
    typical = float(np.median(largest))
    if path_share >= CRITICAL_SHARE and typical > tolerance:
        return StageRole("critical", path_share, typical)
    if (largest <= tolerance).all() and (known == is_swap).all():
        return StageRole("flexible", path_share, typical)
    return StageRole("constrained", path_share, typical)


def layout_codes(layouts: Layouts, tiers: int) -> IntArray:
    """Return one number per layout, equal for equal layouts only.

    Raises
    ------
    SpaceTooLargeError
        When the space has more layouts than there are numbers.
    """
    return np.asarray(layouts @ _place_values(layouts.shape[1], tiers), dtype=np.int64)


def _weights(stages: int, tiers: int) -> IntArray:
    """Return place values, or where no number is large enough, random ones whose sums are rarely equal."""
    if tiers**stages <= np.iinfo(np.int64).max:
        return _place_values(stages, tiers)
    return np.random.default_rng(stages).integers(1, np.iinfo(np.int64).max, stages) | 1


def _place_values(stages: int, tiers: int) -> IntArray:
    if tiers**stages > np.iinfo(np.int64).max:
        raise SpaceTooLargeError(
            f"{tiers} tiers on {stages} stages make more layouts than can be numbered",
            cure="Allow fewer tiers.",
        )
    return tiers ** np.arange(stages - 1, -1, -1, dtype=np.int64)
