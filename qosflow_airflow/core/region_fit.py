"""Fitting regions to the configurations of one scale.

A regression tree splits the layouts by the tier of a stage or by what the workflow itself suggests to ask
(:mod:`~qosflow_airflow.core.conditions`); groups of its leaves are the regions, and layouts held out choose
questions and number (:mod:`~qosflow_airflow.core.region_choice`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.bottlenecks import Bottleneck
from qosflow_airflow.core.boxes import Asked, Leaf, Space, leaves_of, obeyed, rule_of
from qosflow_airflow.core.conditions import Condition, structure_of, tiers_of_stages, truths
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.merging import RULES_PER_REGION
from qosflow_airflow.core.region_choice import Choice, CrossValidation, choose_tree
from qosflow_airflow.core.region_trees import Rows, grow_tree
from qosflow_airflow.core.regions import Region, RegionSet, Rule, StageRule
from qosflow_airflow.core.separation import separation
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.stage_roles import (
    EXAMINED,
    SpaceIndex,
    StageRole,
    stage_role,
)
from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.exceptions import MeasurementError, RequestError

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""What is kept of a region's makespans."""
FEW_LAYOUTS, MANY_LAYOUTS = 300, 5000
"""Up to so many layouts chance weighs more than time; from so many on it weighs next to nothing."""


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

    ``regions`` is their number (fewer where the space has no more), by default the knee of the curve, at most
    ``max_regions``, what a person still reads. A region holds ``rules_per_region`` rules on average; 1 makes
    every leaf of the tree a region. ``min_layouts`` is the fewest layouts of a rule, by default a 500th of
    all: makespans hold no noise, so that even one layout apart may be a region of its own. ``tolerance`` is
    the share of a makespan that makes no difference to a stage's role. ``folds`` and ``repeats`` are those of
    cross-validation, by default by the number of layouts. Of more than ``max_fitted`` layouts a random sample
    is fitted.
    """

    regions: int | None = None
    max_regions: int = 40
    rules_per_region: int = RULES_PER_REGION
    min_layouts: int | None = None
    tolerance: float = 0.05
    folds: int | None = None
    repeats: int | None = None
    max_fitted: int = 20_000

    def __post_init__(self) -> None:
        counts = {
            "regions": self.regions,
            "max_regions": self.max_regions,
            "rules_per_region": self.rules_per_region,
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
        folds, repeats = (10, 3) if layouts <= FEW_LAYOUTS else (5, 3) if layouts <= MANY_LAYOUTS else (5, 1)
        return CrossValidation(self.folds or folds, self.repeats or repeats, seed)


def fit_regions(
    model: MakespanModel,
    layouts: Layouts,
    evaluated: Evaluated,
    *,
    options: RegionOptions | None = None,
    seed: int = 0,
) -> RegionSet:
    """Return the regions of ``layouts``, the configurations that may be chosen or a sample of them.

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
        self.space = Space(model.workflow.stage_names, model.catalog.names)
        self.tiers = len(self.space.tier_names)
        self.possible = self._taken(np.arange(len(layouts)))
        self.measured = np.flatnonzero(~np.isnan(self.makespan_s))
        if not len(self.measured):
            raise MeasurementError(
                f"no configuration on {model.times.nodes} nodes has a known makespan",
                cure="Measure the missing transfers, or allow only tiers that were measured.",
            )

    def regions(self) -> RegionSet:
        fitted = self._sample(self.measured, self.options.max_fitted)
        plain = tiers_of_stages(*self.space)
        questions = (*plain, *structure_of(self.model.workflow, self.space.tier_names))
        choice = self._choose(fitted, questions, len(plain))
        parts = self._parts(choice, questions)
        index = SpaceIndex(self.layouts, self.makespan_s, self.tiers, self._evaluator())
        regions = tuple(self._region(number, part, index) for number, part in enumerate(parts))
        held_out = choice.curve.at(len(regions)) if choice.curve else None
        return RegionSet(
            nodes=self.model.times.nodes,
            stage_names=self.space.stage_names,
            tier_names=self.space.tier_names,
            regions=regions,
            concordance_held_out=held_out.concordance if held_out else None,
            mae_held_out_s=held_out.mae_s if held_out else None,
            separation=separation([self.makespan_s[part.rows] for part in parts]),
            measured=len(self.measured),
            unmeasured=len(self.layouts) - len(self.measured),
            fitted=len(fitted),
            bottleneck=self._bottleneck(self.measured),
            curve=choice.curve.points if choice.curve else (),
            regret_held_out_s=choice.curve.regret_at(len(regions)) if choice.curve else None,
            structure=choice.questions > len(plain),
        )

    def _sample(self, rows: IntArray, most: int) -> IntArray:
        if len(rows) <= most:
            return rows
        return np.sort(self.random.choice(rows, most, replace=False))

    def _choose(self, fitted: IntArray, questions: tuple[Condition, ...], plain: int) -> Choice:
        layouts = self.layouts[fitted]
        features = truths(questions, layouts, *self.space).astype(np.float32)
        copies = np.unique(layouts, axis=0, return_inverse=True)[1].reshape(-1)
        rows = Rows(features, self.makespan_s[fitted], copies)
        fewest = self.options.min_layouts or max(1, len(fitted) // 500)
        state = np.random.RandomState(self.seed)  # of scikit-learn's kind, to choose among equal splits
        return choose_tree(
            rows,
            lambda features, target: grow_tree(features, target, fewest, state),
            self.options.cross_validation(len(fitted), self.seed),
            questions=sorted({plain, len(questions)}),
            max_regions=self.options.max_regions,
            regions=self.options.regions,
            rules_per_region=self.options.rules_per_region,
        )

    def _parts(self, choice: Choice, questions: tuple[Condition, ...]) -> list[_Part]:
        """Return leaves and measured rows of each region, the fastest first."""
        leaves, group = choice.tree.grouping(choice.regions, self.options.rules_per_region)
        group_of = dict(zip(leaves.tolist(), group.tolist(), strict=True))
        rules = leaves_of(choice.tree.pruned.tree, group_of.keys(), questions, self.space)
        found = rule_of([(rule.box, rule.asked) for rule in rules], self.layouts[self.measured], self.space)
        parts = []
        for number in range(max(group_of.values()) + 1):
            mine = [r for r, rule in enumerate(rules) if group_of[rule.node] == number]
            rows = [self.measured[found == r] for r in mine]
            # The largest rule first: it says most.
            order = sorted(range(len(mine)), key=lambda k: -len(rows[k]))
            leaves_in = [rules[mine[k]] for k in order]
            parts.append(_Part(leaves_in, [rows[k] for k in order], np.sort(np.concatenate(rows))))
        return sorted(parts, key=lambda part: self._median_then_least(part.rows))

    def _median_then_least(self, rows: IntArray) -> tuple[float, float]:
        times = self.makespan_s[rows]
        return float(np.median(times)), float(times.min())

    def _evaluator(self) -> Callable[[Layouts], tuple[NDArray[np.bool_], FloatArray]] | None:
        """Return what evaluates layouts that are not among those fitted, ``None`` where those are all."""
        space = ConfigurationSpace(self.model.workflow, self.model.catalog, self.model.rules)
        if len(self.layouts) >= space.size:
            return None

        def evaluate(layouts: Layouts) -> tuple[NDArray[np.bool_], FloatArray]:
            valid = space.valid(layouts)
            makespan_s = np.full(len(layouts), np.nan)
            chosen = layouts[valid]
            fits = ~self.model.capacity.fit(chosen).over
            makespan_s[valid] = np.where(fits, self.model.makespan_s(chosen), np.nan)
            return valid, makespan_s

        return evaluate

    def _region(self, number: int, part: _Part, index: SpaceIndex) -> Region:
        rows = part.rows
        low, q10, q25, median, q75, q90, high = np.quantile(self.makespan_s[rows], QUANTILES).tolist()
        examined = self._sample(rows, EXAMINED)
        path_share = self.on_critical_path[rows].mean(axis=0).tolist()
        within = np.any([leaf.box for leaf in part.leaves], axis=0)
        stages = {
            name: self._stage_rule(
                s, within[s], rows, stage_role(index, examined, s, path_share[s], self.options.tolerance)
            )
            for s, name in enumerate(self.space.stage_names)
        }
        rules = tuple(self._rule(leaf, mine) for leaf, mine in zip(part.leaves, part.members, strict=True))
        figures = (number, self.model.times.nodes, len(rows), low, q10, q25, median, q75, q90, high)
        return Region(*figures, stages, rules, self._bottleneck(rows))

    def _stage_rule(self, s: int, within: NDArray[np.bool_], rows: IntArray, role: StageRole) -> StageRule:
        count = np.bincount(self.layouts[rows, s], minlength=self.tiers)
        return StageRule(
            tiers=self._names(count > 0),
            anywhere=bool(((count > 0) == self.possible[s]).all()),
            role=role.role,
            path_share=role.path_share,
            swap_change=role.swap_change,
            within=self._names(within),
            share={name: int(n) / len(rows) for name, n in zip(self.space.tier_names, count, strict=True)},
        )

    def _rule(self, leaf: Leaf, rows: IntArray) -> Rule:
        taken = self._taken(rows)
        names = self.space.stage_names
        return Rule(
            tiers={name: self._names(taken[s]) for s, name in enumerate(names)},
            within={name: self._names(leaf.box[s]) for s, name in enumerate(names)},
            anywhere=tuple(n for s, n in enumerate(names) if (taken[s] == self.possible[s]).all()),
            asked=leaf.asked,
            needed=self._needed(taken, leaf.asked),
            size=len(rows),
        )

    def _needed(self, taken: NDArray[np.bool_], asked: tuple[Asked, ...]) -> tuple[Asked, ...]:
        """Return the conditions without which more layouts of the space would obey the rule as it is said."""
        needed = list(asked)
        inside = self.layouts[obeyed(taken, (), self.layouts, self.space)]
        for one in asked:
            others = [other for other in needed if other != one]
            wanted = obeyed(taken, needed, inside, self.space).sum()
            if obeyed(taken, others, inside, self.space).sum() == wanted:
                needed = others
        return tuple(needed)

    def _taken(self, rows: IntArray) -> NDArray[np.bool_]:
        """Return stages x tiers: whether some of the layouts has the stage there."""
        columns = self.layouts[rows].T
        return np.array([np.bincount(column, minlength=self.tiers) > 0 for column in columns], dtype=bool)

    def _bottleneck(self, rows: IntArray) -> Bottleneck:
        return Bottleneck.of(self.model.schedule(self.layouts[self._sample(rows, EXAMINED)]).split_s)

    def _names(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, is_in in zip(self.space.tier_names, chosen, strict=True) if is_in)


@dataclass(frozen=True)
class _Part:
    """The leaves of one region, the measured rows of each, and all of them ascending."""

    leaves: list[Leaf]
    members: list[IntArray]
    rows: IntArray
