"""The genome example on this machine: QoSFlow chooses nodes and tiers, local processes do the work."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

from qosflow_airflow.operators.clean import QoSCleanOperator
from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.copy import LocalCopies
from qosflow_airflow.operators.deadline import qos_deadline
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

DOC = """
### The genome example, on the tiers that QoSFlow chooses

1. `recommend` asks for the best node count and storage tier per stage that meet the deadline, from the
   newest model of the workflow `genome` (the Dag `qosflow_pipeline` builds it). When nothing is feasible the
   run fails at once and says which constraint stands in the way.
2. Each stage is a group: `stage_in` brings inputs to the stage's tier where they are not there yet, `run` is
   one local process per task, `stage_out` brings final outputs home (*skipped*: they lie there already).
3. `compare` puts predicted beside measured seconds and keeps both; `clean` removes what lies on local tiers.

A run that failed keeps its folders: clear the failed tasks, and it goes on where it stopped.
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

DEADLINE_S = 300

HERE = Path(__file__).resolve().parent
PROGRAM = os.environ.get("QOSFLOW_GENOME") or str(HERE.parent / "examples" / "genome" / "genome.py")

with DAG(
    dag_id="genome_local",
    description="The genome example on the storage tiers that QoSFlow chooses",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    tags=["qosflow", "example"],
    default_args={"retries": 1, "retry_delay": 5},
    deadline=qos_deadline(DEADLINE_S),
    params={
        "deadline_s": Param(
            DEADLINE_S,
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
        "max_chunks": Param(
            None,
            type=["null", "object"],
            title="Tasks at most",
            description_md='Per stage, as `{"individuals": 20}`: finished runs tell how many. Leave empty to '
            "keep the workflow's numbers.",
        ),
    },
) as dag:
    recommend = QoSRecommendOperator(
        task_id="recommend",
        workflow="genome",
        deadline_s="{{ params.deadline_s }}",
        max_nodes="{{ params.max_nodes }}",
        max_chunks="{{ params.max_chunks }}",
    )
    compare = QoSCompareOperator(task_id="compare", recommendation=recommend.output, trigger_rule="all_done")
    groups = {}
    for stage, predecessors in STAGES.items():
        groups[stage] = stage_group(
            stage,
            BashOperator,
            LocalCopies(recommend),
            after=[groups[name] for name in predecessors],
            final=stage in FINAL,
            bash_command=f"exec {shlex.quote(sys.executable)} {shlex.quote(PROGRAM)} run",
        )
        groups[stage].ends >> compare
    compare >> QoSCleanOperator(task_id="clean", recommendation=recommend.output)
