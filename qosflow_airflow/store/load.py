"""How busy a place is, as it is kept with what ran there."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """How busy a place is, 1 being fully busy, and who says so: what two of them say is not compared."""

    value: float
    source: str
