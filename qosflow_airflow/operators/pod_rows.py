"""Rows of pods, as plain JSON in XCom, turned into what ``KubernetesPodOperator`` takes.

Imports the Kubernetes client only when a row is turned: Dag files are read without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from airflow.sdk.definitions.template import literal

from qosflow_airflow.exceptions import MeasurementError

SCRIPT = files("qosflow_airflow.operators").joinpath("pod_tasks.sh").read_text(encoding="utf-8")
"""What every pod runs; the command of the stage's tasks is its argument."""

COMMAND = ("sh", "-c", SCRIPT, "qosflow")
"""The entry point of every pod. It comes with the rows: a Dag would be kept with a script in every task."""

TIER = "qosflow/tier"
"""The annotation that says which tier a pod's tasks use, or which one it cleans."""
LABEL = "{{ task.annotations['qosflow/label'] }}"
"""The label of a mapped pod in the grid, as in ``individuals 3/10 on tmpfs``."""


def pod_kwargs(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as what ``KubernetesPodOperator.expand_kwargs`` takes.

    Volumes become the client's objects here, in the worker: the operator takes nothing else, and XCom does
    not take these. The entry point and values of variables are taken as they are: Airflow would render a name
    that looks like a template.
    """
    from kubernetes.client import models

    return {
        **row,
        "volumes": [to_model(volume, models.V1Volume) for volume in row["volumes"]],
        "volume_mounts": [to_model(mount, models.V1VolumeMount) for mount in row["volume_mounts"]],
        "env_vars": literal(dict(row["env_vars"])),
        "cmds": literal(list(COMMAND)),
    }


def become(operator: Any, row: Mapping[str, Any]) -> None:
    """Give an operator the parameters of a row when it runs, as its constructor would have taken them."""
    from kubernetes.client import models

    taken = {**pod_kwargs(row), "env_vars": dict(row["env_vars"]), "cmds": list(COMMAND)}
    taken["affinity"] = to_model(row["affinity"], models.V1Affinity)
    taken["tolerations"] = [to_model(one, models.V1Toleration) for one in row["tolerations"]]
    for name, value in taken.items():
        setattr(operator, name, value)


def with_copy_command(row: Mapping[str, Any], command: str | None) -> dict[str, Any]:
    """Return a row whose pod copies by a command of the user, where there is one."""
    if command is None:
        return dict(row)
    return {**row, "env_vars": {**row["env_vars"], "QOSFLOW_COPY": command}}


def printed_records(text: str) -> dict[str, list[dict[str, Any]]]:
    """Return the records of ``tasks`` and ``copies`` that a pod printed, without their lists of files.

    Raises
    ------
    MeasurementError
        When the text is not whole.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    kind, lines = "", text.splitlines()
    for start, line in enumerate(lines):
        if line.startswith("--- "):
            kind = line.removeprefix("--- ")
            end = next(
                (at for at in range(start + 1, len(lines)) if lines[at].startswith("--- ")), len(lines)
            )
            found[kind] = list(_records("\n".join(lines[start + 1 : end])))
    if set(found) != {"tasks", "copies"}:
        raise MeasurementError(
            "the pod printed no records", cure="See the log of the pod; clear the task to try again."
        )
    return found


def _records(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        try:
            record, at = decoder.raw_decode(text, at)
        except ValueError as error:
            cure = "Delete it and clear its task."
            raise MeasurementError(f"a record of a task is not whole: {error}", cure=cure) from None
        yield {name: value for name, value in record.items() if not isinstance(value, list | dict)}


def to_model(value: Mapping[str, Any], model: type[Any]) -> Any:
    """Return a part of a manifest as the Kubernetes client's object."""
    from kubernetes.client import ApiClient, Configuration

    # The client has no public way from a manifest to its objects; the provider itself uses this one.
    return ApiClient(configuration=Configuration())._ApiClient__deserialize_model(value, model)
