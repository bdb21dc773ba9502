"""The steps from a bundle to a published model, as tasks of the pipeline Dag call them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.session import task_store

if TYPE_CHECKING:
    from qosflow_airflow.core.build_options import BuildOptions
    from qosflow_airflow.pipeline import OpenedBuild

Step = Literal["project", "estimate", "cost", "regions"]
STEPS: tuple[Step, ...] = ("project", "estimate", "cost", "regions")
"""What is done for each scale, in this order."""


def open_requested_build(params: Mapping[str, Any], qosflow_conn_id: str | None = None) -> OpenedBuild:
    """Read, check and store the bundle that a run's parameters ask for.

    ``bundle`` is a folder, or the name of a workflow in ``[qosflow] workflows`` or in the store. Nothing is
    read outside ``[qosflow] bundle_roots``: who may trigger a Dag may not read every file of the worker.

    Raises
    ------
    AirflowFailException
        When the bundle lies outside the roots, or something in it or in the options is wrong.
    """
    from qosflow_airflow.pipeline import open_build, resolve_bundle

    roots = settings.bundle_roots()
    with task_store(qosflow_conn_id) as store:
        asked = str(params["bundle"])
        bundle = resolve_bundle(settings.registered_bundles().get(asked, asked), roots, store)
        return open_build(store, bundle, _options(params, bundle, roots))


def run_step(step: Step, build_id: str, nodes: int, qosflow_conn_id: str | None = None) -> dict[str, Any]:
    """Do one step of a build at one scale; return identifiers and counts."""
    from qosflow_airflow import pipeline

    steps = {
        "project": pipeline.project,
        "estimate": pipeline.estimate,
        "cost": pipeline.cost,
        "regions": pipeline.regions,
    }
    with task_store(qosflow_conn_id) as store:
        return steps[step](store, build_id, nodes)


def publish_build(build_id: str, qosflow_conn_id: str | None = None) -> dict[str, Any]:
    """Publish a build as the next version of its workflow's model; return what it is."""
    from qosflow_airflow.pipeline import publish

    with task_store(qosflow_conn_id) as store:
        return publish(store, build_id)


def model_uri(workflow: str) -> str:
    """Return the URI of the asset that stands for a workflow's newest model."""
    return f"qosflow://models/{quote(workflow, safe='')}"


def _options(params: Mapping[str, Any], bundle: Path, roots: tuple[str, ...]) -> BuildOptions:
    from qosflow_airflow.core.build_options import BuildOptions
    from qosflow_airflow.readers.bundle import check_inside

    names = (
        *("scales", "tiers", "rules", "transfer_times", "name", "estimator"),
        *("data_scale", "task_scale", "anchoring", "regions"),
    )
    options = {name: params.get(name) for name in names}
    if options["transfer_times"]:
        # A path in the bundle, or an absolute one: either way below the roots.
        options["transfer_times"] = str(check_inside(bundle / str(options["transfer_times"]), roots))
    return BuildOptions.parse(options)
