"""Regions: parts of a configuration space, each a box of tiers per stage, whose makespans are alike.

A regression tree (CART) splits the layouts of one scale by the tier of one stage at a time; its leaves are
the regions. They are fitted with scikit-learn; reading them and finding a layout's region needs numpy only.
Quality is held out: see :mod:`~qosflow_airflow.core.region_choice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.boxes import Box, box_of, leaf_boxes, one_hot
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.pruning import Features, RegressionTree
from qosflow_airflow.core.region_choice import Choice, CrossValidation, Rows, choose_tree
from qosflow_airflow.core.separation import separation
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.stage_roles import EXAMINED, Role, SpaceIndex, StageRole, layout_codes, stage_role
from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.exceptions import MeasurementError, RequestError, TierError

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""What is kept of a region's makespans."""
FEW_LAYOUTS = 1000


class Evaluated(Protocol):
    """What regions are fitted to, per configuration (C) and stage (S), such as a schedule."""

    @property
    def makespan_s(self) -> FloatArray:
        """C seconds, NaN where the makespan is unknown."""

    @property
    def on_critical_path(self) -> NDArray[np.bool_]:
        """C x S: whether the stage is on the critical path."""


@dataclass(frozen=True)
class RegionOptions:
    """How regions are fitted.

    ``max_regions`` is what a person still reads. ``min_layouts`` is the fewest layouts in a region, by
    default a 500th of all: makespans hold no noise, so that even one layout apart may be a region of its own.
    ``tolerance`` is the share of a makespan that makes no difference to a stage's role. ``folds`` and
    ``repeats`` are those of cross-validation, by default 10 and 5 where chance weighs more than time (up to
    ``FEW_LAYOUTS``), else 5 and 3. Of more than ``max_fitted`` layouts a random sample is fitted.
    """

    max_regions: int = 32
    min_layouts: int | None = None
    tolerance: float = 0.05
    folds: int | None = None
    repeats: int | None = None
    max_fitted: int = 20_000

    def __post_init__(self) -> None:
        counts = {
            "max_regions": self.max_regions,
            "min_layouts": self.min_layouts,
            "folds": self.folds and self.folds - 1,
            "repeats": self.repeats,
            "max_fitted": self.max_fitted,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise RequestError(f"{name} is too small", cure="Give at least 1, and 2 folds.")
        if not 0 <= self.tolerance < 1:
            raise RequestError(f"tolerance is {self.tolerance}", cure="Give a share from 0 to below 1.")

    def cross_validation(self, layouts: int, seed: int) -> CrossValidation:
        """Return how that many layouts are held out."""
        folds, repeats = (10, 5) if layouts <= FEW_LAYOUTS else (5, 3)
        return CrossValidation(self.folds or folds, self.repeats or repeats, seed)


@dataclass(frozen=True)
class StageRule:
    """A stage in a region: the tiers it takes there (``anywhere``: all that it can take), and its role.

    ``within`` are the tiers that lead a layout into the region; wider than ``tiers`` where no measured layout
    has one of them. For ``path_share`` and ``swap_change`` see
    :class:`~qosflow_airflow.core.stage_roles.StageRole`.
    """

    tiers: tuple[str, ...]
    anywhere: bool
    role: Role
    path_share: float
    swap_change: float | None
    within: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageRule:
        """Build a rule from its JSON."""
        return cls(**{**value, "tiers": tuple(value["tiers"]), "within": tuple(value["within"])})


@dataclass(frozen=True)
class Region:
    """Layouts at one node count whose makespans are alike. ``size`` is the number of measured ones."""

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

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Return the stages that have ``role`` here."""
        return tuple(name for name, rule in self.stages.items() if rule.role == role)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            **asdict(self),
            "stages": {
                name: {**asdict(rule), "tiers": list(rule.tiers), "within": list(rule.within)}
                for name, rule in self.stages.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Region:
        """Build a region from what :meth:`to_json` returned."""
        stages = {name: StageRule.from_json(rule) for name, rule in value["stages"].items()}
        return cls(**{**value, "stages": stages})


@dataclass(frozen=True)
class RegionSet:
    """The regions of one scale, ordered by median makespan: a region's ``id`` is its position.

    Every layout is in exactly one. ``concordance_held_out`` and ``mae_held_out_s`` are those of predictions
    (a region's median) by trees of the same size for layouts that they have not seen; ``None`` with fewer
    than two layouts. ``separation`` (0-1) is that of neighbouring regions, ``None`` with one region.
    ``measured`` layouts have a makespan, ``unmeasured`` ones took no part, and ``fitted`` counts those that
    the tree was fitted to.
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
        return box_of(self._boxes, layouts)

    @cached_property
    def _boxes(self) -> list[Box]:
        return [
            np.array(
                [[tier in region.stages[s].within for tier in self.tier_names] for s in self.stage_names],
                dtype=bool,
            )
            for region in self.regions
        ]

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
        )


def fit_regions(
    model: MakespanModel,
    layouts: Layouts,
    evaluated: Evaluated,
    *,
    options: RegionOptions | None = None,
    seed: int = 0,
) -> RegionSet:
    """Return the regions of ``layouts``, the configurations that may be chosen, from what they take.

    The same input and seed give the same regions. Layouts whose makespan is unknown take no part.

    Raises
    ------
    MeasurementError
        When no layout has a known makespan.
    """
    return _Fit(model, layouts, evaluated, options or RegionOptions(), seed).regions()


class _Fit:
    """One space on its way to regions."""

    def __init__(
        self, model: MakespanModel, layouts: Layouts, evaluated: Evaluated, options: RegionOptions, seed: int
    ) -> None:
        self.model = model
        self.layouts = layouts
        self.makespan_s = evaluated.makespan_s
        self.on_critical_path = evaluated.on_critical_path
        self.options = options
        self.random = np.random.default_rng(seed)
        self.seed = seed
        self.tiers = len(model.catalog.names)
        self.measured = np.flatnonzero(~np.isnan(self.makespan_s))
        if not len(self.measured):
            raise MeasurementError(
                f"no configuration on {model.times.nodes} nodes has a known makespan",
                cure="Measure the missing transfers, or allow only tiers that were measured.",
            )

    def regions(self) -> RegionSet:
        fitted = self._sample(self.measured, self.options.max_fitted)
        choice, boxes = self._choose(fitted)
        members = self._members(boxes)
        boxes, members = _by_median(boxes, members, self.makespan_s)
        index = SpaceIndex(self.layouts, self.makespan_s, self.tiers)
        regions = tuple(
            self._region(number, box, rows, index)
            for number, (box, rows) in enumerate(zip(boxes, members, strict=True))
        )
        return RegionSet(
            nodes=self.model.times.nodes,
            stage_names=self.model.workflow.stage_names,
            tier_names=self.model.catalog.names,
            regions=regions,
            concordance_held_out=choice.held_out.concordance if choice.held_out else None,
            mae_held_out_s=choice.held_out.mae_s if choice.held_out else None,
            separation=separation([self.makespan_s[rows] for rows in members]),
            measured=len(self.measured),
            unmeasured=len(self.layouts) - len(self.measured),
            fitted=len(fitted),
        )

    def _sample(self, rows: IntArray, most: int) -> IntArray:
        if len(rows) <= most:
            return rows
        return np.sort(self.random.choice(rows, most, replace=False))

    def _choose(self, fitted: IntArray) -> tuple[Choice, list[Box]]:
        layouts = self.layouts[fitted]
        rows = Rows(one_hot(layouts, self.tiers), self.makespan_s[fitted], layout_codes(layouts, self.tiers))
        fewest = self.options.min_layouts or max(1, len(fitted) // 500)
        choice = choose_tree(
            rows,
            lambda features, target: grow_tree(features, target, fewest, self.seed),
            self.options.max_regions,
            self.options.cross_validation(len(fitted), self.seed),
        )
        pruned = choice.fitted.pruned
        leaves = set(pruned.leaves(pruned.alpha_of(choice.regions)).tolist())
        return choice, leaf_boxes(pruned.tree, leaves, layouts.shape[1], self.tiers)

    def _members(self, boxes: list[Box]) -> list[IntArray]:
        found = box_of(boxes, self.layouts[self.measured])
        return [self.measured[found == number] for number in range(len(boxes))]

    def _region(self, number: int, box: Box, rows: IntArray, index: SpaceIndex) -> Region:
        low, q10, q25, median, q75, q90, high = np.quantile(self.makespan_s[rows], QUANTILES).tolist()
        examined = self._sample(rows, EXAMINED)
        path_share = self.on_critical_path[rows].mean(axis=0).tolist()
        stages = {
            name: self._rule(
                s, box[s], rows, stage_role(index, examined, s, path_share[s], self.options.tolerance)
            )
            for s, name in enumerate(self.model.workflow.stage_names)
        }
        return Region(
            number, self.model.times.nodes, len(rows), low, q10, q25, median, q75, q90, high, stages
        )

    def _rule(self, s: int, within: NDArray[np.bool_], rows: IntArray, role: StageRole) -> StageRule:
        taken = np.bincount(self.layouts[rows, s], minlength=self.tiers) > 0
        possible = np.bincount(self.layouts[:, s], minlength=self.tiers) > 0
        return StageRule(
            tiers=self._names(taken),
            anywhere=bool((taken == possible).all()),
            role=role.role,
            path_share=role.path_share,
            swap_change=role.swap_change,
            within=self._names(within),
        )

    def _names(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(
            name for name, is_chosen in zip(self.model.catalog.names, chosen, strict=True) if is_chosen
        )


def grow_tree(features: Features, target: FloatArray, fewest: int, seed: int) -> RegressionTree:
    """Return a full CART tree by squared error, with at least ``fewest`` rows in each leaf."""
    # Here, not above: it takes a second to import, and only a fit needs it.
    from sklearn.tree import DecisionTreeRegressor

    regressor = DecisionTreeRegressor(min_samples_leaf=fewest, random_state=seed)
    tree = regressor.fit(features, target).tree_
    return RegressionTree(
        np.asarray(tree.children_left, dtype=np.int64),
        np.asarray(tree.children_right, dtype=np.int64),
        np.where(tree.children_left < 0, -1, tree.feature).astype(np.int64),
    )


def _by_median(
    boxes: list[Box], members: list[IntArray], makespan_s: FloatArray
) -> tuple[list[Box], list[IntArray]]:
    def key(number: int) -> tuple[float, float, int]:
        times = makespan_s[members[number]]
        return float(np.median(times)), float(times.min()), number

    order = sorted(range(len(boxes)), key=key)
    return [boxes[number] for number in order], [members[number] for number in order]
