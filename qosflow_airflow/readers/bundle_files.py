"""Files of a bundle, written whole or not at all, as the bundle reader takes them."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import yaml

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers.csv_table import BYTES_PER_MIB

COLUMNS = (
    *("operation", "randomOffset", "transferSize", "aggregateFilesizeMB", "numTasks", "parallelism"),
    *("totalTime", "numNodesList", "numNodes", "tasksPerNode", "trMiB", "storageType", "opCount"),
    *("taskName", "taskPID", "fileName", "stageOrder", "prevTask"),
    *("computeSeconds", "startTime", "endTime", "fileBytes", "fileSizeBytes"),
)


def write_workflow_yaml(workflow: Workflow, path: Path) -> None:
    """Write a workflow; a file that is there is replaced."""
    stages = {
        stage.name: {
            "tasks": stage.tasks,
            "level": stage.level,
            "predecessors": {
                name: {"inputs": list(patterns)} if patterns else None
                for name, patterns in stage.predecessors.items()
            },
            **({"outputs": list(stage.outputs)} if stage.outputs else {}),
            **({"final": True} if stage.final else {}),
        }
        for stage in workflow.stages
    }
    described = {"description": workflow.description} if workflow.description else {}
    content = {"name": workflow.name, **described, "stages": stages}
    _replace(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))


def write_observations_csv(
    observations: IOObservations, path: Path, workflow: Workflow | None = None
) -> None:
    """Write observations, with the level of each stage where the workflow is given; replace what is there."""
    levels = {} if workflow is None else {stage.name: stage.level for stage in workflow.stages}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in observations.frame.to_dict("records"):
        timed = row["io_s"] > 0
        line = {
            "operation": row["operation"],
            "randomOffset": 0,
            "transferSize": row["access_bytes"],
            "aggregateFilesizeMB": row["volume_bytes"] / BYTES_PER_MIB,
            "numTasks": row["tasks"],
            "parallelism": row["tasks"],
            "totalTime": row["io_s"],
            "numNodesList": f"[{row['nodes']}]",
            "numNodes": row["nodes"],
            "tasksPerNode": math.ceil(row["tasks"] / row["nodes"]),
            "trMiB": row["volume_bytes"] / BYTES_PER_MIB / row["io_s"] if timed else math.nan,
            "storageType": row["tier"],
            "opCount": row["accesses"],
            "taskName": row["stage"],
            "taskPID": row["task"],
            "fileName": row["file"],
            "stageOrder": levels.get(str(row["stage"]), ""),
            "prevTask": row["producer"],
            "computeSeconds": row["compute_s"],
            "startTime": row["start_s"],
            "endTime": row["end_s"],
            "fileBytes": row["file_bytes"],
            "fileSizeBytes": row["file_size_bytes"],
        }
        writer.writerow({name: "" if _is_nan(value) else value for name, value in line.items()})
    _replace(path, text.getvalue())


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BundleError(
            f"cannot be written: {error.strerror}", source=path, cure="Check the folder."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
