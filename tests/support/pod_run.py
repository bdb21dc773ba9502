"""The small workflow in pods that may fall back, in a Dag that really runs: something breaks in between."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import RECORD
from tests.support.small_run import TASK, run_file

DAG_FILE = """\
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.pods import PodCopies, QoSPodsOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

with DAG("fallback", schedule=None) as dag:
    recommend = QoSRecommendOperator(
        task_id="recommend", workflow="two", max_nodes={nodes}, pin={pin!r}, rows="stage", fallback=True,
        probe_timeout_s=2,
    )
    pods = QoSPodsOperator(
        task_id="pods", recommend_task_id="recommend", tasks_per_pod=2, namespace={namespace!r}
    )
    recommend >> pods
    copies = PodCopies(
        pods,
        image={image!r},
        deferrable={deferrable},
        startup_timeout_seconds={startup_s},
        image_pull_policy="IfNotPresent",
        startup_check_interval_seconds=1,
        base_container_status_polling_interval=0.2,
        poll_interval=0.2,
    )
    command = {{"arguments": [{python!r}, "-c", {task!r}]}}
    split = stage_group("split", KubernetesPodOperator, copies, **command)
    # What breaks between two stages.
    between = BashOperator(task_id="between", bash_command={fault!r})
    split.run >> between
    merge = stage_group("merge", KubernetesPodOperator, copies, after=[split, between], final=True, **command)
    records = copies.records()
    compare = QoSCompareOperator(
        task_id="compare", recommendation=recommend.output, records=records.output, trigger_rule="all_done"
    )
    merge.ends >> records
    compare >> copies.clean()
"""


def run_pods(
    folder: Path,
    patch: pytest.MonkeyPatch,
    fault: str = "",
    *,
    nodes: int = 1,
    pin: Any = None,
    deferrable: bool = False,
    startup_s: int = 120,
    image: str = "any",
    python: str = sys.executable,
    namespace: str = "default",
) -> Any:
    """Run the workflow on ``nodes``; the Python program ``fault`` runs between its two stages."""
    (folder / "fault.py").write_text(fault)
    text = DAG_FILE.format(
        nodes=nodes,
        pin=pin,
        deferrable=deferrable,
        startup_s=startup_s,
        image=image,
        namespace=namespace,
        python=python,
        task=TASK + RECORD,
        fault=f"{sys.executable} {folder / 'fault.py'}",
    )
    return run_file(text, folder / "dags", "fallback", patch)
