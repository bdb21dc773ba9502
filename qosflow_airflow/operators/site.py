"""Where the stages of a run are done, as the first task of a stage sees it: on this machine, or in pods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qosflow_airflow.measure.probe import why_unusable
from qosflow_airflow.operators.run_rows import PLAN, Part, Rows, xcom_key

Run = Mapping[str, Any]
"""Rows by :func:`~qosflow_airflow.operators.run_rows.xcom_key`, with their promise and their plan."""
Planned = Callable[[], Mapping[str, Mapping[str, str]]]
"""Returns the tiers of all stages in the plan by which each stage has begun; it asks Airflow."""


class Site(Protocol):
    """What a boundary asks of the place where its run is done."""

    @property
    def leaves(self) -> Sequence[Part]:
        """Which rows the first task of a stage leaves for itself and for the stage's other tasks."""

    def why_unusable(self, run: Run, stage: str) -> str | None:
        """Return why the tier of a stage cannot be used right now, ``None`` where it can be."""

    def closed(self) -> Mapping[str, str]:
        """Return the tiers that no plan of the run can use here, each with the reason."""

    def rows(self, run: Run, part: Part, stage: str, planned: Planned) -> Rows:
        """Return the rows of a part of a stage."""


@dataclass(frozen=True)
class ThisMachine:
    """Tasks are processes of the machine that the boundary runs on, which sees all tiers."""

    leaves: Sequence[Part] = ("stage_out",)

    def why_unusable(self, run: Run, stage: str) -> str | None:
        """Write to the tier and read back."""
        plan, row = run[PLAN], run[xcom_key("stage", stage)][0]
        folder, needed_bytes = Path(plan["mounts"][row["tier"]]), plan["output_bytes"].get(stage, 0.0)
        return why_unusable(folder, plan["probe_timeout_s"], needed_bytes, Path(row["output"]))

    def closed(self) -> Mapping[str, str]:
        """Return none: a tier that is not there is found by trying it."""
        return {}

    def rows(self, run: Run, part: Part, stage: str, planned: Planned) -> Rows:
        """Return the rows as they were planned."""
        return list(run[xcom_key(part, stage)])
