"""Regions: parts of a configuration space whose makespans are alike, each described by a few rules.

A rule names tiers per stage and, where that says it shorter, which data moves. Reading regions and finding a
layout's region needs numpy only; they are fitted by :mod:`~qosflow_airflow.core.region_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qosflow_airflow.core.bottlenecks import Bottleneck
from qosflow_airflow.core.boxes import Asked, Box, Space, rule_of
from qosflow_airflow.core.conditions import condition_from_json
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import IntArray
from qosflow_airflow.exceptions import TierError

if TYPE_CHECKING:
    from qosflow_airflow.core.stage_roles import Role

PLAIN = ("id", "nodes", "size", "min_s", "q10_s", "q25_s", "median_s", "q75_s", "q90_s", "max_s")
"""The figures of a region."""


class StageRule(NamedTuple):
    """A stage in a region: the tiers it takes there (``anywhere``: all that it can take), and its role.

    ``within`` are the tiers with which some layout may be in the region; wider than ``tiers`` where no
    measured layout has one of them. ``share`` is the share of the region's configurations on each tier. For
    ``path_share`` and ``swap_change`` see :class:`~qosflow_airflow.core.stage_roles.StageRole`.
    """

    tiers: tuple[str, ...]
    anywhere: bool
    role: Role
    path_share: float
    swap_change: float | None
    within: tuple[str, ...]
    share: Mapping[str, float] = {}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageRule:
        """Build a rule from its JSON."""
        return cls(**{**value, "tiers": tuple(value["tiers"]), "within": tuple(value["within"])})


class Rule(NamedTuple):
    """One way into a region: the layouts with these tiers per stage, of which the conditions hold or do not.

    ``tiers`` are those that measured layouts of the rule take, ``within`` those that lead a layout here, and
    ``anywhere`` the stages that take every tier they can. ``needed`` are the conditions of ``asked`` that say
    more than tiers do. ``size`` is the number of measured layouts.
    """

    tiers: Mapping[str, tuple[str, ...]]
    within: Mapping[str, tuple[str, ...]]
    anywhere: tuple[str, ...]
    asked: tuple[Asked, ...]
    needed: tuple[Asked, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "tiers": {stage: list(tiers) for stage, tiers in self.tiers.items()},
            "within": {stage: list(tiers) for stage, tiers in self.within.items()},
            "anywhere": list(self.anywhere),
            "conditions": [
                {**one.condition.to_json(), "holds": one.holds, "needed": one in self.needed}
                for one in self.asked
            ],
            "size": self.size,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rule:
        """Build a rule from its JSON."""
        asked = [
            (Asked(condition_from_json(one), one["holds"]), one["needed"]) for one in value["conditions"]
        ]
        return cls(
            {stage: tuple(tiers) for stage, tiers in value["tiers"].items()},
            {stage: tuple(tiers) for stage, tiers in value["within"].items()},
            tuple(value["anywhere"]),
            tuple(one for one, _ in asked),
            tuple(one for one, needed in asked if needed),
            value["size"],
        )


class Region(NamedTuple):
    """Layouts at one node count whose makespans are alike. ``size`` is the number of measured ones.

    A layout that obeys one of ``rules`` is in the region; ``stages`` sums them up.
    """

    id: int
    nodes: int
    size: int
    min_s: float
    q10_s: float
    q25_s: float
    median_s: float
    q75_s: float
    q90_s: float
    max_s: float
    stages: Mapping[str, StageRule]
    rules: tuple[Rule, ...]
    bottleneck: Bottleneck

    @property
    def signature(self) -> dict[str, dict[str, Any]]:
        """Per stage its role and the share of the region's configurations on each tier, to be drawn."""
        return {name: {"role": rule.role, "share": dict(rule.share)} for name, rule in self.stages.items()}

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Return the stages that have ``role`` here."""
        return tuple(name for name, rule in self.stages.items() if rule.role == role)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            **{name: getattr(self, name) for name in PLAIN},
            "stages": {
                name: {
                    **rule._asdict(),
                    "tiers": list(rule.tiers),
                    "within": list(rule.within),
                    "share": dict(rule.share),
                }
                for name, rule in self.stages.items()
            },
            "rules": [rule.to_json() for rule in self.rules],
            "bottleneck": self.bottleneck.to_json(),
            "signature": self.signature,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Region:
        """Build a region from what :meth:`to_json` returned."""
        return cls(
            **{name: value[name] for name in PLAIN},
            stages={name: StageRule.from_json(rule) for name, rule in value["stages"].items()},
            rules=tuple(Rule.from_json(rule) for rule in value["rules"]),
            bottleneck=Bottleneck.from_json(value["bottleneck"]),
        )


@frozen
class RegionSet:
    """The regions of one scale, ordered by median makespan: a region's ``id`` is its position.

    Every layout is in exactly one. ``concordance_held_out`` and ``mae_held_out_s`` are those of predictions
    (a region's median) by trees of the same size for layouts that they have not seen; ``None`` with fewer
    than two layouts. ``curve`` holds them for other numbers of regions: (regions, concordance, seconds).
    ``regret_held_out_s`` is what the layouts that such trees foretell to be fastest take beyond the fastest.
    ``structure`` tells whether rules may ask for more than tiers per stage. ``separation`` (0-1) is that of
    neighbouring regions, ``None`` with one region. ``measured`` layouts have a makespan, ``unmeasured`` ones
    took no part, and ``fitted`` counts those that the tree was fitted to. ``bottleneck`` is that of all
    measured layouts.
    """

    nodes: int
    stage_names: tuple[str, ...]
    tier_names: tuple[str, ...]
    regions: tuple[Region, ...]
    concordance_held_out: float | None
    mae_held_out_s: float | None
    separation: float | None
    measured: int
    unmeasured: int
    fitted: int
    bottleneck: Bottleneck
    curve: tuple[tuple[int, float, float], ...] = ()
    structure: bool = False
    regret_held_out_s: float | None = None

    @property
    def count(self) -> int:
        """The number of regions."""
        return len(self.regions)

    @property
    def sampled(self) -> bool:
        """Whether the tree was fitted to a sample of the measured layouts."""
        return self.fitted < self.measured

    def classify(self, layouts: Layouts) -> IntArray:
        """Return the id of each layout's region.

        Raises
        ------
        TierError
            When a layout has another number of stages, or a tier that the catalog of the fit did not have.
        """
        if layouts.ndim != 2 or layouts.shape[1] != len(self.stage_names):
            raise TierError(
                f"layouts of shape {layouts.shape} are not rows of {len(self.stage_names)} tiers",
                cure=f"Give the tiers of {', '.join(self.stage_names)}.",
            )
        if layouts.size and not 0 <= layouts.min() <= layouts.max() < len(self.tier_names):
            raise TierError(
                "a layout uses a tier that the regions do not know",
                cure=f"Use {', '.join(self.tier_names)}, or build the model again.",
            )
        return self._region_of_rule[rule_of(self._rules, layouts, self.space)]

    @property
    def space(self) -> Space:
        """The names that layouts are written in."""
        return Space(self.stage_names, self.tier_names)

    @cached_property
    def _rules(self) -> list[tuple[Box, Sequence[Asked]]]:
        return [
            (
                np.array([[tier in rule.within[s] for tier in self.tier_names] for s in self.stage_names]),
                rule.asked,
            )
            for region in self.regions
            for rule in region.rules
        ]

    @cached_property
    def _region_of_rule(self) -> IntArray:
        return np.array([region.id for region in self.regions for _ in region.rules], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "nodes": self.nodes,
            "stages": list(self.stage_names),
            "tiers": list(self.tier_names),
            "count": self.count,
            "concordance_held_out": self.concordance_held_out,
            "mae_held_out_s": self.mae_held_out_s,
            "separation": self.separation,
            "measured": self.measured,
            "unmeasured": self.unmeasured,
            "fitted": self.fitted,
            "bottleneck": self.bottleneck.to_json(),
            "curve": [list(point) for point in self.curve],
            "structure": self.structure,
            "regret_held_out_s": self.regret_held_out_s,
            "regions": [region.to_json() for region in self.regions],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RegionSet:
        """Build regions from what :meth:`to_json` returned."""
        return cls(
            nodes=value["nodes"],
            stage_names=tuple(value["stages"]),
            tier_names=tuple(value["tiers"]),
            regions=tuple(Region.from_json(region) for region in value["regions"]),
            concordance_held_out=value["concordance_held_out"],
            mae_held_out_s=value["mae_held_out_s"],
            separation=value["separation"],
            measured=value["measured"],
            unmeasured=value["unmeasured"],
            fitted=value["fitted"],
            bottleneck=Bottleneck.from_json(value["bottleneck"]),
            curve=tuple((int(regions), *figures) for regions, *figures in value["curve"]),
            structure=value["structure"],
            regret_held_out_s=value.get("regret_held_out_s"),
        )
