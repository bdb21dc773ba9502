"""How much an answer depends on its node count and on how fast each tier is.

Everything is computed again with the changed times, for the very layout that was chosen; nothing is a
derivative. A slower tier takes :data:`SLOWER` more time for every read and write on it, and for every copy
from it or to it: the whole copy, because it is not known which of its ends limits it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from qosflow_airflow.core.candidate import Candidate, Search, objective_of
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.space import Layouts

SLOWER = 0.10
"""The share of time that a slower tier takes more."""
MAX_RIVALS = 32
"""Configurations among which another answer is looked for; where there are more, it may not be known."""
SAID_FROM = 0.01
"""A change of the makespan below this share is not worth a sentence."""


def sensitivity(
    model: Model, request: QoSRequest, in_order: Iterator[Candidate], search: Search | None = None
) -> dict[str, Any]:
    """Return how much the answer depends on node count and tiers, as plain JSON.

    ``in_order`` yields the answer and then the configurations next to it, best first; only those are taken
    that could become the answer. ``search`` is what found them, where it may have given up.
    """
    chosen = next(in_order)
    slowed_model = _SlowedModel(model, request)
    slowed = [slowed_model.candidates([chosen], t)[0] for t in range(len(model.catalog.names))]
    bound = max(then.objective for then in slowed)
    rivals = _Rivals(slowed_model, chosen, in_order, bound)
    missed = None if search is None else search.lower_bound(request)
    rivals.is_complete = rivals.is_complete and (missed is None or missed > bound)
    tiers = {
        tier: {
            "slower": SLOWER,
            "makespan_s": then.makespan_s,
            "change_s": then.makespan_s - chosen.makespan_s,
            "share": then.makespan_s / chosen.makespan_s - 1 if chosen.makespan_s > 0 else 0.0,
            "same_answer": rivals.same_answer(t, then),
        }
        for t, (tier, then) in enumerate(zip(model.catalog.names, slowed, strict=True))
    }
    nodes = _other_nodes(model, chosen)
    return {"nodes": nodes, "tiers": tiers, "words": [*_tier_words(tiers), *_node_words(nodes)]}


def slower(makespans: MakespanModel, tier: int, share: float = SLOWER) -> MakespanModel:
    """Return the same where reads, writes and copies of a tier take ``share`` more time."""
    times = makespans.times
    own = np.ones(len(times.tiers))
    own[tier] += share
    copies = np.maximum(own[:, None], own[None, :])
    tables = {"read": own, "write": own, "stage_in": copies, "stage_out": copies}
    slowed = {
        name: replace(getattr(times, name), seconds=getattr(times, name).seconds * factor)
        for name, factor in tables.items()
    }
    return replace(makespans, times=replace(times, **slowed))


def _other_nodes(model: Model, chosen: Candidate) -> dict[str, dict[str, float] | None]:
    """Return what the layout takes at the other node counts; ``None`` where not known or over capacity."""
    layouts = _layouts([chosen])
    found: dict[str, dict[str, float] | None] = {}
    for nodes in model.nodes:
        if nodes == chosen.nodes:
            continue
        makespans = model.makespans(nodes)
        seconds = float(makespans.makespan_s(layouts)[0])
        if np.isnan(seconds) or makespans.capacity.fit(layouts).over[0]:
            found[str(nodes)] = None
        else:
            found[str(nodes)] = {"makespan_s": seconds, "change_s": seconds - chosen.makespan_s}
    return found


class _SlowedModel:
    """A model with a slower tier, any one of them."""

    def __init__(self, model: Model, request: QoSRequest) -> None:
        self.model = model
        self.request = request
        self._makespans: dict[tuple[int, int], MakespanModel] = {}

    def candidates(self, candidates: Sequence[Candidate], tier: int) -> list[Candidate]:
        """Return candidates of one node count as they are when a tier is slower."""
        nodes, layouts = candidates[0].nodes, _layouts(candidates)
        if (nodes, tier) not in self._makespans:
            self._makespans[nodes, tier] = slower(self.model.makespans(nodes), tier)
        makespan_s = self._makespans[nodes, tier].makespan_s(layouts)
        times = self.model.scale(nodes).times
        objective = objective_of(self.model.catalog, self.request, times, layouts, makespan_s)
        return [
            Candidate(value, seconds, nodes, candidate.layout)
            for value, seconds, candidate in zip(
                objective.tolist(), makespan_s.tolist(), candidates, strict=True
            )
        ]


class _Rivals:
    """The configurations that could become the answer when a tier is slower.

    Nothing gets faster then. So only what is now no worse than the answer is then (``bound``) can overtake
    it. Where work shares devices, what waits for slower work may in theory end sooner; it is not looked for.
    """

    def __init__(
        self, slowed: _SlowedModel, chosen: Candidate, others: Iterator[Candidate], bound: float
    ) -> None:
        self.slowed = slowed
        self.chosen = chosen
        # How sure each of them would be is not drawn again.
        self.is_complete = slowed.request.confidence is None
        self.others: list[Candidate] = []
        for other in others if self.is_complete else ():
            if other.objective > bound:
                break
            if len(self.others) == MAX_RIVALS:
                self.is_complete = False
                break
            self.others.append(other)

    def same_answer(self, tier: int, then: Candidate) -> bool | None:
        """Return whether the answer, ``then`` with a slower tier, stays the answer; ``None``: not known."""
        if then == self.chosen:
            return True
        if not self._meets([then]):
            return False
        for group in _by_nodes([other for other in self.others if other.objective <= then.objective]):
            if any(other < then for other in self._meets(self.slowed.candidates(group, tier))):
                return False
        return True if self.is_complete else None

    def _meets(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return those of one node count that keep the limits of the request."""
        model, layouts = self.slowed.model, _layouts(candidates)
        times = model.scale(candidates[0].nodes).times
        makespan_s = np.array([candidate.makespan_s for candidate in candidates])
        slacks = self.slowed.request.slacks(model.space, layouts, times, makespan_s).values()
        return [
            candidate for row, candidate in enumerate(candidates) if all(slack[row] >= 0 for slack in slacks)
        ]


def _by_nodes(best: Sequence[Candidate]) -> list[list[Candidate]]:
    in_order = sorted(best, key=lambda candidate: candidate.nodes)
    return [list(group) for _, group in groupby(in_order, key=lambda candidate: candidate.nodes)]


def _layouts(candidates: Sequence[Candidate]) -> Layouts:
    return np.array([candidate.layout for candidate in candidates], dtype=np.int8)


def _tier_words(tiers: dict[str, dict[str, Any]]) -> list[str]:
    """Say which tiers matter, the one that matters most first."""
    in_order = sorted(tiers.items(), key=lambda item: -item[1]["share"])
    words = []
    for tier, found in in_order:
        if found["share"] >= SAID_FROM:
            other = ", and changes the answer" if found["same_answer"] is False else ""
            words.append(f"{SLOWER:.0%} slower {tier} costs {found['share']:.1%}{other}.")
    return words or [f"{SLOWER:.0%} slower storage costs less than {SAID_FROM:.0%}, whichever tier it is."]


def _node_words(nodes: dict[str, dict[str, float] | None]) -> list[str]:
    words = []
    for count, found in nodes.items():
        if found is not None:
            change = f"{abs(found['change_s']):.1f} s {'more' if found['change_s'] > 0 else 'less'}"
            words.append(
                f"The same tiers on {count} node{'' if count == '1' else 's'}: "
                f"{found['makespan_s']:.1f} s, {change}."
            )
    return words
