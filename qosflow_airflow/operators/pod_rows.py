"""Rows of pods, as plain JSON in XCom, turned into what ``KubernetesPodOperator`` takes.

Imports the Kubernetes client only when a row is turned: Dag files are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from airflow.sdk.definitions.template import literal

SCRIPT = files("qosflow_airflow.operators").joinpath("pod_tasks.sh").read_text(encoding="utf-8")
"""What every pod runs; the command of the stage's tasks is its argument."""

COMMAND = ("sh", "-c", SCRIPT, "qosflow")
"""The entry point of every pod. It comes with the rows: a Dag would be kept with a script in every task."""

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


def to_model(value: Mapping[str, Any], model: type[Any]) -> Any:
    """Return a part of a manifest as the Kubernetes client's object."""
    from kubernetes.client import ApiClient, Configuration

    # The client has no public way from a manifest to its objects; the provider itself uses this one.
    return ApiClient(configuration=Configuration())._ApiClient__deserialize_model(value, model)
