"""From the measurements of a workflow to a published model."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetAlias, Param, chain, dag, get_current_context, task, task_group

from qosflow_airflow.operators.build import (
    STEPS,
    Step,
    model_uri,
    open_requested_build,
    publish_build,
    run_step,
)

DOC = """
### From measurements to a model

Reads a *bundle* (a folder with a workflow's stages, what was observed of its tasks, and what the storage
tiers reach) and publishes a model of it, from which recommendations are made. Per node count, `project` makes
observations at that scale, `estimate` turns them into seconds per stage and tier, `cost` evaluates every
configuration, and `regions` says which choices matter. `publish` makes the result the newest model version,
in one transaction: a run that fails leaves the model as it was.

Bundles are read only below the folders in `[qosflow] bundle_roots` of Airflow's configuration. Every new
version is an event of the asset `qosflow://models/<workflow>`, on which other Dags may be scheduled.
"""

MODELS = AssetAlias("qosflow_models")


def step_task(step: Step) -> Any:
    """Return a task that does one step of the build at one scale."""

    @task(
        task_id=step,
        multiple_outputs=False,
        map_index_template="{{ task.op_kwargs['nodes'] }} nodes",
    )
    def run(build_id: str, nodes: int) -> dict[str, Any]:
        return run_step(step, build_id, nodes)

    return run


@dag(
    dag_id="qosflow_pipeline",
    description="Build and publish the model of a workflow from its measurements",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    tags=["qosflow"],
    default_args={"retries": 2, "retry_delay": 5},
    params={
        "bundle": Param(
            None,
            type="string",
            minLength=1,
            title="Bundle",
            description_md="The folder of the measurements, or the name of a registered workflow.",
        ),
        "scales": Param(
            None,
            type=["null", "string"],
            pattern=r"^\s*\d+(\s*,\s*\d+)*\s*$",
            title="Scales",
            description_md="Node counts, as in `2,5,10`. Empty: those that were observed.",
        ),
        "tiers": Param(
            None,
            type=["null", "string"],
            title="Tiers",
            description_md="Storage tiers to consider, as in `disk,tmpfs`. Empty: all that the bundle knows.",
        ),
        "rules": Param(
            "complete",
            type="string",
            enum=["complete", "reference"],
            title="Rules",
            description_md="How times add up: `complete` as Airflow runs stages, `reference` as published.",
        ),
        "transfer_times": Param(
            None,
            type=["null", "string"],
            title="Transfer times",
            description_md="A table to use instead of an estimate: a path in the bundle. Empty: none.",
        ),
        "estimator": Param(
            "default",
            type="string",
            enum=["default", "spm"],
            title="Estimator",
            description_md="How measurements become times: `default`, or `spm` as SPM computes them.",
        ),
        "data_scale": Param(
            1.0,
            type="number",
            exclusiveMinimum=0,
            title="Data scale",
            description_md="How many times the observed data; other than 1 needs a `scaling.yaml`.",
        ),
        "task_scale": Param(
            1.0,
            type="number",
            exclusiveMinimum=0,
            title="Task scale",
            description_md="How many times the observed tasks; other than 1 needs a `scaling.yaml`.",
        ),
        "anchoring": Param(
            True,
            type="boolean",
            title="Anchoring",
            description_md="Hold estimates against how long the traced tasks really read and wrote.",
        ),
        "regions": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Regions",
            description_md="How many regions at each scale. Empty: as many as order the space well.",
        ),
        "name": Param(
            None,
            type=["null", "string"],
            title="Workflow name",
            description_md="The name to publish under. Empty: the one in the bundle.",
        ),
    },
)
def qosflow_pipeline() -> None:
    """Build the Dag."""

    @task
    def open_build() -> list[dict[str, Any]]:
        context = get_current_context()
        opened = open_requested_build(context["params"])
        context["ti"].xcom_push(key="build_id", value=opened.build_id)
        return [{"build_id": opened.build_id, "nodes": nodes} for nodes in opened.scales]

    @task_group
    def scale(build_id: str, nodes: int) -> None:
        chain(*(step_task(step)(build_id=build_id, nodes=nodes) for step in STEPS))

    @task(outlets=[MODELS], multiple_outputs=False)
    def publish(build_id: str) -> dict[str, Any]:
        published = publish_build(build_id)
        event = {key: published[key] for key in ("workflow", "model_id", "version")}
        model = Asset(model_uri(published["workflow"]))
        get_current_context()["outlet_events"][MODELS].add(model, extra=event)
        return published

    opened = open_build()
    scale.expand_kwargs(opened) >> publish(opened["build_id"])


qosflow_pipeline()
