"""A recommendation as work to do: plain-JSON rows that Airflow maps tasks over.

Folders are made of the tiers' mounts, the run's own folder and the stage's name, so that two runs never meet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import TierError, WorkflowError

MAX_ROWS = 1024
"""Airflow refuses to map a task over more rows by default (``[core] max_map_length``)."""

Row = dict[str, Any]


class Placement(NamedTuple):
    """Where every stage of one run reads, runs and writes.

    Attributes
    ----------
    stages:
        Per stage one row per task: ``stage``, ``index``, ``count``, ``tier``, ``nodes``, ``inputs`` (folder
        per predecessor), ``output`` and ``env`` (the same as ``QOSFLOW_*`` variables).
    stage_in:
        Per stage one row per copy that must be done before it runs: ``source`` and ``destination``, the tiers
        that they lie on, and the ``patterns`` of the files to copy.
    stage_out:
        Per stage one row per copy of final outputs to the home tier.
    """

    stages: Mapping[str, list[Row]]
    stage_in: Mapping[str, list[Row]]
    stage_out: Mapping[str, list[Row]]


def place(
    workflow: Workflow,
    catalog: TierCatalog,
    configuration: Configuration,
    *,
    recommendation_id: str,
    initial_data: str | None,
    max_rows: int | None = MAX_ROWS,
    folder: str | None = None,
) -> Placement:
    """Return the rows of one run of ``configuration``.

    ``initial_data`` is the folder of the outside input, by default ``initial_data`` on the home tier. A stage
    may have any number of tasks where ``max_rows`` is ``None``. ``folder`` is the name of the run's own
    folders, by default the recommendation's identifier; a run that is planned again keeps its first one.

    Raises
    ------
    TierError
        When a chosen tier has no mount.
    WorkflowError
        When a stage has more tasks than ``max_rows``, its name cannot be that of a folder, or a name or
        folder holds Jinja delimiters, which Airflow would render.
    """
    planner = _Planner(
        workflow, catalog, configuration, recommendation_id, initial_data, folder or recommendation_id
    )
    for stage in workflow.stages:
        _check_stage(stage, max_rows)
    placement = Placement(
        stages={stage.name: planner.rows(stage) for stage in workflow.stages},
        stage_in={stage.name: planner.copies_in(stage) for stage in workflow.stages},
        stage_out={stage.name: planner.copies_out(stage) for stage in workflow.stages},
    )
    _refuse_templates(placement)
    return placement


def _check_stage(stage: Stage, max_rows: int | None) -> None:
    # Joined to a mount, such a name would lead out of it.
    if "/" in stage.name or stage.name in (".", ".."):
        raise WorkflowError("cannot be the name of a folder", stage=stage.name, cure="Rename it.")
    if max_rows is not None and stage.tasks > max_rows:
        raise WorkflowError(
            f"{stage.tasks} tasks, and Airflow maps a task over at most {max_rows} rows",
            stage=stage.name,
            cure="Give several pieces of work to each task, or raise `[core] max_map_length`.",
        )


class _Planner(NamedTuple):
    workflow: Workflow
    catalog: TierCatalog
    configuration: Configuration
    recommendation_id: str
    initial_data: str | None
    folder: str

    def rows(self, stage: Stage) -> list[Row]:
        inputs = {name: self._input_folder(stage, name) for name in stage.predecessors}
        tier = self.configuration.tiers[stage.name]
        common = {
            "QOSFLOW_STAGE": stage.name,
            "QOSFLOW_COUNT": str(stage.tasks),
            "QOSFLOW_TIER": tier,
            "QOSFLOW_NODES": str(self.configuration.nodes),
            "QOSFLOW_INPUTS": json.dumps(inputs),
            "QOSFLOW_OUTPUT": self._output_folder(stage.name),
            "QOSFLOW_RECORDS": self._folder(self.catalog.home, "records"),
            "QOSFLOW_RECOMMENDATION_ID": self.recommendation_id,
        }
        return [
            {
                "stage": stage.name,
                "index": index,
                "count": stage.tasks,
                "tier": tier,
                "nodes": self.configuration.nodes,
                "inputs": inputs,
                "output": common["QOSFLOW_OUTPUT"],
                "env": {
                    **common,
                    "QOSFLOW_INDEX": str(index),
                    "QOSFLOW_LABEL": f"{stage.name} {index + 1}/{stage.tasks} on {tier}",
                },
            }
            for index in range(stage.tasks)
        ]

    def copies_in(self, stage: Stage) -> list[Row]:
        tier = self.configuration.tiers[stage.name]
        return [
            {
                **self._copy(stage.name, name, self._tier_of(name), tier),
                "source": self._source_folder(name),
                "destination": destination,
                "patterns": list(patterns),
            }
            for name, patterns in stage.predecessors.items()
            if (destination := self._input_folder(stage, name)) != self._source_folder(name)
        ]

    def copies_out(self, stage: Stage) -> list[Row]:
        tier, home = self.configuration.tiers[stage.name], self.catalog.home
        kept = any(edge == (stage.name, FINAL_DATA) for edge in self.workflow.edges)
        if not kept or tier == home:
            return []
        return [
            {
                **self._copy(stage.name, stage.name, tier, home),
                "source": self._output_folder(stage.name),
                "destination": self._folder(home, "final", stage.name),
                "patterns": list(stage.outputs),
            }
        ]

    def _copy(self, stage: str, of: str, source_tier: str, tier: str) -> Row:
        return {
            "stage": stage,
            "data_of": of,
            "source_tier": source_tier,
            "tier": tier,
            "records": self._folder(self.catalog.home, "records"),
        }

    def _tier_of(self, name: str) -> str:
        return self.catalog.home if name == INITIAL_DATA else self.configuration.tiers[name]

    def _source_folder(self, name: str) -> str:
        if name == INITIAL_DATA:
            return self.initial_data or str(PurePosixPath(self._mount(self.catalog.home), INITIAL_DATA))
        return self._output_folder(name)

    def _input_folder(self, stage: Stage, name: str) -> str:
        """Return where ``stage`` reads what ``name`` wrote: there, or a copy on the stage's own tier."""
        source, tier = self._tier_of(name), self.configuration.tiers[stage.name]
        seen_by_all = self.catalog.tier(tier).shared or self.configuration.nodes == 1
        if source == tier and seen_by_all:
            return self._source_folder(name)
        return self._folder(tier, "staged", stage.name, name)

    def _output_folder(self, stage: str) -> str:
        return self._folder(self.configuration.tiers[stage], "output", stage)

    def _folder(self, tier: str, *parts: str) -> str:
        return str(PurePosixPath(self._mount(tier), self.folder, *parts))

    def _mount(self, tier: str) -> str:
        mount = self.catalog.tier(tier).mount
        if not mount:
            raise TierError(f"tier {tier!r} has no mount", cure="Set its `mount` in tiers.yaml.")
        return mount


def _refuse_templates(placement: Placement) -> None:
    text = json.dumps([placement.stages, placement.stage_in, placement.stage_out])
    for delimiter in ("{{", "{%", "{#"):
        if delimiter in text:
            raise WorkflowError(
                f"a stage, tier or folder name holds {delimiter!r}, which Airflow would render as a template",
                cure="Rename it.",
            )
