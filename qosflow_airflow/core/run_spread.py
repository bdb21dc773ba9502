"""By how much whole runs differ from what is foretold of them, as finished runs of one node count tell."""

from __future__ import annotations

from typing import NamedTuple

NORMAL_HALF_WIDTH = 1.6448536269514722
"""Half-width of a normal distribution's interval of 90 %, in standard deviations."""


class RunSpread(NamedTuple):
    """How far foretold makespans were off: nine runs of ten within ``log_half_width`` (ln seconds).

    ``overhead_half_width_s`` is the same of the seconds beyond the makespan. ``runs`` is how many runs tell
    it, ``whose`` which ones, in words. ``tried`` are the stages with the tiers on which these runs had them:
    where a configuration has nothing else, this takes the place of the spread of its stage times. Of other
    configurations it only says how sure a makespan is at most; so of all, where ``tried`` is empty.
    """

    log_half_width: float
    overhead_half_width_s: float
    runs: int
    whose: str
    tried: frozenset[tuple[str, str]] = frozenset()

    @property
    def log_sd(self) -> float:
        """The half width as a standard deviation."""
        return self.log_half_width / NORMAL_HALF_WIDTH

    @property
    def overhead_sd_s(self) -> float:
        """The half width of the overhead as a standard deviation."""
        return self.overhead_half_width_s / NORMAL_HALF_WIDTH
