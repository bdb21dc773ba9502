"""What a build of a model may be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qosflow_airflow.core.makespan_rules import COMPLETE, MakespanRules, rules_named
from qosflow_airflow.core.scaling import DataScale
from qosflow_airflow.exceptions import MeasurementError, RequestError

ESTIMATORS = ("default", "spm")
_LATER = ("estimator", "data_scale", "task_scale", "anchoring", "regions")


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be asked for.

    ``scales`` are node counts, by default those that the observations name. ``tiers`` are the tiers to
    consider, by default all of ``tiers.yaml`` or of the transfer times. ``transfer_times`` is a table of
    transfer times to use instead of an estimate from observations and rates. ``estimator`` is how these
    become times: ``default``, or ``spm`` for the published way (:mod:`~qosflow_airflow.core.spm_estimate`).
    ``data_scale`` and ``task_scale`` are how many times the observed data and tasks the build is for.
    ``anchoring`` holds an estimate from rates against the times in the observations, where there are any.
    ``regions`` is the number of regions at each scale, by default as many as order the space well.

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
    data_scale: float = 1.0
    task_scale: float = 1.0
    anchoring: bool = True
    regions: int | None = None

    @property
    def scale(self) -> DataScale:
        """The scale of data and tasks that the build is for."""
        return DataScale(self.data_scale, self.task_scale)

    def __post_init__(self) -> None:
        try:
            _ = self.scale
        except MeasurementError as error:
            raise RequestError(error.message, cure=error.cure) from None
        if self.regions is not None and self.regions < 1:
            raise RequestError(f"regions is {self.regions}", cure="Give a whole number of at least 1.")
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
        if unknown := sorted(set(asked) - {"scales", "tiers", "rules", "transfer_times", "name", *_LATER}):
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
            data_scale=_number("data_scale", asked.get("data_scale", 1.0)),
            task_scale=_number("task_scale", asked.get("task_scale", 1.0)),
            anchoring=_truth("anchoring", asked.get("anchoring", True)),
            regions=_count("regions", asked.get("regions")),
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
            "data_scale": self.data_scale,
            "task_scale": self.task_scale,
            "anchoring": self.anchoring,
            "regions": self.regions,
        }


def _whole_numbers(value: Any) -> tuple[int, ...]:
    try:
        return tuple(int(str(part)) for part in _listed(value))
    except ValueError:
        raise RequestError(f"scales is {value!r}", cure="Give whole numbers, as in 2,5,10.") from None


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name} is {value!r}", cure="Give a number above 0.") from None


def _count(name: str, value: Any) -> int | None:
    try:
        return None if value is None else int(str(value))
    except ValueError:
        raise RequestError(f"{name} is {value!r}", cure="Give a whole number of at least 1.") from None


def _truth(name: str, value: Any) -> bool:
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise RequestError(f"{name} is {value!r}", cure="Give true or false.")
    return found


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, Sequence) else [value]
