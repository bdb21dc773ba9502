"""Estimates held against what a run was seen to do: traced times beside what the rates say of them.

Rates of a benchmark tell what the storage can do, not what a program gets out of it. An anchor is one stage's
reads or writes in one run: the seconds they took and the seconds that the rates say. What carries over was
chosen by the error on runs left out (docs/estimation.md):

- on the same tier, at any node count: seconds beyond the rates' are the program's own, and stay, in
  proportion to what one task at a time handles;
- on the same tier and node count: what was faster than its rates (a cache, mostly) stays so by the same
  factor;
- on another tier: the seconds beyond the rates' of reads stay, those of writes do not.

There is no shrinkage: with any, runs left out were predicted worse, also from a single task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

REPEAT_LOG_SD = 0.3
"""How far another run on the same tier and node count lies from the anchored time: the standard deviation of
the natural logarithm, over runs left out."""
OTHER_NODES_LOG_SD = 0.8
OTHER_TIER_LOG_SD = 0.5
"""What is added for a time that is carried to another node count, and to another tier."""
SAME = 1e-6


class Anchor(NamedTuple):
    """One stage's reads or writes in a traced run.

    ``tier`` is where they took place and ``profile`` its name in the storage profile; ``tasks`` is how many
    traced tasks tell it; ``rated_s`` is what the rates say for the same transfer; ``slot_bytes`` is what all
    tasks moved over how many of them run at once.
    """

    stage: str
    operation: str
    tier: str
    profile: str
    nodes: int
    tasks: int
    traced_s: float
    rated_s: float
    slot_bytes: float

    @property
    def excess_s(self) -> float:
        """The traced seconds that the rates do not explain, at least 0."""
        return max(self.traced_s - self.rated_s, 0.0)


class Rated(NamedTuple):
    """A time that the rates say, and what of: the stage's transfer on a tier at a node count."""

    stage: str
    operation: str
    profile: str
    nodes: int
    slot_bytes: float
    seconds: float
    log_sd: float


class Anchored(NamedTuple):
    """A time after anchoring; ``observed`` says that just this transfer was traced, on this tier."""

    seconds: float
    log_sd: float
    observed: bool


def anchored(rated: Rated, anchors: Iterable[Anchor]) -> Anchored | None:
    """Return a time as the anchors of its stage and operation have it, ``None`` where they say nothing.

    Anchors on the same tier come first, and of these the ones at the nearest node count; several of them
    count alike, on a logarithmic scale.
    """
    if not rated.seconds > 0:
        return None
    known = [a for a in anchors if (a.stage, a.operation) == (rated.stage, rated.operation)]
    here = [anchor for anchor in known if anchor.profile == rated.profile]
    nearest = _nearest(here or known, rated.nodes)
    if not any(_tells(anchor, rated) for anchor in nearest):
        return None
    carried = [_carried(rated, anchor) for anchor in nearest]
    return Anchored(
        math.exp(sum(math.log(one.seconds) for one in carried) / len(carried)),
        max((one.log_sd for one in carried), key=lambda value: math.inf if math.isnan(value) else value),
        all(one.observed for one in carried),
    )


def _nearest(anchors: Sequence[Anchor], nodes: int) -> list[Anchor]:
    if not anchors:
        return []
    away = [abs(math.log(anchor.nodes / nodes)) for anchor in anchors]
    return [anchor for anchor, far in zip(anchors, away, strict=True) if far <= min(away) + SAME]


def _tells(anchor: Anchor, rated: Rated) -> bool:
    """Whether anything of an anchor carries over to a time of its stage and operation."""
    if anchor.profile != rated.profile:
        return anchor.operation == "read" and anchor.excess_s > 0
    return anchor.nodes == rated.nodes or anchor.excess_s > 0


def _carried(rated: Rated, anchor: Anchor) -> Anchored:
    """Return what one anchor says of a time; the time itself where nothing of it carries over.

    The rates' own uncertainty counts where they enter: not at all where the anchor was traced, because the
    rates' error is then the same on both sides.
    """
    if not _tells(anchor, rated):
        return Anchored(rated.seconds, rated.log_sd, False)
    same_tier, same_nodes = anchor.profile == rated.profile, anchor.nodes == rated.nodes
    growth = rated.slot_bytes / anchor.slot_bytes
    if anchor.traced_s >= anchor.rated_s:
        seconds = rated.seconds + anchor.excess_s * growth
    else:
        seconds = rated.seconds * anchor.traced_s / anchor.rated_s
    if same_tier and same_nodes:
        return Anchored(seconds, REPEAT_LOG_SD, abs(math.log(growth)) < SAME)
    doubt = rated.log_sd * rated.seconds / seconds
    nodes_log_sd = 0.0 if same_nodes else OTHER_NODES_LOG_SD
    tier_log_sd = 0.0 if same_tier else OTHER_TIER_LOG_SD
    return Anchored(seconds, math.hypot(REPEAT_LOG_SD, nodes_log_sd, tier_log_sd, doubt), False)


def anchors_to_json(anchors: Iterable[Anchor]) -> list[dict[str, Any]]:
    """Return anchors as plain JSON, the inverse of :func:`anchors_from_json`."""
    return [anchor._asdict() for anchor in anchors]


def anchors_from_json(values: Iterable[Mapping[str, Any]]) -> tuple[Anchor, ...]:
    """Return the anchors that :func:`anchors_to_json` was given."""
    return tuple(Anchor(**one) for one in values)


def traced_tasks(anchors: Iterable[Anchor]) -> int:
    """Return how many traced tasks stand behind anchors; one that reads and writes counts once."""
    tasks: dict[tuple[str, str, int], int] = {}
    for anchor in anchors:
        place = (anchor.stage, anchor.tier, anchor.nodes)
        tasks[place] = max(anchor.tasks, tasks.get(place, 0))
    return sum(tasks.values())
