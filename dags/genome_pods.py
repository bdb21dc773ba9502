"""The genome example in pods: QoSFlow chooses nodes and tiers, a Kubernetes cluster does the work."""

from __future__ import annotations

import os

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, Param

from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.pods import PodCopies, QoSPodsOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

DOC = """
### The genome example in pods, on the tiers that QoSFlow chooses

1. `recommend` asks for the best node count and storage tier per stage that meet the deadline.
2. `pods` chooses so many nodes of the cluster, checks that the tiers' volumes are there, and plans the pods.
3. Each stage is a group: `stage_in` copies between shared tiers (no pod where there is nothing to copy),
`run` is
   mapped over the stage's pods, `stage_out` brings final outputs home (*skipped*: they are there already).
   Copies to and from a node's own tier are made by the stage's pods themselves.
4. `records` reads what the tasks measured, `compare` puts it beside what was predicted; `clean` removes what
   nobody needs, on every node.

The image is that of `examples/genome/Dockerfile`; name yours in the environment variable
`QOSFLOW_GENOME_IMAGE`.
"""

STAGES = {
    "individuals": [],
    "individuals_merge": ["individuals"],
    "sifting": [],
    "mutation_overlap": ["individuals_merge", "sifting"],
    "frequency": ["individuals_merge", "sifting"],
}
"""Each stage with the stages whose outputs it reads."""
FINAL = {"mutation_overlap", "frequency"}
"""The stages whose outputs are kept."""

IMAGE = os.environ.get("QOSFLOW_GENOME_IMAGE", "qosflow-genome:latest")
DEFERRABLE = os.environ.get("QOSFLOW_GENOME_DEFERRABLE", "false") == "true"
"""Whether pods are watched by the triggerer, so that no worker waits for them."""
NAMESPACE = os.environ.get("QOSFLOW_GENOME_NAMESPACE", "default")

with DAG(
    dag_id="genome_pods",
    description="The genome example in pods, on the storage tiers that QoSFlow chooses",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    tags=["qosflow", "example"],
    default_args={"retries": 1, "retry_delay": 5},
    params={
        "deadline_s": Param(
            300,
            type="number",
            exclusiveMinimum=0,
            title="Deadline (s)",
            description_md="The workflow may take at most so many seconds, by the model's estimate.",
        ),
        "max_nodes": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Nodes at most",
            description_md="Leave empty for as many as the model knows.",
        ),
        "pin": Param(
            None,
            type=["null", "string"],
            title="Tiers of stages",
            description_md="As in `sifting=tmpfs,frequency=disk`; leave empty to let QoSFlow choose.",
        ),
    },
) as dag:
    recommend = QoSRecommendOperator(
        task_id="recommend",
        workflow="genome",
        deadline_s="{{ params.deadline_s }}",
        max_nodes="{{ params.max_nodes }}",
        pin="{{ params.pin }}",
        rows="stage",
    )
    pods = QoSPodsOperator(task_id="pods", recommend_task_id="recommend", namespace=NAMESPACE)
    recommend >> pods
    copies = PodCopies(
        pods,
        image=IMAGE,
        deferrable=DEFERRABLE,
        image_pull_policy="IfNotPresent",
        startup_check_interval_seconds=1,
        base_container_status_polling_interval=0.5,
    )
    records = copies.records()
    compare = QoSCompareOperator(
        task_id="compare", recommendation=recommend.output, records=records.output, trigger_rule="all_done"
    )
    groups = {}
    for stage, predecessors in STAGES.items():
        groups[stage] = stage_group(
            stage,
            KubernetesPodOperator,
            copies,
            after=[groups[name] for name in predecessors],
            final=stage in FINAL,
            arguments=["genome", "run"],
        )
        groups[stage].ends >> records
    compare >> copies.clean()
