"""What data takes at least on the tiers, when each stage may only choose among some of them."""

from __future__ import annotations

import numpy as np

from qosflow_airflow.core.bounds import BoolArray
from qosflow_airflow.core.capacity import CapacityCheck
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.workflow import INITIAL_DATA

SLACK = 1e-9
"""Share of the room by which a sum may be above it: sums of bytes in another order differ by rounding."""


class CapacityBounds:
    """Which choices cannot fit on their tiers, whatever the other stages choose.

    Each output lies somewhere by its stage's tier, each copy by the tiers of both ends. The least of every
    one of them is summed up per place and level (K): more than that lies there in any case.
    """

    def __init__(self, check: CapacityCheck) -> None:
        workflow, edges = check.workflow, check.times.edges
        outputs = np.stack([check.bytes_of_output(name) for name in workflow.stage_names])
        copies = [check.bytes_of_copy(edge) for edge in edges]
        moments = outputs.shape[-1]
        outputs = outputs.reshape(*outputs.shape[:2], -1)
        pairs = []
        for edge, copy in zip(edges, copies, strict=True):
            used = copy.reshape(*copy.shape[:2], -1)
            if edge.consumer not in workflow.index:
                continue
            if edge.producer == INITIAL_DATA:
                outputs[workflow.index[edge.consumer]] += used[0]
            elif used.any():
                pairs.append((edge, used))
        room = np.repeat(check.room_bytes, moments)
        most = outputs.max(axis=1).sum(axis=0) + sum(used.max(axis=(0, 1)) for _, used in pairs)
        tight = np.isfinite(room) & (most > room)
        self._room = room[tight] * (1 + SLACK)
        self._outputs = outputs[:, :, tight]
        shape = (0, *copies[0].shape[:2], int(tight.sum())) if copies else (0, 1, 1, 0)
        self._pairs = np.stack([used[:, :, tight] for _, used in pairs]) if pairs else np.zeros(shape)
        self._edges = [edges.index(edge) for edge, _ in pairs]
        self._producers = [workflow.index[edge.producer] for edge, _ in pairs]
        self._consumers = [workflow.index[edge.consumer] for edge, _ in pairs]

    @property
    def matter(self) -> bool:
        """Whether anything could be too full at all."""
        return bool(len(self._room))

    @property
    def size(self) -> int:
        """How many numbers are summed up."""
        return self._pairs.size + self._outputs.size

    def fitting(self, tiers: BoolArray) -> BoolArray:
        """Return the tiers of a box (S x T) that a stage can take so that the data may still fit."""
        least, more, _, _ = self._least(tiers)
        return np.asarray((least + more <= self._room).all(axis=2) & tiers)

    def impossible_pairs(self, edges: int) -> BoolArray:
        """Return, per edge and pair of tiers (E x T x T), whether its two ends together cannot fit."""
        tiers = np.ones(self._outputs.shape[:2], dtype=bool)
        least, more, given_source, given_destination = self._least(tiers)
        both = more[self._producers][:, :, None] + more[self._consumers][:, None]
        # What the pair itself adds is in both summands, each with the cheapest other end.
        both = both - given_source[:, :, None] - given_destination[:, None]
        both += self._pairs - self._pairs.min(axis=(1, 2), keepdims=True)
        impossible = np.zeros((edges, *both.shape[1:3]), dtype=bool)
        impossible[self._edges] = (least + both > self._room).any(axis=3)
        return impossible

    def _left(self, tiers: BoolArray) -> FloatArray:
        never = np.where(tiers, 0.0, np.inf)
        source, destination = never[self._producers], never[self._consumers]
        return np.asarray(self._pairs + source[:, :, None, None] + destination[:, None, :, None])

    def _least(self, tiers: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the sums of the least (K), and how much more each cell (S x T x K) and end takes."""
        alone = self._outputs + np.where(tiers, 0.0, np.inf)[:, :, None]
        least_alone = alone.min(axis=1)
        left = self._left(tiers)
        source, destination = left.min(axis=2), left.min(axis=1)
        least_pair = source.min(axis=1)
        given_source, given_destination = source - least_pair[:, None], destination - least_pair[:, None]
        more = alone - least_alone[:, None]
        np.add.at(more, self._producers, given_source)
        np.add.at(more, self._consumers, given_destination)
        return least_alone.sum(axis=0) + least_pair.sum(axis=0), more, given_source, given_destination
