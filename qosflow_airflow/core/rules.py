"""A region in words."""

from __future__ import annotations

from collections.abc import Sequence

from qosflow_airflow.core.regions import Region
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow


def sentence(region: Region, catalog: TierCatalog, workflow: Workflow) -> str:
    """Return what a region asks for, what it foretells and which stages matter, as one sentence.

    For example: ``individuals on beegfs, sifting on beegfs or ssd; the other stages anywhere: 140-340 s
    (median 270 s) on 10 nodes; critical: individuals; flexible: frequency.``
    """
    parts = [f"{_placement(region, catalog, workflow)}: {_times(region)} on {_counted(region.nodes, 'node')}"]
    for role in ("critical", "flexible"):
        stages = [name for name in workflow.stage_names if region.stages[name].role == role]
        if stages:
            parts.append(f"{role}: {', '.join(stages)}")
    return "; ".join(parts) + "."


def _placement(region: Region, catalog: TierCatalog, workflow: Workflow) -> str:
    stages_by_tiers: dict[tuple[str, ...], list[str]] = {}
    others = 0
    for name in workflow.stage_names:
        rule = region.stages[name]
        if rule.anywhere:
            others += 1
        else:
            tiers = tuple(sorted(rule.tiers, key=catalog.names.index))
            stages_by_tiers.setdefault(tiers, []).append(name)
    if not stages_by_tiers:
        return "every stage anywhere"
    bound = ", ".join(f"{_list(stages, 'and')} on {_list(t, 'or')}" for t, stages in stages_by_tiers.items())
    if not others:
        return bound
    return f"{bound}; the other {'stage' if others == 1 else 'stages'} anywhere"


def _times(region: Region) -> str:
    low, high, median = (_seconds(value) for value in (region.min_s, region.max_s, region.median_s))
    return f"{low} s" if low == high else f"{low}-{high} s (median {median} s)"


def _seconds(value: float) -> str:
    """Return seconds with three digits where there are decimals, without exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    decimals = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".") or "0"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _list(words: Sequence[str], conjunction: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
