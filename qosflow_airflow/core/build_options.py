"""What a build of a model may be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qosflow_airflow.core.makespan_rules import COMPLETE, MakespanRules, rules_named
from qosflow_airflow.exceptions import RequestError

ESTIMATORS = ("default", "spm")


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be asked for.

    ``scales`` are node counts, by default those that the observations name. ``tiers`` are the tiers to
    consider, by default all of ``tiers.yaml`` or of the transfer times. ``transfer_times`` is a table of
    transfer times to use instead of an estimate from observations and rates. ``estimator`` is how these
    become times: ``default``, or ``spm`` for the published way (:mod:`~qosflow_airflow.core.spm_estimate`).

    Raises
    ------
    RequestError
        When the estimator is unknown, or has nothing to estimate beside a table of transfer times.
    """

    scales: tuple[int, ...] | None = None
    tiers: tuple[str, ...] | None = None
    rules: MakespanRules = COMPLETE
    transfer_times: str | None = None
    name: str | None = None
    estimator: str = ESTIMATORS[0]

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise RequestError(
                f"unknown estimator {self.estimator!r}", cure=f"Use one of {', '.join(ESTIMATORS)}."
            )
        if self.estimator == "spm" and self.transfer_times is not None:
            raise RequestError(
                "a table of transfer times leaves nothing to estimate",
                cure="Name either the table or the estimator.",
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> BuildOptions:
        """Build options from loosely typed values, as a trigger form or a command line gives them."""
        asked = {name: value for name, value in values.items() if value not in (None, "", [], ())}
        if unknown := sorted(
            set(asked) - {"scales", "tiers", "rules", "transfer_times", "name", "estimator"}
        ):
            raise RequestError(f"unknown options {', '.join(unknown)}")
        scales = asked.get("scales")
        tiers = asked.get("tiers")
        return cls(
            scales=None if scales is None else _whole_numbers(scales),
            tiers=None if tiers is None else tuple(_listed(tiers)),
            rules=rules_named(str(asked.get("rules", COMPLETE.name))),
            transfer_times=asked.get("transfer_times"),
            name=asked.get("name"),
            estimator=str(asked.get("estimator", ESTIMATORS[0])),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that :meth:`parse` reads back."""
        return {
            "scales": None if self.scales is None else list(self.scales),
            "tiers": None if self.tiers is None else list(self.tiers),
            "rules": self.rules.name,
            "transfer_times": self.transfer_times,
            "name": self.name,
            "estimator": self.estimator,
        }


def _whole_numbers(value: Any) -> tuple[int, ...]:
    try:
        return tuple(int(str(part)) for part in _listed(value))
    except ValueError:
        raise RequestError(f"scales is {value!r}", cure="Give whole numbers, as in 2,5,10.") from None


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, Sequence) else [value]
