"""What Airflow itself takes for a task: Dags of tasks that do nothing, run by ``dag.test()`` in this process.

Run as a program, it uses an Airflow of its own in a temporary folder and prints JSON. It has no scheduler and
no executor: what those add depends on the installation, and is in ``airflow_s`` of each comparison that
:class:`~qosflow_airflow.operators.compare.QoSCompareOperator` keeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

COUNT = 8
"""Tasks that are added to see what one costs."""
REPEATS = 3
COUNTS = {"alone": (0, 0), "ordinary": (COUNT, 0), "mapped": (0, COUNT)}
"""Per Dag, how many ordinary and how many mapped tasks follow the first."""
DAG_FILE = """\
from airflow.sdk import DAG

from qosflow_airflow.operators.task_overhead import COUNTS, overhead_dag

for name, counts in COUNTS.items():
    globals()[name] = overhead_dag(name, *counts)
"""


def main() -> int:
    """Measure, and print the seconds of an ordinary and of a mapped task."""
    with tempfile.TemporaryDirectory(prefix="qosflow-airflow-") as home:
        # Before Airflow is imported, which reads its settings once.
        for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
            del os.environ[name]
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        dags = Path(home, "dags")
        dags.mkdir()
        os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/airflow.db"
        with contextlib.redirect_stdout(sys.stderr):
            found = measure(dags)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def measure(dags: Path) -> dict[str, float]:
    """Return ``task_s`` and ``mapped_task_s``, from an Airflow whose database and Dag file are made here."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    from qosflow_airflow.core.airflow_overhead import fitted

    (dags / "overhead.py").write_text(DAG_FILE, encoding="utf-8")
    initdb()
    found = DagBag(str(dags)).dags
    _seconds(found["overhead_mapped"])
    alone, ordinary, mapped = (
        statistics.median(_seconds(found[f"overhead_{name}"]) for _ in range(REPEATS)) for name in COUNTS
    )
    overhead = fitted(alone, ordinary, mapped, COUNT)
    return {"task_s": overhead.task_s, "mapped_task_s": overhead.mapped_task_s}


def overhead_dag(name: str, ordinary: int, mapped: int) -> DAG:
    """Return a Dag of one task and so many more: one after the other, or mapped over its result."""
    from airflow.sdk import DAG, task

    @task
    def rows(count: int) -> list[int]:
        return list(range(count))

    @task
    def nothing(row: int) -> None:
        pass

    with DAG(dag_id=f"overhead_{name}", schedule=None) as dag:
        last = rows(mapped)
        if mapped:
            nothing.expand(row=last)
        for number in range(ordinary):
            following = nothing.override(task_id=f"nothing_{number}")(number)
            last >> following
            last = following
    return dag


def _seconds(dag: DAG) -> float:
    started = time.perf_counter()
    run = dag.test()
    seconds = time.perf_counter() - started
    if str(run.state) != "success":
        raise RuntimeError(f"the run of {dag.dag_id} is {run.state}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
