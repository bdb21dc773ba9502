"""What is asked of the numbers of tasks of stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from qosflow_airflow.exceptions import RequestError

_ABSENT = (None, "", "None", "null")


@dataclass(frozen=True)
class ChunkRequest:
    """The stages whose number of tasks may be chosen, each with the most that are allowed.

    ``objective`` is what that number makes small; ``None``: what the request says.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    objective: str | None = None

    @classmethod
    def parse(cls, limits: Any, objective: Any = None, most: int | None = None) -> Self:
        """Return what is asked for, with no limit above ``most``.

        ``limits`` is a mapping, its JSON, or ``stage=number`` with commas.

        Raises
        ------
        RequestError
            When it is none of these, or a number is none from 1 on.
        """
        found = parse_limits(limits)
        if most is not None:
            found = {stage: min(limit, most) for stage, limit in found.items()}
        return cls(found, None if objective in _ABSENT else str(objective))


def parse_limits(value: Any) -> dict[str, int]:
    """Return stage to at most so many tasks: from a mapping, its JSON, or ``stage=number`` with commas.

    Raises
    ------
    RequestError
        When it is none of these, or a number is none from 1 on.
    """
    if value in _ABSENT:
        return {}
    try:
        if not isinstance(value, str):
            pairs = dict(value)
        elif "=" in value:
            pairs = dict(part.split("=", 1) for part in value.split(","))
        else:
            pairs = dict(json.loads(value))
        limits = {str(stage).strip(): int(most) for stage, most in pairs.items()}
    except (TypeError, ValueError, AttributeError):
        limits = {"": 0}
    if any(most < 1 for most in limits.values()):
        raise RequestError(
            f"max_chunks is {value!r}", cure='Give stage to a whole number from 1, as {"sifting": 8}.'
        )
    return limits
