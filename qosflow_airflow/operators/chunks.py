"""In how many tasks each stage of a run is done: by what its finished runs tell, within what a Dag allows.

A stage's runs count where they were on the same tier and node count. Without any, the stage keeps the number
of its workflow, for which the model estimated its times. The same where nothing within the limits would do:
that is said, and the number stays what it was.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qosflow_airflow.exceptions import RequestError

if TYPE_CHECKING:
    from qosflow_airflow.core.space import Configuration
    from qosflow_airflow.core.tiers import TierCatalog
    from qosflow_airflow.core.workflow import Stage, Workflow
    from qosflow_airflow.learn.amdahl import StageTiming
    from qosflow_airflow.learn.chunk_choice import ChunkGoal, Objective
    from qosflow_airflow.learn.stage_chunks import StageChunks
    from qosflow_airflow.store.base import Store
    from qosflow_airflow.store.finished_runs import Observation, RunRecord, StageRun

OBJECTIVES: Mapping[str, Objective] = {
    "makespan": "time",
    "node_hours": "node_hours",
    "cost": "cost",
    # The geometric mean of makespan and node-hours is T sqrt(s), where a chunk has a node.
    "balanced": "published",
}
"""By the objective of the request, what a stage's number of chunks makes small."""
RUNS = 50
"""So many of the newest runs are looked at."""
_ABSENT = (None, "", "None", "null")


def parse_limits(value: Any) -> dict[str, int]:
    """Return stage to at most so many tasks: from a mapping, its JSON, or ``stage=number`` with commas.

    Raises
    ------
    RequestError
        When it is none of these, or a number is none from 1 on.
    """
    if value in _ABSENT:
        return {}
    try:
        if not isinstance(value, str):
            pairs = dict(value)
        elif "=" in value:
            pairs = dict(part.split("=", 1) for part in value.split(","))
        else:
            pairs = dict(json.loads(value))
        limits = {str(stage).strip(): int(most) for stage, most in pairs.items()}
    except (TypeError, ValueError, AttributeError):
        limits = {"": 0}
    if any(most < 1 for most in limits.values()):
        raise RequestError(
            f"max_chunks is {value!r}", cure='Give stage to a whole number from 1, as {"sifting": 8}.'
        )
    return limits


@dataclass(frozen=True)
class ChunkPlanner:
    """Chooses numbers of chunks for a run of ``configuration``.

    ``limits`` is stage to at most so many tasks; other stages keep their number. ``deadline`` says whether
    the run has one: then no stage is made slower than it is in its own number of tasks.
    """

    workflow: Workflow
    catalog: TierCatalog
    configuration: Configuration
    limits: Mapping[str, int]
    objective: str
    deadline: bool

    def plan(self, store: Store) -> dict[str, StageChunks]:
        """Return the choice for each stage that has a limit.

        Raises
        ------
        WorkflowError
            When a limit is for a stage that the workflow does not have.
        RequestError
            When the objective is unknown.
        """
        stages = [self.workflow.stage(name) for name in self.limits]
        if not stages:
            return {}
        timings = self._timings(store, stages)
        return {stage.name: self._choose(stage, timings[stage.name]) for stage in stages}

    def _choose(self, stage: Stage, timings: Sequence[StageTiming]) -> StageChunks:
        from qosflow_airflow.learn.stage_chunks import choose_for_stage

        found = None
        if timings:
            # Only here: it imports scipy.
            from qosflow_airflow.learn.parallelism_fit import fit_parallelism

            found = fit_parallelism(timings)
        tier, nodes = self.configuration.tiers[stage.name], self.configuration.nodes
        return choose_for_stage(
            found,
            stage.tasks,
            self.limits[stage.name],
            self._goal(stage),
            where=f"on {tier} and {nodes} node{'s' if nodes > 1 else ''}",
            no_slower=self.deadline,
        )

    def _goal(self, stage: Stage) -> ChunkGoal:
        from qosflow_airflow.learn.chunk_choice import ChunkGoal

        node, most = self.catalog.node, max(stage.tasks, self.limits[stage.name])
        # Without a number of slots, a node takes its share of all tasks at once.
        at_once = node.slots or -(-most // self.configuration.nodes)
        return ChunkGoal(
            self.objective,  # type: ignore[arg-type]  # the goal refuses others
            chunks_per_node=at_once,
            node_price_per_hour=node.price_per_hour or 0.0,
        )

    def _timings(self, store: Store, stages: Iterable[Stage]) -> dict[str, list[StageTiming]]:
        """Return what finished runs took per stage, oldest first."""
        found: dict[str, list[tuple[StageTiming, int | None]]] = {stage.name: [] for stage in stages}
        units: dict[str, set[str | None]] = {stage: set() for stage in found}
        for run in reversed(store.runs(self.workflow.name, limit=RUNS)):
            told = [stage for stage in found if self._is_like(run, stage)]
            observations = store.observations(run.recommendation_id) if told and run.stages else ()
            for stage in told:
                timing = timing_of(run, stage, observations)
                if timing is not None:
                    found[stage].append(timing)
                    units[stage] |= {one.load_source for one in run.stages if one.stage == stage}
        # Loads of several units cannot be compared: then none of them counts.
        return {stage: _scaled(timings, len(units[stage]) == 1) for stage, timings in found.items()}

    def _is_like(self, run: RunRecord, stage: str) -> bool:
        """Return whether a run had the stage on the same tier, and as many nodes."""
        ran = run.configuration or {}
        return (
            ran.get("nodes") == self.configuration.nodes
            and ran.get("tiers", {}).get(stage) == self.configuration.tiers[stage]
        )


def timing_of(
    run: RunRecord, stage: str, observations: Iterable[Observation]
) -> tuple[StageTiming, int | None] | None:
    """Return what a run tells of a stage, with the bytes that it read; ``None`` where it does not teach.

    All tasks must have succeeded by themselves at the first try. What they waited and took to start is the
    median over them. Where there are no observations, the run's outcome counts, without waiting.
    """
    from qosflow_airflow.learn.amdahl import StageTiming

    seen: StageRun | None = next((one for one in run.stages if one.stage == stage), None)
    if seen is None:
        measured = (run.outcome or {}).get("stages", {}).get(stage) if not run.stages else None
        return measured and (StageTiming(int(measured["tasks"]), float(measured["measured_s"])), None)
    if seen.others or seen.skewed or seen.tasks != seen.count or None in (seen.start_s, seen.end_s):
        return None
    waits = [_wait_s(one) for one in observations if one.stage == stage and one.teaches]
    startup_s = max(0.0, statistics.median(waits)) if waits else 0.0
    took_s = float(seen.end_s or 0.0) - float(seen.start_s or 0.0) + startup_s
    return StageTiming(seen.count, took_s, startup_s=startup_s, load=seen.load), seen.read_bytes


def _wait_s(found: Observation) -> float:
    """Return how long a task waited, and then took until its program was at work."""
    started = found.start_s is not None and found.work_start_s is not None
    starting_s = found.work_start_s - found.start_s if started else 0.0  # type: ignore[operator]
    return (found.queue_s or 0.0) + starting_s


def _scaled(timings: Sequence[tuple[StageTiming, int | None]], one_unit: bool) -> list[StageTiming]:
    """Return timings with the size of their data over the median one, where that is known of all.

    Loads are left out unless all are of ``one_unit``.
    """
    sizes = [size for _, size in timings if size]
    usual = statistics.median(sizes) if sizes and len(sizes) == len(timings) else None
    return [
        timing._replace(
            data_scale=1.0 if usual is None else (size or usual) / usual,
            load=timing.load if one_unit else None,
        )
        for timing, size in timings
    ]
