"""What stages read and write in other numbers of tasks than their workflow's, as factors of their times.

The storage profile that tells it is only at hand while a model is built. So rates are asked for at some
numbers of tasks then, and the model keeps by how much longer reads and writes take there. Between them,
factors are interpolated on a logarithmic scale; at the workflow's own number they are 1.

All tasks together are taken to move as much as before: each does its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.tiers import NodePool

FloatArray = NDArray[np.float64]

COUNTS = tuple(1 << power for power in range(11))
"""Numbers of tasks at which factors are known: powers of two up to as many tasks as Airflow maps over."""


class ChunkTimes(NamedTuple):
    """Factors of the seconds of reads and writes, S stages x T tiers x G numbers of tasks (``counts``).

    NaN where a time is not known; 1 where nothing is moved.
    """

    counts: tuple[int, ...]
    read: FloatArray
    write: FloatArray

    def factors(self, stage: int, tier: int, own: int, tasks: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the factors of a stage's reads and writes on a tier, in each of ``tasks`` (n).

        ``own`` is the workflow's number. Beyond the numbers that are known the nearest one counts.
        """
        return (
            _interpolated(self.counts, self.read[stage, tier], own, tasks),
            _interpolated(self.counts, self.write[stage, tier], own, tasks),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON with ``null`` for NaN, the inverse of :meth:`from_json`."""
        return {"counts": list(self.counts), "read": _plain(self.read), "write": _plain(self.write)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ChunkTimes:
        """Build it from what :meth:`to_json` returned."""
        read, write = (np.array(value[name], dtype=np.float64) for name in ("read", "write"))
        return cls(tuple(value["counts"]), read, write)


def waves(node: NodePool, nodes: int, tasks: FloatArray) -> FloatArray:
    """Return how many times in a row the slots of ``nodes`` nodes are filled by so many tasks (n).

    Raises
    ------
    ValueError
        When the number of slots is not known.
    """
    if node.slots is None:
        raise ValueError("the number of a node's slots is not known")
    return np.asarray(np.ceil(tasks / (nodes * node.slots)))


def share_of_slots(node: NodePool, nodes: int, tasks: int) -> float:
    """Return the share of all slots that so many tasks of a stage fill at once.

    Errors are those of :func:`waves`.
    """
    if node.slots is None:
        raise ValueError("the number of a node's slots is not known")
    return node.busy_slots(tasks, nodes) / (nodes * node.slots)


def computing(node: NodePool, nodes: int, own: int, tasks: FloatArray) -> FloatArray:
    """Return the factors of a stage's time of computing in ``tasks`` (n): all of it together stays the same.

    Three tasks on two slots take two thirds of what one takes, and so much more than two.

    >>> computing(NodePool(slots=2), 1, 1, np.array([1.0, 2.0, 3.0, 4.0])).round(2).tolist()
    [1.0, 0.5, 0.67, 0.5]
    """
    at_own = waves(node, nodes, np.array([float(own)])) / own
    return np.asarray(waves(node, nodes, tasks) / tasks / at_own)


def _interpolated(counts: Sequence[int], factors: FloatArray, own: int, tasks: FloatArray) -> FloatArray:
    known = dict(zip(map(float, counts), np.log(factors).tolist(), strict=True)) | {float(own): 0.0}
    at = sorted(known)
    return np.asarray(np.exp(np.interp(np.log(tasks), np.log(at), [known[count] for count in at])))


def _plain(values: FloatArray) -> Any:
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()
