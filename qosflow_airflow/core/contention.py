"""How much longer work takes because other work of the same run uses the same devices and processors.

Stages and copies that are at work at the same time share what they need: a tier, and the processors. Each
takes a *share* of a resource while it has it to itself, from 0 (it never touches it) to 1 (it leaves nothing
to others). As long as the shares of all that is at work add up to 1 at most, nobody waits. Beyond, the part
of each that uses the resource takes longer, by the same factor for all, so that the resource is used up:
processor sharing, the fluid limit of queues that are served in turns (L. Kleinrock, Queueing Systems 2,
1976, chapter 4). The factor is 1 + (L - 1) / m, with the sum L of the shares and their mean m, weighted by
themselves: exact where all are alike, and up to a quarter too small where a dozen very different ones meet.

Many configurations are followed at once, from one end of a stage or copy to the next. Shares are whole
multiples of 2^-20, so that sums of them and of their squares are exact whatever the order of adding: a
configuration takes the same to the last bit in whichever company it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.transfer import FloatArray

BLOCK = 512
"""Configurations that are followed at once: their state stays in a processor's cache."""
OTHER_STEPS = 16
"""How many numbers more than one per resource are about looked at, per piece of work, from end to end."""
NEVER_S = 1e300
SAME = 1e-12
"""What is stretched by no more than this is not: it is rounding."""
_GRAIN = 1 << 20


class Stretch(NamedTuple):
    """How many times longer than alone each stage (C x S) and the copies of each edge (C x E) take."""

    stages: FloatArray
    edges: FloatArray


def as_shares(values: FloatArray) -> FloatArray:
    """Return shares as multiples of 2^-20 from 0 to 1; what is not known takes nothing."""
    return np.asarray(np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * _GRAIN) / _GRAIN)


@frozen
class Contention:
    """Which work waits for which, and what it shares.

    Axes: S stages, E edges, T tiers, R resources: the tiers, and last the processors. ``ends`` are producer
    and consumer of each edge, -1 for the outside, which is on the tier ``home``. ``stage_shares`` is
    S x T x R, by the stage's tier, and ``edge_shares`` E x T x T x R, by the tiers of both ends.
    """

    ends: tuple[tuple[int, int], ...]
    home: int
    stage_shares: FloatArray
    edge_shares: FloatArray

    @property
    def work(self) -> float:
        """How many numbers are about looked at to follow one configuration: each end may change all else."""
        work = len(self.ends) + len(self.stage_shares)
        return float(work * work * (self.stage_shares.shape[2] + OTHER_STEPS))

    @cached_property
    def matters(self) -> bool:
        """Whether any two pieces of work that take a share of anything can be at work at once."""
        busy = np.concatenate([self.edge_shares.any(axis=(1, 2, 3)), self.stage_shares.any(axis=(1, 2))])
        after = self._precedes | self._precedes.T | np.eye(len(busy), dtype=bool)
        return bool((~after & np.outer(busy, busy)).any())

    def stretch(self, tiers: Sequence[NDArray[np.int64]], seconds: FloatArray) -> Stretch:
        """Return how many times longer each piece of work takes than alone.

        ``tiers`` holds the tier of each stage, C numbers each. ``seconds`` (E + S x C) is what the copies of
        each edge and then each stage take alone; a configuration with a time that is not known is not
        stretched.
        """
        work, count = seconds.shape
        found = np.ones((work, count))
        for at in range(0, count, BLOCK):
            part = slice(at, at + BLOCK)
            known = ~np.isnan(seconds[:, part]).any(axis=0)
            rows = np.flatnonzero(known) + at
            if len(rows):
                shares = self._shares([of_stage[rows] for of_stage in tiers], len(rows))
                found[:, rows] = self._follow(seconds[:, rows], shares)
        edges = len(self.ends)
        return Stretch(found[edges:].T, found[:edges].T)

    def _shares(self, tiers: Sequence[NDArray[np.int64]], count: int) -> FloatArray:
        """Return R x (E + S) x C shares."""
        at = [*tiers, np.full(count, self.home, dtype=np.int64)]
        edges = [self.edge_shares[e][at[a], at[b]] for e, (a, b) in enumerate(self.ends)]
        stages = [shares[at[s]] for s, shares in enumerate(self.stage_shares)]
        return np.ascontiguousarray(np.stack([*edges, *stages]).transpose(2, 0, 1))

    def _follow(self, alone_s: FloatArray, shares: FloatArray) -> FloatArray:
        """Return by how much all work (W x C) is stretched, followed from one end to the next."""
        # Sets are numbers, 1 for what is in: choosing by them would take many times longer than multiplying.
        edges, left_s, now_s = len(self.ends), alone_s.copy(), np.zeros(alone_s.shape[1])
        undone, finish_s = np.ones(alone_s.shape), np.zeros(alone_s.shape)
        squares = shares**2
        while True:
            at_work = undone * (self._needs @ undone == 0)
            ends = at_work * (left_s == 0)
            if not ends.any():
                if not at_work.any():
                    break
                slower = np.ones(alone_s.shape)
                for of, beyond in zip(shares, _beyond(shares, squares, at_work), strict=True):
                    waits = of * beyond
                    # A copy uses both of its tiers at the same time, a stage one thing after the other.
                    np.maximum(slower[:edges], 1.0 + waits[:edges], out=slower[:edges])
                    slower[edges:] += waits[edges:]
                until_s = left_s * slower + (1.0 - at_work) * NEVER_S
                step_s = until_s.min(axis=0)
                ends = at_work * (until_s <= step_s)
                step_s *= step_s < NEVER_S
                now_s += step_s
                left_s -= at_work * step_s / slower
                np.maximum(left_s, 0.0, out=left_s)
            finish_s += ends * now_s
            undone -= ends
        taken_s = finish_s - self._begin_s(finish_s)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(alone_s > 0, taken_s / alone_s, 1.0)
        return np.where(factor > 1.0 + SAME, factor, 1.0)

    def _begin_s(self, finish_s: FloatArray) -> FloatArray:
        begin_s = np.zeros(finish_s.shape)
        for work, needed in zip(*np.nonzero(self._needs), strict=True):
            np.maximum(begin_s[work], finish_s[needed], out=begin_s[work])
        return begin_s

    @cached_property
    def _needs(self) -> FloatArray:
        """W x W: 1 where the row's work waits for the column's: copies for producers, stages for copies."""
        edges = len(self.ends)
        needs = np.zeros((edges + len(self.stage_shares),) * 2)
        for e, (producer, consumer) in enumerate(self.ends):
            if producer >= 0:
                needs[e, edges + producer] = 1
            if consumer >= 0:
                needs[edges + consumer, e] = 1
        return needs

    @cached_property
    def _precedes(self) -> NDArray[np.bool_]:
        """W x W: whether the column's work is done before the row's begins."""
        reached = self._needs > 0
        while True:
            further = reached | (reached.astype(np.float64) @ reached > 0)
            if (further == reached).all():
                return np.asarray(reached)
            reached = further


def _beyond(shares: FloatArray, squares: FloatArray, at_work: FloatArray) -> FloatArray:
    """Return by how much more than alone the part of work takes that uses each resource (R x C)."""
    loads, weights = (np.einsum("rwc,wc->rc", of, at_work, optimize=False) for of in (shares, squares))
    used = np.maximum(loads, 1.0)
    # Where there is too much load there are shares: their squares add up to something.
    return np.asarray((used - 1.0) * used / np.where(weights > 0, weights, 1.0))
