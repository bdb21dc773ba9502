"""What a task instance that has ended tells, where it belongs to a recommended run."""

from __future__ import annotations

import glob
import json
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qosflow_airflow.store.finished_runs import Observation, State

PARAMETERS = ("env", "env_vars", "op_kwargs")
"""The parameters in which operators hold the variables of a row."""
RECOMMENDATION, STAGE = "QOSFLOW_RECOMMENDATION_ID", "QOSFLOW_STAGE"
MAX_RECORD_BYTES = 4 << 20
CLOCK_S = 1.0
"""A record may begin so much before its task, by a clock that is read in another process."""


def observe(task_instance: Any, state: State, by_user: bool) -> Observation | None:
    """Return what a task instance tells, ``None`` where it does no task of a recommended run.

    In the process of a task that is Airflow's runtime task instance, which has the operator with its rendered
    parameters. Where somebody set the state it is a row of Airflow's database, with rendered parameters
    where they were loaded; nothing is loaded here.
    """
    variables = _variables(task_instance)
    if variables is None:
        return None
    from qosflow_airflow.hooks.load import measured_load
    from qosflow_airflow.store.finished_runs import Observation

    start_s, end_s = _epoch_s(task_instance.start_date), _epoch_s(task_instance.end_date)
    indexes = variables.get("QOSFLOW_INDEXES", variables.get("QOSFLOW_INDEX", "0")).split()
    record: dict[str, Any] = {}
    if state == "success" and not by_user:
        record = _record(variables, start_s) or _container(getattr(task_instance, "task", None))
    ready_s = _number(variables.get("QOSFLOW_READY_S"))
    node = variables.get("QOSFLOW_NODE")
    image = _image(task_instance)
    host = node or getattr(task_instance, "hostname", None) or socket.gethostname()
    load = None
    if not by_user and start_s is not None and end_s is not None:
        load = measured_load(host, end_s - start_s, is_here=node is None and image is None)
    return Observation(
        recommendation_id=variables[RECOMMENDATION],
        stage=variables[STAGE],
        map_index=-1 if task_instance.map_index is None else task_instance.map_index,
        try_number=task_instance.try_number,
        state=state,
        source="user" if by_user else "task",
        tasks=max(1, len(indexes)),
        count=int(variables.get("QOSFLOW_COUNT", "1")),
        start_s=start_s,
        end_s=end_s,
        work_start_s=record.get("start_s"),
        work_end_s=record.get("end_s"),
        queue_s=None if ready_s is None or start_s is None else start_s - ready_s,
        read_bytes=_moved(record, "read"),
        write_bytes=_moved(record, "write"),
        tier=variables.get("QOSFLOW_TIER"),
        host=host,
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
        task_id=task_instance.task_id,
        load=None if load is None else load.value,
        load_source=None if load is None else load.source,
        dag_version=_dag_version(task_instance),
        image=image,
    )


def _dag_version(task_instance: Any) -> str | None:
    """Return the version of the Dag's bundle, or else of the Dag itself."""
    # Asking a row of Airflow's database would load what is not there, in a session that is not ours.
    held = vars(task_instance)
    version = getattr(held.get("bundle_instance"), "version", None) or held.get("dag_version_id")
    return None if version is None else str(version)


def _image(task_instance: Any) -> str | None:
    """Return the image of the container that did the work, where there was one."""
    image = getattr(vars(task_instance).get("task"), "image", None)
    return image if isinstance(image, str) and image else None


def _variables(task_instance: Any) -> dict[str, str] | None:
    """Return the ``QOSFLOW_*`` variables of a task, ``None`` where it has none."""
    if hasattr(type(task_instance), "__table__"):
        # Asking the row itself would load what is not there, in a session that is not ours.
        row = vars(task_instance).get("rendered_task_instance_fields")
        rendered = getattr(row, "rendered_fields", None)
        held = rendered if isinstance(rendered, Mapping) else {}
    else:
        task = getattr(task_instance, "task", None)
        held = {name: getattr(task, name, None) for name in PARAMETERS}
    for name in PARAMETERS:
        found = _as_variables(held.get(name))
        if found.get(RECOMMENDATION) and found.get(STAGE):
            return found
    return None


def _as_variables(value: Any) -> dict[str, str]:
    """Return variables from a mapping, a row with ``env``, a mapping with ``row``, or a list of a pod's."""
    if isinstance(value, Mapping):
        for name in ("row", "env"):
            if isinstance(value.get(name), Mapping):
                return _as_variables(value[name])
        return {name: str(held) for name, held in value.items() if str(name).startswith("QOSFLOW_")}
    if isinstance(value, list):
        return {
            one.name: str(one.value)
            for one in value
            if str(getattr(one, "name", "")).startswith("QOSFLOW_") and one.value is not None
        }
    return {}


def _record(variables: Mapping[str, str], start_s: float | None) -> dict[str, Any]:
    """Return the record that the task's program left, empty where there is none, or one of an earlier try."""
    stage, index = variables[STAGE], variables.get("QOSFLOW_INDEX")
    folder = variables.get("QOSFLOW_RECORDS")
    if folder is None or index is None:
        return {}
    for path in Path(folder).glob(f"*{glob.escape(stage)}*{index}.json"):
        if path.stat().st_size > MAX_RECORD_BYTES:
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or (record.get("stage"), record.get("index")) != (stage, int(index)):
            continue
        times = [_number(record.get(name)) for name in ("start_s", "end_s")]
        if None not in times and (start_s is None or record["start_s"] >= start_s - CLOCK_S):
            return record
    return {}


def _container(task: Any) -> dict[str, Any]:
    """Return when the container of a task's pod ran, empty where it has none.

    Airflow's times of the task hold the start of the pod as well: scheduling, volumes, the image.
    """
    status = getattr(getattr(task, "remote_pod", None), "status", None)
    for container in getattr(status, "container_statuses", None) or ():
        ended = container.state.terminated if container.state else None
        if container.name == task.base_container_name and ended and ended.started_at and ended.finished_at:
            return {"start_s": _epoch_s(ended.started_at), "end_s": _epoch_s(ended.finished_at)}
    return {}


def _moved(record: Mapping[str, Any], operation: str) -> int | None:
    """Return the bytes that a record says were read or written."""
    files = record.get("files")
    if not isinstance(files, list):
        return None
    return sum(int(one["bytes"]) for one in files if one.get("operation") == operation)


def _epoch_s(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
