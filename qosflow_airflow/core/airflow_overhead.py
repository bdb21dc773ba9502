"""Airflow's own part of a run: what starting and following tasks takes, whatever the tasks do.

It is a term of its own and no part of makespans: it is the same for every configuration of a workflow, so
that it changes no choice, and it belongs to the installation and not to the storage. Who sets a deadline adds
it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qosflow_airflow.core.workflow import Workflow


@dataclass(frozen=True)
class AirflowOverhead:
    """Seconds that an ordinary task takes beyond its work, and one of a mapped task's instances."""

    task_s: float
    mapped_task_s: float

    def run_s(self, workflow: Workflow, slots: int | None = None) -> float:
        """Return Airflow's part of a run's wall clock: that of its longest chain of tasks.

        One task recommends. Each stage has a task that brings its inputs in, and its own tasks, mapped, of
        which ``slots`` run at once (all, by default).
        """
        longest: dict[str, float] = {}
        for name in workflow.topological_order:
            stage = workflow.stage(name)
            rounds = math.ceil(stage.tasks / min(slots or stage.tasks, stage.tasks))
            before = max((longest[one] for one in stage.stage_predecessors), default=0.0)
            longest[name] = before + self.task_s + rounds * self.mapped_task_s
        return self.task_s + max(longest.values())


def fitted(none_s: float, ordinary_s: float, mapped_s: float, count: int) -> AirflowOverhead:
    """Return the overhead from three runs: of one task, of ``count`` more, and of ``count`` mapped more."""
    return AirflowOverhead(
        max(0.0, ordinary_s - none_s) / count,
        max(0.0, mapped_s - none_s) / count,
    )
