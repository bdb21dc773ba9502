"""Measure the storage tiers of the nodes that run tasks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from qosflow_airflow.operators.measure import classes_to_measure, measure_node_class

DOC = """
### What the tiers reach, where tasks run

Measures reads, writes and copies between tiers on a node, and writes `profile.csv` into a bundle, from which
the Dag `qosflow_pipeline` estimates. There is a task per class of nodes in `[qosflow] node_classes` of
Airflow's configuration, each in its queue and pool; of several, each has its profile in a subfolder of
its name. Without that setting one task measures the node that takes it. (A queue and a pool belong to a task
and cannot be mapped, so the classes are configuration and not part of the form.)

Tiers are measured only below the folders in `[qosflow] tier_roots`, and bundles written only below those in
`[qosflow] bundle_roots`. A share of each tier's free space is never taken, and nothing stays behind.
"""


@dag(
    dag_id="qosflow_measure",
    description="Measure the storage tiers of each class of nodes",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    max_active_runs=1,  # two measurements on a node would measure each other
    tags=["qosflow"],
    params={
        "tiers": Param(
            None,
            type="string",
            format="multiline",
            minLength=1,
            title="Tiers",
            description_md="A folder on each tier: lines of `disk=/data/qosflow`, or a JSON object.",
        ),
        "bundle": Param(
            None,
            type="string",
            minLength=1,
            title="Bundle",
            description_md="The folder to write `profile.csv` to, or the name of a registered workflow.",
        ),
        "budget_s": Param(
            60,
            type="number",
            exclusiveMinimum=0,
            maximum=3600,
            title="Budget (s)",
            description_md="About how many seconds to spend on a node.",
        ),
    },
)
def qosflow_measure() -> None:
    """Build the Dag."""

    @task(multiple_outputs=False)
    def measure(node_class: str) -> dict[str, Any]:
        return measure_node_class(get_current_context()["params"], node_class)

    for name, options in classes_to_measure().items():
        measure.override(task_id=f"measure_{name}", **options)(name)


qosflow_measure()
