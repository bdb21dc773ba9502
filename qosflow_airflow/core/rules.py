"""A region in words."""

from __future__ import annotations

from collections.abc import Sequence

from qosflow_airflow.core.bottlenecks import Bottleneck
from qosflow_airflow.core.boxes import Asked
from qosflow_airflow.core.conditions import Moves, OnTier
from qosflow_airflow.core.regions import Region, Rule
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow

PARTS = {
    "movement": "moving data",
    "shared_io": "shared tiers",
    "local_io": "local tiers",
    "compute": "computing",
}
"""The parts of a makespan in words."""


def sentence(region: Region, catalog: TierCatalog, workflow: Workflow) -> str:
    """Return what a region asks for, what it foretells and which stages matter, as one sentence.

    For example: ``individuals on beegfs, sifting on the tier of individuals; the other stages anywhere:
    140-340 s (median 270 s) on 10 nodes, mostly for shared tiers; critical: individuals; flexible:
    frequency.`` Several rules are joined by ``or``.
    """
    asked = "; or ".join(_rule(rule, catalog, workflow) for rule in region.rules)
    parts = [f"{asked}: {_times(region)} on {_counted(region.nodes, 'node')}{_mostly(region.bottleneck)}"]
    for role in ("critical", "flexible", "constrained"):
        stages = [name for name in workflow.stage_names if _marked(region, name) == role]
        if stages:
            parts.append(f"{role}: {', '.join(stages)}")
    return "; ".join(parts) + "."


def condition_in_words(asked: Asked) -> str:
    """Return one condition, as it is to hold or not to hold."""
    condition, holds = asked
    if isinstance(condition, OnTier):
        return _shared_tier(condition, holds)
    return _moves(condition, holds)


def _marked(region: Region, stage: str) -> str:
    """Return the mark of a stage: only where some of its tiers do not occur is it called constrained."""
    rule = region.stages[stage]
    return "" if rule.role == "constrained" and rule.anywhere else rule.role


def _rule(rule: Rule, catalog: TierCatalog, workflow: Workflow) -> str:
    stages_by_tiers: dict[tuple[str, ...], list[str]] = {}
    for name in workflow.stage_names:
        if name not in rule.anywhere:
            tiers = tuple(sorted(rule.tiers[name], key=catalog.names.index))
            stages_by_tiers.setdefault(tiers, []).append(name)
    bound = [f"{_list(stages, 'and')} on {_list(t, 'or')}" for t, stages in stages_by_tiers.items()]
    bound += [condition_in_words(asked) for asked in rule.needed]
    if not bound:
        return "every stage anywhere"
    named = {stage for stages in stages_by_tiers.values() for stage in stages}
    others = len(workflow.stage_names) - len(named | _bound_by_conditions(rule))
    if not others:
        return ", ".join(bound)
    return f"{', '.join(bound)}; the other {'stage' if others == 1 else 'stages'} anywhere"


def _bound_by_conditions(rule: Rule) -> set[str]:
    """Return the stages that a condition names."""
    found: set[str] = set()
    for condition, _ in rule.needed:
        if isinstance(condition, OnTier):
            found |= set(condition.stages)
        else:
            found |= {stage for edge in condition.edges for stage in edge}
    return found


def _shared_tier(condition: OnTier, holds: bool) -> str:
    if holds:
        return f"{_list(condition.stages, 'and' if condition.every else 'or')} on {condition.tier}"
    if condition.every:
        return f"not all of {_list(condition.stages, 'and')} on {condition.tier}"
    return f"none of {_list(condition.stages, 'and')} on {condition.tier}"


def _moves(condition: Moves, holds: bool) -> str:
    """Return what the data of edges does, as seen from the stage that they have in common."""
    producers, consumers = ({edge[end] for edge in condition.edges} for end in (0, 1))
    stage, others = (
        (condition.edges[0][1], [a for a, _ in condition.edges])
        if len(consumers) == 1
        else (condition.edges[0][0], [b for _, b in condition.edges])
    )
    assert len(producers) == 1 or len(consumers) == 1  # conditions are asked of one stage's edges
    if len(others) == 1:
        return f"{stage} on {'another tier than' if holds else 'the tier of'} {others[0]}"
    if holds:
        which = "each" if condition.every else "at least one"
        return f"{stage} on another tier than {which} of {_list(others, 'and')}"
    return f"{stage} on the tier of {_list(others, 'or' if condition.every else 'and')}"


def _mostly(bottleneck: Bottleneck) -> str:
    return f", mostly for {PARTS[bottleneck.part]}" if bottleneck.share > 0 else ""


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
