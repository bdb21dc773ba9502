"""Stages built in one call: for several operators, inside task groups, beside ordinary tasks, really run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.operators.copy import LocalCopies
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_run import TASK, labels, run_file, states, write_initial_data

pytestmark = pytest.mark.airflow

DAG_FILE = """\
import os
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TaskGroup
from qosflow_airflow.operators.copy import LocalCopies
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.stage import stage_group

def merge(row):
    os.environ.update(row["env"])
    exec({task!r}, {{}})

with DAG("groups", schedule=None) as dag:
    before = EmptyOperator(task_id="before")
    after = EmptyOperator(task_id="after", trigger_rule="none_failed")
    with TaskGroup("all"):
        recommend = QoSRecommendOperator(task_id="recommend", workflow="two", pin={pin!r}, max_nodes=1)
        copies = LocalCopies(recommend)
        with TaskGroup("inner"):
            split = stage_group(
                "split", BashOperator, copies, after=[before], bash_command={command!r}
            )
        merged = stage_group(
            "merge", PythonOperator, copies, after=[split], final=True, python_callable=merge
        )
    merged.ends >> after
"""


def test_stages_run_in_groups_beside_ordinary_tasks(
    published: ModelVersion,
    mounts: dict[str, str],
    airflow_database: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_initial_data(Path(mounts["disk"]))
    (tmp_path / "task.py").write_text(TASK)
    text = DAG_FILE.format(
        task=TASK, pin="split=ram,merge=disk", command=f"{sys.executable} {tmp_path / 'task.py'}"
    )
    run = run_file(text, tmp_path / "dags", "groups", monkeypatch)
    assert run.state == "success"
    assert states(run) == {
        "before": ["success"],
        "all.recommend": ["success"],
        "all.inner.split.stage_in": ["success"],
        "all.inner.split.run": ["success"] * 3,
        "all.merge.stage_in": ["success"],
        "all.merge.run": ["success"],
        "all.merge.stage_out": ["skipped"],
        "after": ["success"],
    }
    assert labels(run, "all.inner.split.run") == [f"split {number}/3 on ram" for number in (1, 2, 3)]
    assert labels(run, "all.merge.run") == ["merge 1/1 on disk"]
    (result,) = Path(mounts["disk"]).rglob("output/merge/all.txt")
    assert result.read_text() == "one two three"


def test_an_operator_that_takes_no_row_is_refused_when_the_dag_is_read(catalog: TierCatalog) -> None:
    with DAG("wrong", schedule=None):
        copies = LocalCopies(QoSRecommendOperator(task_id="recommend", workflow="two"))
        with pytest.raises(RequestError, match=r"EmptyOperator takes neither env nor op_kwargs.*fit="):
            stage_group("split", EmptyOperator, copies)


def test_pods_take_pod_operators_and_no_entry_point() -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    from qosflow_airflow.operators.pods import PodCopies, QoSPodsOperator

    with DAG("wrong", schedule=None):
        copies = PodCopies(QoSPodsOperator(task_id="pods", recommend_task_id="recommend"), image="image")
        with pytest.raises(RequestError, match="BashOperator runs no pods"):
            stage_group("split", BashOperator, copies, bash_command="true")
        with pytest.raises(RequestError, match="as `arguments`"):
            stage_group("split", KubernetesPodOperator, copies, cmds=["true"])
