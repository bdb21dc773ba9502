"""How sure a makespan is: many draws of everything that is uncertain, and what they make of a configuration.

Each time has a factor with other times: reads of tiers with one storage profile share one, writes and copies
likewise, and each stage's compute time has its own, at every node count. A draw multiplies a time by
``exp(log_sd * z)``, z standard normal and the same for all times of the factor. All configurations see the
same draws, so that comparing them is not noise; each factor's draws are a Latin hypercube, every one of the
``n`` quantiles once, in an order that depends on the seed and on the factor's name alone.

Where finished runs tell how far whole makespans were off (:mod:`~qosflow_airflow.core.run_spread`) there is
one more factor, the same for all configurations, as wide as they tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cached_property, reduce
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.quantiles import quantiles
from qosflow_airflow.core.run_spread import NORMAL_HALF_WIDTH, RunSpread
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, TimeTable

DRAWS = 10_000
SEED = 20
QUANTILES = {"p05_s": 0.05, "p50_s": 0.5, "p95_s": 0.95}
"""The ends and the middle of the interval that holds nine makespans of ten."""
RUN, OVERHEAD = ("run",), ("overhead",)
"""The factors of what a whole run is off by, and of what it takes beyond its makespan."""

FactorName = tuple[str, ...]


@frozen
class FactorDraws:
    """Standard normal draws per factor, the same wherever and whenever a factor is asked for."""

    count: int = DRAWS
    seed: int = SEED

    def of(self, factor: FactorName) -> FloatArray:
        """Return the draws of one factor."""
        if factor not in self._drawn:
            name = zlib.crc32("\0".join(factor).encode())
            self._drawn[factor] = np.random.default_rng([self.seed, name]).permutation(self._quantiles)
        return self._drawn[factor]

    @cached_property
    def _drawn(self) -> dict[FactorName, FloatArray]:
        return {}

    @cached_property
    def _quantiles(self) -> FloatArray:
        normal = NormalDist()
        upper = [normal.inv_cdf((self.count - at - 0.5) / self.count) for at in range(self.count // 2)]
        middle = [0.0] * (self.count % 2)
        return np.array([*(-z for z in upper), *middle, *reversed(upper)])


@frozen
class MakespanDraws:
    """Makespans of layouts at one node count, once per draw; ``runs`` is what finished runs tell of it."""

    makespans: MakespanModel
    factors: FactorDraws
    runs: RunSpread | None = None

    def makespan_s(self, layout: Sequence[int]) -> FloatArray:
        """Return a layout's makespan in every draw of its stage times, seconds; NaN where one is unknown."""
        rules = self.makespans.rules
        return self._barrier_s(layout) if rules.level_barrier else self._longest_path_s(layout)

    def foretold_s(self, layout: Sequence[int]) -> FloatArray:
        """Return the same with what whole runs were off by, where finished runs tell it."""
        if self.runs is None:
            return self.makespan_s(layout)
        estimate_s = float(self.makespans.makespan_s(_row(layout))[0])
        around, log_sd = np.full(1, estimate_s), self.runs.log_sd
        if not self._tried(layout):
            around = self.makespan_s(layout)
            # Runs like others only widen: up to their spread, where that of the stage times is smaller.
            log_sd = float(np.sqrt(max(0.0, log_sd**2 - _log_sd_about(estimate_s, around) ** 2)))
        return np.asarray(around * np.exp(log_sd * self.factors.of(RUN)))

    def interval(self, layout: Sequence[int], deadline_s: float | None = None) -> dict[str, Any] | None:
        """Return, as plain JSON, what nine runs of ten take, and where that is from; none where not known.

        ``p_deadline`` is the probability to take ``deadline_s`` at most, what a run takes beyond its makespan
        included. ``source`` is ``past_runs``, ``model``, or ``both``; ``runs`` how many past runs tell it.
        """
        if not self.known(_row(layout))[0]:
            return None
        foretold_s = self.foretold_s(layout)
        source = "model" if self.runs is None else "past_runs" if self._tried(layout) else "both"
        told = "" if self.runs is None else f"{self.runs.runs} past runs {self.runs.whose}"
        words = {
            "model": "from the model's rates",
            "past_runs": f"from {told}",
            "both": f"from the model's rates, and at least as wide as {told} were off",
        }
        return {
            **_quantiles_of(foretold_s),
            "p_deadline": None if deadline_s is None else self._share_within(foretold_s, deadline_s),
            "source": source,
            "runs": 0 if self.runs is None else self.runs.runs,
            "words": words[source],
        }

    def quantiles_s(self, layout: Sequence[int]) -> dict[str, float] | None:
        """Return quantiles of a layout's makespan (:data:`QUANTILES`); none where a spread is not known."""
        if not self.known(_row(layout))[0]:
            return None
        return _quantiles_of(self.foretold_s(layout))

    def probability_within(self, layout: Sequence[int], deadline_s: float) -> float:
        """Return the share of draws in which a run takes at most ``deadline_s``, its overhead not counted."""
        return self._share_within(self.foretold_s(layout), deadline_s)

    def kept_within_s(self, layout: Sequence[int], probability: float) -> float:
        """Return the shortest deadline that is kept with a probability, the overhead of a run not counted."""
        taken_s = self._taken_s(self.foretold_s(layout))
        return float(np.quantile(taken_s, probability, method="inverted_cdf"))

    def _share_within(self, foretold_s: FloatArray, deadline_s: float) -> float:
        return float(np.mean(self._taken_s(foretold_s) <= deadline_s))

    def _taken_s(self, foretold_s: FloatArray) -> FloatArray:
        """Return makespans with what the overhead of runs differs from the expected one."""
        if self.runs is None or not self.runs.overhead_sd_s:
            return foretold_s
        return np.asarray(foretold_s + self.runs.overhead_sd_s * self.factors.of(OVERHEAD))

    def known(self, layouts: Layouts) -> NDArray[np.bool_]:
        """Return, per layout, whether past runs or the spread of every time tell how far it is off."""
        tried = np.array([self._tried(layout) for layout in layouts.tolist()], dtype=bool)
        return tried | self.spread_known(layouts)

    def spread_known(self, layouts: Layouts) -> NDArray[np.bool_]:
        """Return, per layout, whether the spread of every time it takes is known."""
        times, rows = self.makespans.times, np.arange(layouts.shape[1])
        source, destination = self.makespans.edge_tiers(layouts)
        legs = self._leg_known[np.arange(len(times.edges)), source, destination].all(axis=1)
        stages = [_known(table)[rows, layouts].all(axis=1) for table in (times.read, times.write)]
        return np.asarray(legs & stages[0] & stages[1] & _known(times.compute).all())

    def _tried(self, layout: Sequence[int]) -> bool:
        """Return whether past runs had every stage on its tier."""
        names, tiers = self.makespans.workflow.stage_names, self.makespans.catalog.names
        tried = frozenset() if self.runs is None else self.runs.tried
        return bool(tried) and all((name, tiers[t]) in tried for name, t in zip(names, layout, strict=True))

    @cached_property
    def _leg_known(self) -> NDArray[np.bool_]:
        known = np.ones(self.makespans.legs.into_s.shape, dtype=bool)
        tables = {leg: _known(table) for leg, table in self._copy_tables.items()}
        for e, a, b in np.ndindex(known.shape):
            known[e, a, b] = all(tables[leg][(e, *copy)] for leg, copy in self._copies(e, a, b))
        return known

    @cached_property
    def _copy_tables(self) -> dict[str, TimeTable]:
        return {"in": self.makespans.times.stage_in, "out": self.makespans.times.stage_out}

    def _copies(self, e: int, a: int, b: int) -> list[tuple[str, tuple[int, int]]]:
        return self.makespans.charged_legs(self.makespans.times.edges[e], a, b)

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        """Producer and consumer of each edge; -1 is the outside."""
        index = self.makespans.workflow.index
        edges = self.makespans.times.edges
        return [(index.get(edge.producer, -1), index.get(edge.consumer, -1)) for edge in edges]

    def _longest_path_s(self, layout: Sequence[int]) -> FloatArray:
        workflow = self.makespans.workflow
        incoming: dict[int, list[int]] = {s: [] for s in range(-1, len(workflow.stages))}
        for e, (_, consumer) in enumerate(self._ends):
            incoming[consumer].append(e)
        finish: dict[int, FloatArray] = {-1: np.zeros(self.factors.count)}
        # Who waits for whom is that of the estimate: in most draws all of it is longer, or all shorter.
        stretch = self.makespans.costs.stretch(_row(layout))

        def arrived(edges: list[int]) -> FloatArray:
            latest = np.zeros(self.factors.count)
            for e in edges:
                moved_s = self._edge_s(e, layout, ("in", "out"))
                moved_s = moved_s if stretch is None else moved_s * stretch.edges[0, e]
                np.maximum(latest, finish[self._ends[e][0]] + moved_s, out=latest)
            return latest

        for name in workflow.topological_order:
            s = workflow.index[name]
            work_s = self._stage_s(s, layout[s])
            finish[s] = arrived(incoming[s]) + (work_s if stretch is None else work_s * stretch.stages[0, s])
        return arrived(incoming[-1])

    def _barrier_s(self, layout: Sequence[int]) -> FloatArray:
        workflow = self.makespans.workflow
        total = np.zeros(self.factors.count)
        for level in workflow.levels:
            members = {s for s, stage in enumerate(workflow.stages) if stage.level == level}
            into = [e for e, (_, consumer) in enumerate(self._ends) if consumer in members]
            out_of = [e for e, (producer, _) in enumerate(self._ends) if producer in members]
            for phase in (
                [self._edge_s(e, layout, ("in",)) for e in into],
                [self._stage_s(s, layout[s]) for s in members],
                [self._edge_s(e, layout, ("out",)) for e in out_of],
            ):
                total += reduce(np.maximum, phase, np.zeros(1))
        return total

    @cached_property
    def _stage_draws(self) -> dict[tuple[int, int], FloatArray]:
        return {}

    def _stage_s(self, s: int, t: int) -> FloatArray:
        if (s, t) not in self._stage_draws:
            times, tier = self.makespans.times, _profile_name(self.makespans.catalog, t)
            self._stage_draws[s, t] = (
                self._drawn(times.read, (s, t), ("read", tier))
                + self._drawn(times.compute, (s,), ("compute", times.stages[s]))
                + self._drawn(times.write, (s, t), ("write", tier))
            )
        return self._stage_draws[s, t]

    @cached_property
    def _edge_draws(self) -> dict[tuple[int, int, int, tuple[str, ...]], FloatArray]:
        return {}

    def _edge_s(self, e: int, layout: Sequence[int], legs: tuple[str, ...]) -> FloatArray:
        """Return what the copies of an edge take on the given legs."""
        home = self.makespans.catalog.index[self.makespans.catalog.home]
        a, b = (home if s < 0 else int(layout[s]) for s in self._ends[e])
        if (e, a, b, legs) not in self._edge_draws:
            drawn = [
                self._drawn(self._copy_tables[leg], (e, *copy), ("copy", *self._profiles(copy)))
                for leg, copy in self._copies(e, a, b)
                if leg in legs
            ]
            self._edge_draws[e, a, b, legs] = sum(drawn, np.zeros(1))
        return self._edge_draws[e, a, b, legs]

    def _profiles(self, copy: tuple[int, int]) -> tuple[str, str]:
        source, destination = (_profile_name(self.makespans.catalog, t) for t in copy)
        return source, destination

    def _drawn(self, table: TimeTable, at: tuple[int, ...], factor: FactorName) -> FloatArray:
        seconds, log_sd = float(table.seconds[at]), float(table.log_sd[at])
        if np.isnan(seconds) and self.makespans.rules.missing_is_zero:
            seconds = 0.0
        if seconds == 0 or np.isnan(seconds) or log_sd == 0:
            return np.full(1, seconds)
        return np.asarray(seconds * np.exp(log_sd * self.factors.of(factor)))


def _known(table: TimeTable) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(table.log_sd) | (table.seconds == 0))


def _quantiles_of(makespan_s: FloatArray) -> dict[str, float]:
    found = quantiles(makespan_s, list(QUANTILES.values()))
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def _row(layout: Sequence[int]) -> Layouts:
    return np.array([layout], dtype=np.int8)


def _log_sd_about(estimate_s: float, drawn_s: FloatArray) -> float:
    """Return the larger half of an interval of 90 % as a standard deviation, 0 where nothing was drawn."""
    ends_s = quantiles(drawn_s, [QUANTILES["p05_s"], QUANTILES["p95_s"]])
    if not estimate_s > 0 or not (ends_s > 0).all():
        return 0.0
    return float(np.abs(np.log(ends_s / estimate_s)).max()) / NORMAL_HALF_WIDTH


def _profile_name(catalog: TierCatalog, t: int) -> str:
    return catalog.tiers[t].profile_name


def shares_of_best(makespans_s: Sequence[FloatArray], tolerance: float = 0.0) -> FloatArray:
    """Return, per configuration, the share of draws in which none is better by more than ``tolerance``.

    The draws of all configurations must be the same. Configurations that tie count all, so that the shares
    may add up to more than one.
    """
    drawn = np.stack([np.broadcast_to(found, max(map(np.shape, makespans_s))) for found in makespans_s])
    return np.asarray((drawn <= drawn.min(axis=0) * (1 + tolerance)).mean(axis=1))
