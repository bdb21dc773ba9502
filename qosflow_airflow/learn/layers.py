"""What an answer heeds besides the I/O model; each layer can be switched off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from qosflow_airflow.exceptions import RequestError


class Layers(NamedTuple):
    """Corrections and overhead by finished runs, numbers of tasks by them, similar runs, and intervals.

    Without ``calibration`` a drift is told all the same. Without ``intervals`` they are the model's own.
    """

    calibration: bool = True
    parallelism: bool = True
    cases: bool = True
    intervals: bool = True

    @classmethod
    def parse(cls, names: str | Iterable[str]) -> Self:
        """Return the layers that are named, in a text with commas between them: ``calibration, cases``.

        Raises
        ------
        RequestError
            When there is no layer of a name.
        """
        listed = names.split(",") if isinstance(names, str) else list(names)
        asked = {name.strip() for name in listed} - {"", "none"}
        if unknown := sorted(asked - set(cls._fields)):
            raise RequestError(
                f"there is no layer {', '.join(unknown)}", cure=f"Name some of {ALL_LAYERS}, or none."
            )
        return cls(*(name in asked for name in cls._fields))


ALL_LAYERS = ",".join(Layers._fields)
"""All of them, as they are named."""
