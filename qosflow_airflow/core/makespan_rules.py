"""What a run pays for, as data: the rule sets under which a configuration's makespan is computed."""

from __future__ import annotations

from typing import Literal, NamedTuple

from qosflow_airflow.core.workflow import FINAL_DATA, Edge, Workflow
from qosflow_airflow.exceptions import RequestError


class MakespanRules(NamedTuple):
    """Which costs count, and when a stage may start.

    Attributes
    ----------
    level_barrier:
        All stages of a level move in, then all run, then all move out, each phase as long as its longest
        member. Without it a stage starts as soon as its own predecessors and transfers are done.
    pays_both_ends:
        A move from shared to local storage is charged to the producer's stage-out *and* to the consumer's
        stage-in. Without it each transfer is paid once, by its edge.
    moves_between_local_tiers:
        Whether a layout with an edge between two different local tiers is possible: through shared storage,
        but for a single node.
    single_node_moves_nothing:
        On one node, data already lies where a consumer on the same local tier reads it.
    flushes_every_final_output:
        Final outputs on a local tier move to shared storage whichever level their stage stands on. Without it
        only the last level is flushed.
    same_level_successors_count:
        A stage also writes for, and moves data to, successors on its own level.
    mixed_stages_read_initial_data:
        A stage with stage predecessors pays for its initial data too.
    reads_add_up:
        The times of a transfer table's edges into a stage are summed, although each prices the stage's whole
        volume. Without it the longest counts, once.
    copies_at_any_node_count:
        The shortest copy in a transfer table counts, at whatever node count it was priced. Without it only
        copies at the stage's own tasks per node do.
    missing_is_zero:
        A missing measurement counts as 0 s (and flags the configuration). Without it the makespan is unknown.
    respects_capacity:
        A configuration whose data does not fit on its tiers is invalid. Without it capacities do not count.
    shares_resources:
        Work that uses a device or the processors at the same time waits for each other, where its demand is
        known. Without it, and behind a level barrier, everything takes as long as alone.
    """

    name: Literal["complete", "reference"]
    level_barrier: bool
    pays_both_ends: bool
    moves_between_local_tiers: bool
    single_node_moves_nothing: bool
    flushes_every_final_output: bool
    same_level_successors_count: bool
    mixed_stages_read_initial_data: bool
    reads_add_up: bool
    copies_at_any_node_count: bool
    missing_is_zero: bool
    respects_capacity: bool
    shares_resources: bool


COMPLETE = MakespanRules(
    name="complete",
    level_barrier=False,
    pays_both_ends=False,
    moves_between_local_tiers=True,
    single_node_moves_nothing=True,
    flushes_every_final_output=True,
    same_level_successors_count=True,
    mixed_stages_read_initial_data=True,
    reads_add_up=False,
    copies_at_any_node_count=False,
    missing_is_zero=False,
    respects_capacity=True,
    shares_resources=True,
)
"""What a run under Airflow really does. The default."""

REFERENCE = MakespanRules(
    name="reference",
    level_barrier=True,
    pays_both_ends=True,
    moves_between_local_tiers=False,
    single_node_moves_nothing=False,
    flushes_every_final_output=False,
    same_level_successors_count=False,
    mixed_stages_read_initial_data=False,
    reads_add_up=True,
    copies_at_any_node_count=True,
    missing_is_zero=True,
    respects_capacity=False,
    shares_resources=False,
)
"""The level barrier as the public QoSFlow artifact computes it (IPDPS 2026), for comparison."""

RULES = {rules.name: rules for rules in (COMPLETE, REFERENCE)}


def rules_named(name: str) -> MakespanRules:
    """Return the rule set called ``name``."""
    for known, rules in RULES.items():
        if known == name:
            return rules
    raise RequestError(f"unknown rules {name!r}", cure=f"Use one of {', '.join(RULES)}.")


def edges_under(workflow: Workflow, rules: MakespanRules) -> tuple[Edge, ...]:
    """Return the workflow's edges; where only the last level is flushed, all its stages have a final one."""
    if rules.flushes_every_final_output:
        return workflow.edges
    last = [Edge(stage.name, FINAL_DATA) for stage in workflow.stages if stage.level == workflow.levels[-1]]
    return tuple(dict.fromkeys((*workflow.edges, *last)))
