"""Build a model again once runs show that it no longer holds."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, get_current_context, task

from qosflow_airflow.operators.refit import STALE, requested_refits

DOC = """
### Build a model again once it no longer holds

A run whose comparison finds that runs have left their level (*stale*) is an event that starts this Dag. It
starts `qosflow_pipeline` for that workflow, with the options of the stale model, unless a newer model holds
already. The pipeline reads the workflow's bundle as it is now: where the machine has changed, measure it
again first (`qosflow_measure`). Older versions of the model stay what they were.
"""


@dag(
    dag_id="qosflow_refit",
    description="Build a workflow's model again once runs show that it no longer holds",
    doc_md=DOC,
    schedule=[STALE],
    catchup=False,
    max_active_runs=1,
    tags=["qosflow"],
    default_args={"retries": 2, "retry_delay": 5},
)
def qosflow_refit() -> None:
    """Build the Dag."""

    @task(multiple_outputs=False)
    def stale_models() -> list[dict[str, Any]]:
        return requested_refits(get_current_context().get("triggering_asset_events") or {})

    TriggerDagRunOperator.partial(task_id="build", trigger_dag_id="qosflow_pipeline").expand(
        conf=stale_models()
    )


qosflow_refit()
