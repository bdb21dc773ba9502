"""Run the whole workflow on this machine, without Airflow: each task a process, each stage on its tier."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.measure.run_workflow import StageRun, WorkflowRun
from qosflow_airflow.measure.run_workflow import run_workflow as run_rows

__all__ = ["PROGRAM", "StageRun", "WorkflowRun", "run_workflow"]

PROGRAM = Path(__file__).with_name("genome.py")


def run_workflow(
    workflow: Workflow,
    catalog: TierCatalog,
    tiers: Mapping[str, str],
    *,
    run_id: str,
    initial_data: Path,
    processes: int | None = None,
    one_by_one: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> WorkflowRun:
    """Run every task of the example, at most ``processes`` of a stage at once (default: one a processor).

    ``one_by_one`` runs one stage after the other.

    Errors are those of :func:`qosflow_airflow.measure.run_workflow.run_workflow`.
    """
    command = (sys.executable, str(PROGRAM), "run")
    return run_rows(
        workflow,
        catalog,
        tiers,
        command,
        run_id=run_id,
        initial_data=initial_data,
        slots=processes,
        one_by_one=one_by_one,
        say=say,
    )
