"""What the work of a run takes of devices and processors while it has them to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Demand(NamedTuple):
    """Shares from 0, which never touches it, to 1, which leaves nothing of it to others.

    Axes: S stages, T tiers, E edges. ``read`` and ``write`` (S x T) are of the stage's tier, ``compute`` (S)
    of the processors of all nodes, ``source`` and ``destination`` (E x T x T) of the tiers that an edge's
    data is copied from and to.
    """

    read: FloatArray
    write: FloatArray
    compute: FloatArray
    source: FloatArray
    destination: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {name: shares.tolist() for name, shares in self._asdict().items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], tiers: int) -> Demand:
        """Build it from what :meth:`to_json` returned; without any edge, plain JSON has lost its axes."""
        found = {name: np.array(value[name], dtype=np.float64) for name in cls._fields}
        for end in ("source", "destination"):
            found[end] = found[end].reshape(-1, tiers, tiers)
        return cls(**found)
