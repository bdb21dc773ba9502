"""How far whole runs were off what is foretold of them, and the intervals that follow from it.

No run tells anything of itself: each is foretold from what the *other* runs of its workflow teach. An
interval is as wide as it takes to have held nine of ten of these errors (split conformal,
:mod:`~qosflow_airflow.learn.conformal`). It is made of the runs on as many nodes where they are enough, else
of all runs of the workflow, else of runs of several workflows with the same stages, else of those of any
workflow; those of others count as they were foretold when as few of their own runs had taught. Only the first
of these takes the place of the spread of a model's times, and only for tiers that a stage has run on several
times: other runs may widen an interval, and never make it narrower.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from qosflow_airflow.core.run_spread import RunSpread
from qosflow_airflow.learn.calibration import MIN_FOR_SPREAD, Calibration, calibrate
from qosflow_airflow.learn.conformal import half_width

if TYPE_CHECKING:
    from qosflow_airflow.learn.modelled_run import ModelledRun

MIN_ALIKE = 3
"""Runs of one workflow are off by much the same: fewer workflows do not tell what a further one is off by."""
ANY_NODES = "on any number of nodes"
ALIKE, OTHERS = "of workflows with the same stages", "of other workflows"


class RunError(NamedTuple):
    """A run beside what all others foretell of it.

    ``log_ratio`` is ``ln(observed / foretold makespan)``, ``overhead_s`` its seconds beyond the makespan less
    those of the others.
    """

    nodes: int
    log_ratio: float
    overhead_s: float


class RunErrors(NamedTuple):
    """Errors of a workflow's ``own`` runs, and (``ln`` ratios) of runs of other workflows.

    ``alike`` are those with the same stages, ``others`` all of them, where the own ones do not suffice.
    ``tried`` are, by node count, the stages with tiers on which they have run often enough.
    """

    own: tuple[RunError, ...] = ()
    alike: tuple[float, ...] = ()
    others: tuple[float, ...] = ()
    tried: Mapping[int, frozenset[tuple[str, str]]] = {}

    def with_others(self, found: Iterable[tuple[bool, Sequence[float]]]) -> Self:
        """Return these with errors of other workflows, each with whether its stages are the same."""
        told = [(alike, errors) for alike, errors in found if errors]
        alike = [errors for is_alike, errors in told if is_alike]
        pooled = alike if len(alike) >= MIN_ALIKE else []
        return self._replace(
            alike=tuple(chain.from_iterable(pooled)),
            others=tuple(chain.from_iterable(errors for _, errors in told)),
        )

    @property
    def suffice(self) -> bool:
        """Whether the workflow's own runs are enough for an interval."""
        return not math.isnan(half_width([one.log_ratio for one in self.own]))

    def spread(self, nodes: int, may_narrow: bool = True, untried: Collection[str] = ()) -> RunSpread | None:
        """Return how far makespans at a node count are off, ``None`` where too few runs tell it.

        Without ``may_narrow`` it only widens intervals, whatever has run; with ``untried`` stages too.
        """
        here = [one.log_ratio for one in self.own if one.nodes == nodes]
        pools = (
            (here, f"on {nodes} node{'' if nodes == 1 else 's'}"),
            ([one.log_ratio for one in self.own], ANY_NODES),
            (list(self.alike), ALIKE),
            (list(self.others), OTHERS),
        )
        for at, (errors, whose) in enumerate(pools):
            half = half_width(errors)
            if not math.isnan(half):
                narrows = at == 0 and may_narrow
                known = self.tried.get(nodes, frozenset()) if narrows else frozenset()
                tried = frozenset(pair for pair in known if pair[0] not in untried)
                return RunSpread(half, self._overhead_half_width_s, len(errors), whose, tried)
        return None

    @property
    def _overhead_half_width_s(self) -> float:
        found = half_width([one.overhead_s for one in self.own])
        return 0.0 if math.isnan(found) else found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "own": [one._asdict() for one in self.own],
            "alike": list(self.alike),
            "others": list(self.others),
            "tried": {str(nodes): sorted(map(list, pairs)) for nodes, pairs in sorted(self.tried.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build errors from what :meth:`to_json` returned."""
        return cls(
            tuple(RunError(**one) for one in value["own"]),
            tuple(value["alike"]),
            tuple(value["others"]),
            {
                int(nodes): frozenset((stage, tier) for stage, tier in pairs)
                for nodes, pairs in value["tried"].items()
            },
        )


class TimedRun(NamedTuple):
    """A run that was timed as a whole, with the seconds that it took beyond its stages and copies."""

    run: ModelledRun
    overhead_s: float = 0.0


def left_out_errors(runs: Sequence[TimedRun], calibrated: bool = True) -> RunErrors:
    """Return how far each run is off what the others foretell; with ``calibrated``, corrected by them."""
    own = []
    for at, timed in enumerate(runs):
        others = [*runs[:at], *runs[at + 1 :]]
        log_ratio = _log_ratio(timed.run, [one.run for one in others] if calibrated else ())
        if math.isfinite(log_ratio):
            expected_s = median([one.overhead_s for one in others]) if others and calibrated else 0.0
            nodes = timed.run.makespans.times.nodes
            own.append(RunError(nodes, log_ratio, timed.overhead_s - expected_s))
    return RunErrors(tuple(own), tried=_tried(timed.run for timed in runs))


def early_errors(runs: Sequence[ModelledRun], taught: int, known: int = 0) -> tuple[float, ...]:
    """Return how far runs are off (``ln`` ratios) once the first ``taught`` of them have taught, and no more.

    So were runs foretold of a workflow that knew as little as another one knows now. The first ``known`` of
    these errors are left out.
    """
    found = [_log_ratio(run, runs[:taught]) for run in runs[taught + known :]]
    return tuple(filter(math.isfinite, found))


def _log_ratio(run: ModelledRun, teachers: Iterable[ModelledRun]) -> float:
    residuals = list(chain.from_iterable(one.residuals() for one in teachers))
    names, tiers = run.makespans.workflow.stage_names, run.makespans.catalog.names
    foretold_s = run.calibrated_s(calibrate(residuals, names, tiers) if residuals else Calibration())
    if not (foretold_s > 0 and run.observed_s > 0):
        return math.nan
    return math.log(run.observed_s / foretold_s)


def _tried(runs: Iterable[ModelledRun]) -> dict[int, frozenset[tuple[str, str]]]:
    counts: dict[int, dict[tuple[str, str], int]] = {}
    for run in runs:
        at = counts.setdefault(run.makespans.times.nodes, {})
        names, tiers = run.makespans.workflow.stage_names, run.makespans.catalog.names
        for stage, tier in zip(names, run.layout, strict=True):
            at[stage, tiers[tier]] = at.get((stage, tiers[tier]), 0) + 1
    return {
        nodes: frozenset(pair for pair, runs in at.items() if runs >= MIN_FOR_SPREAD)
        for nodes, at in counts.items()
    }
