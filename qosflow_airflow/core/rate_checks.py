"""Named rules that measured rates are held to before anything is fitted to them.

A rule drops rows, corrects them, or flags them; each can be switched off, and the report says what each did.
No rule knows a platform: what needs a limit (the network of a node, a device) takes it from ``limits_mib_s``,
per tier and node, and otherwise infers one from the measurements themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.exceptions import MeasurementError

MIB = 2**20
GIB = 2**30
KEY = ["operation", "source_tier", "destination_tier"]
CELL = ["nodes", "tasks_per_node", "access_bytes", "volume_bytes"]

SHORT_S = 0.05
"""Shorter runs are timer and start-up."""
MOVED_SHARE = 0.9
"""A run that moved less than this share of its nominal volume moved another than its name says."""
CACHED_FACTOR = 5.0
"""A read this many times faster than the fastest write of its tier, per node, came from memory."""
FIXED_VOLUME_SLOPE = (-1.2, -0.8)
"""d ln rate / d ln volume of copies whose time does not depend on the volume: a rate of another volume."""
FIXED_VOLUME_SPAN = 10.0
NODE_STEP = 3.0
"""A copy's rate is one node's: a node count that differs by this factor was measured differently."""
PER_NODE_BAND = 1.25
FEW_POINTS = 30


class Action(StrEnum):
    """What a rule does to the rows that it is about."""

    DROP = "drop"
    CORRECT = "correct"
    FLAG = "flag"


class RuleOutcome(NamedTuple):
    """What a rule did: the rows it is about, and the median factor by which it changes a value (1: none)."""

    name: str
    action: Action
    why: str
    applied: bool
    rows: int
    factor: float


@dataclass(frozen=True)
class CompletenessReport:
    """What the measurements hold and lack after the rules.

    ``cells`` maps an operation and its tiers to the present and all cells of their grid; ``few_points``
    names those with too few points for more than interpolation.
    """

    measured: int
    kept: int
    outcomes: tuple[RuleOutcome, ...]
    cells: Mapping[str, tuple[int, int]]
    few_points: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "measured": self.measured,
            "kept": self.kept,
            "rules": [{**outcome._asdict(), "action": outcome.action.value} for outcome in self.outcomes],
            "cells": {name: {"present": have, "full": full} for name, (have, full) in self.cells.items()},
            "few_points": list(self.few_points),
        }


class CheckedRates(NamedTuple):
    """Rates after the rules, and what the rules did."""

    rates: StorageRates
    report: CompletenessReport


@dataclass(frozen=True)
class _Context:
    """What a rule may look at."""

    frame: pd.DataFrame
    limits_mib_s: Mapping[str, float] = field(default_factory=dict)


class _Found(NamedTuple):
    """The rows that a rule is about, and what it would make of the columns that it corrects."""

    rows: NDArray[np.bool_]
    column: str | None = None
    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class Rule:
    """A named rule."""

    name: str
    action: Action
    why: str
    find: Callable[[_Context], _Found]


def check_rates(
    rates: StorageRates, *, without: Collection[str] = (), limits_mib_s: Mapping[str, float] | None = None
) -> CheckedRates:
    """Hold rates to every rule of :data:`RULES` but those named by ``without``, in their order.

    ``limits_mib_s`` maps a tier to the most that its network or device can give one node.

    Raises
    ------
    MeasurementError
        When ``without`` names no rule, or nothing is left.
    """
    if unknown := sorted(set(without) - {rule.name for rule in RULES}):
        known = ", ".join(rule.name for rule in RULES)
        raise MeasurementError(f"there is no rule {', '.join(unknown)}", cure=f"The rules are {known}.")
    frame = rates.frame.copy()
    outcomes = [
        RuleOutcome(reason, Action.DROP, "holds no measurement", True, count, 1.0)
        for reason, count in rates.dropped.items()
    ]
    for rule in RULES:
        found = rule.find(_Context(frame, limits_mib_s or {}))
        applied = rule.name not in without
        outcomes.append(
            RuleOutcome(
                rule.name, rule.action, rule.why, applied, int(found.rows.sum()), _factor(frame, found)
            )
        )
        if applied:
            frame = _apply(frame, rule, found)
    if frame.empty:
        raise MeasurementError(
            "the rules leave no rates", cure="Measure again, or switch off the rule that drops them."
        )
    report = CompletenessReport(
        len(rates.frame) + sum(rates.dropped.values()),
        len(frame),
        tuple(outcomes),
        # Of nominal volumes: a corrected one is no level of the grid that was asked for.
        dict(_cells(rates.frame.loc[frame.index])),
        tuple(
            _name(key) for key, rows in frame.groupby(KEY) if len(rows[CELL].drop_duplicates()) < FEW_POINTS
        ),
    )
    return CheckedRates(StorageRates(frame, rates.dropped), report)


def _apply(frame: pd.DataFrame, rule: Rule, found: _Found) -> pd.DataFrame:
    if rule.action is Action.DROP:
        return frame[~found.rows]
    if found.column is not None and found.values is not None:
        frame = frame.copy()
        frame[found.column] = np.where(found.rows, found.values, frame[found.column])
    return frame


def _factor(frame: pd.DataFrame, found: _Found) -> float:
    if found.column is None or found.values is None or found.values.dtype == bool or not found.rows.any():
        return 1.0
    old = frame[found.column].to_numpy(dtype=float)[found.rows]
    return float(np.median(found.values[found.rows] / old))


def _inconsistent_tasks(context: _Context) -> _Found:
    frame = context.frame
    together = frame["tasks_per_node"] * frame["nodes"]
    return _Found(((frame["operation"] != "copy") & (together != frame["tasks"])).to_numpy())


def _moved_less(context: _Context) -> _Found:
    frame = context.frame
    moved = (frame["rate_mib_s"] * frame["duration_s"] * MIB).to_numpy(dtype=float)
    rows = (moved < MOVED_SHARE * frame["volume_bytes"].to_numpy()) & (
        frame["operation"] != "copy"
    ).to_numpy()
    return _Found(rows, "volume_bytes", moved)


def _fixed_volume(context: _Context) -> _Found:
    frame = context.frame
    rows = np.zeros(len(frame), dtype=bool)
    positions = pd.Series(np.arange(len(frame)), index=frame.index)
    copies = frame[(frame["operation"] == "copy") & ~frame["remote"].astype(bool)]
    for _, pair in copies.groupby(KEY):
        medians = pair.groupby("volume_bytes")["rate_mib_s"].median()
        if len(medians) < 3 or medians.index[-1] < FIXED_VOLUME_SPAN * medians.index[0]:
            continue
        slope = np.log(medians.iloc[-1] / medians.iloc[0]) / np.log(medians.index[-1] / medians.index[0])
        if FIXED_VOLUME_SLOPE[0] <= slope <= FIXED_VOLUME_SLOPE[1]:
            rows[positions[pair.index].to_numpy()] = True
    values = (frame["rate_mib_s"] * frame["volume_bytes"] / GIB).to_numpy(dtype=float)
    return _Found(rows, "rate_mib_s", values)


def _cached_reads(context: _Context) -> _Found:
    frame = context.frame
    per_node = (frame["rate_mib_s"] / frame["nodes"]).to_numpy(dtype=float)
    writes = frame["operation"] == "write"
    inferred = pd.Series(per_node[writes], index=frame["source_tier"][writes]).groupby(level=0).max()
    limits = {str(tier): CACHED_FACTOR * rate for tier, rate in inferred.items()} | dict(context.limits_mib_s)
    limit = frame["source_tier"].map(limits).fillna(np.inf).to_numpy(dtype=float)
    reads = ((frame["operation"] == "read") & ~frame["direct"].astype(bool)).to_numpy()
    rows = reads & (per_node > limit)
    return _Found(rows, "cached", np.ones(len(frame), dtype=bool))


def _faster_than_tier(context: _Context) -> _Found:
    frame = context.frame
    best: dict[str, pd.Series[float]] = {
        operation: frame[frame["operation"] == operation].groupby("source_tier")["rate_mib_s"].max()
        for operation in ("read", "write")
    }
    source = frame["source_tier"].map(best["read"]).fillna(np.inf)
    destination = frame["destination_tier"].map(best["write"]).fillna(np.inf)
    ceiling = np.minimum(source.to_numpy(dtype=float), destination.to_numpy(dtype=float))
    copies = (frame["operation"] == "copy").to_numpy()
    return _Found(copies & (frame["rate_mib_s"].to_numpy() > ceiling))


def _node_step(context: _Context) -> _Found:
    frame = context.frame
    copies = frame["operation"] == "copy"
    log_rate = np.log(frame["rate_mib_s"])
    of_pair = log_rate.groupby([frame[name] for name in KEY]).transform("median")
    of_count = log_rate.groupby([frame[name] for name in (*KEY, "nodes")]).transform("median")
    return _Found((copies & ((of_count - of_pair).abs() > np.log(NODE_STEP))).to_numpy())


def _per_node_rate(context: _Context) -> _Found:
    frame = context.frame
    rows = pd.Series(False, index=frame.index)
    for _, pair in frame[frame["operation"] == "copy"].groupby(KEY):
        medians = pair.groupby("nodes")["rate_mib_s"].median()
        ratio = medians.iloc[-1] / medians.iloc[0]
        if len(medians) > 1 and 1 / PER_NODE_BAND < ratio < PER_NODE_BAND:
            rows[pair.index] = True
    return _Found(rows.to_numpy())


def _column_rule(
    select: Callable[[pd.DataFrame], pd.Series[bool]],
) -> Callable[[_Context], _Found]:
    return lambda context: _Found(select(context.frame).to_numpy(dtype=bool))


RULES = (
    Rule(
        "inconsistent_tasks",
        Action.DROP,
        "tasks per node times nodes is not the number of tasks: the node count is another",
        _inconsistent_tasks,
    ),
    Rule(
        "moved_less",
        Action.CORRECT,
        "rate times duration is less than the nominal volume: the volume is what was moved",
        _moved_less,
    ),
    Rule(
        "fixed_volume",
        Action.CORRECT,
        "copies of any volume took the same time: the rate is that of 1 GiB, and is scaled to the volume",
        _fixed_volume,
    ),
    Rule("cached_reads", Action.FLAG, "faster than the tier can be: read from memory", _cached_reads),
    Rule(
        "faster_than_tier",
        Action.FLAG,
        "a copy faster than its source was ever read or its destination written: suspicious",
        _faster_than_tier,
    ),
    Rule(
        "node_step",
        Action.FLAG,
        "copies at this node count differ by a constant factor from those at the others: suspicious",
        _node_step,
    ),
    Rule(
        "per_node_rate",
        Action.FLAG,
        "copy rates do not change with the nodes: they are one node's, and volumes are per node",
        _per_node_rate,
    ),
    Rule(
        "not_timed",
        Action.FLAG,
        "no duration: the rate alone is used",
        _column_rule(lambda frame: frame["duration_s"].isna()),
    ),
    Rule(
        "short_run",
        Action.FLAG,
        f"less than {SHORT_S} s: timer and start-up",
        _column_rule(lambda frame: frame["duration_s"] < SHORT_S),
    ),
    Rule(
        "fewer_tasks_than_nodes",
        Action.FLAG,
        "fewer tasks than nodes: tasks per node is a fraction",
        _column_rule(lambda frame: frame["tasks_per_node"] < 1),
    ),
    Rule(
        "repeated_row",
        Action.FLAG,
        "equal to another row in every column: kept as a repeat",
        _column_rule(lambda frame: frame.duplicated()),
    ),
)
"""All rules, in the order in which they are applied."""


def _cells(frame: pd.DataFrame) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the present and all cells of the grid that the levels of the axes span."""
    for key, rows in frame.groupby(KEY, sort=True):
        full = int(np.prod([rows[axis].nunique() for axis in CELL]))
        yield _name(key), (len(rows[CELL].drop_duplicates()), full)


def _name(key: Any) -> str:
    operation, source, destination = key
    return f"{operation} {source}" if source == destination else f"{operation} {source}-{destination}"
