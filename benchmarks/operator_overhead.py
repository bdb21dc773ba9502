"""What recommending costs over a task that does nothing, and what the plugin adds to a task's start.

    python -m benchmarks.operator_overhead [--pairs 15] [--stages 7] [--json FILE]

Each pair is two tasks run one after the other by the same Airflow (its web server, and databases in
Postgres), which of them first in turns. What counts is the median over pairs of the difference: what else the
machine does slows both of a pair.

- *recommending*: a worker of the LocalExecutor runs a task: it forks a process, which reads the Dag file,
  runs the task and reports. The seconds are those from the executor's hand to the end that Airflow notes.
  One Dag's task does nothing, the other's is a QoSRecommendOperator, in front of a model of 3^stages x 5
  configurations.
- *plugin*: a fresh interpreter runs the task that does nothing, as in a pod or on a new worker. In one of the
  two the package is hidden from Airflow. CPU seconds are shown as well: they are less disturbed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.own_airflow import OwnAirflow, own_airflow

RECOMMENDING_LIMIT_S = 0.2
PLUGIN_LIMIT_S = 0.05
WARM_UP = 2

EMPTY = """
from airflow.sdk import DAG, BaseOperator, Param


class Nothing(BaseOperator):
    def execute(self, context):
        return None


with DAG("empty", schedule=None, params={"deadline_s": Param(1e6, type="number")}):
    Nothing(task_id="task")
"""

RECOMMENDING = """
from airflow.sdk import DAG, Param

from qosflow_airflow.operators.recommend import QoSRecommendOperator

with DAG("recommending", schedule=None, params={"deadline_s": Param(1e6, type="number")}):
    QoSRecommendOperator(task_id="task", workflow="synthetic", deadline_s="{{ params.deadline_s }}")
"""

# Airflow finds plugins and providers among the installed distributions. Both of a pair look through this.
HIDING = """
import importlib.metadata as metadata, runpy, sys
all_distributions, hidden = metadata.distributions, sys.argv.pop(1)
metadata.distributions = lambda **kwargs: (
    found for found in all_distributions(**kwargs) if found.metadata["Name"] != hidden
)
runpy.run_module("airflow.sdk.execution_time.execute_workload", run_name="__main__", alter_sys=True)
"""
PACKAGE = "airflow-provider-qosflow"

LIBRARIES = ("numpy", "pandas", "sklearn", "qosflow_airflow.core")
"""What no worker has loaded before its first task: the benchmark must not either."""


class Cost(NamedTuple):
    """What one task took, in seconds: on the clock, and of the processors."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--stages", type=int, default=7, help="stages of the model; three tiers, five scales")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    with own_airflow() as airflow:
        publish_elsewhere(airflow, options.stages)
        (airflow.dags / "empty.py").write_text(EMPTY, encoding="utf-8")
        (airflow.dags / "recommending.py").write_text(RECOMMENDING, encoding="utf-8")
        airflow.register_dags()
        found = {
            "recommending": pairs(
                options.pairs,
                lambda: in_fork(airflow, "recommending"),
                lambda: in_fork(airflow, "empty"),
            ),
            "plugin": pairs(
                options.pairs,
                lambda: in_fresh_interpreter(airflow, "no such package"),
                lambda: in_fresh_interpreter(airflow, PACKAGE),
            ),
        }
    limits = {"recommending": RECOMMENDING_LIMIT_S, "plugin": PLUGIN_LIMIT_S}
    for name, costs in found.items():
        show(name, costs, limits[name])
    from benchmarks.report import write_report

    claim = "recommending costs little more than an empty task, and the plugin next to nothing"
    rows = [{"what": name, "limit_s": limits[name], **costs} for name, costs in found.items()]
    write_report({"claim": claim, "rows": rows, "stages": options.stages}, options.json, Path(__file__).stem)


def pairs(count: int, more: Callable[[], Cost], less: Callable[[], Cost]) -> dict[str, Any]:
    """Run both in turns and return the seconds, with the median difference."""
    found: list[tuple[Cost, Cost]] = []
    for turn in range(count + WARM_UP):
        if turn % 2:
            first = more()
            pair = (first, less())
        else:
            first = less()
            pair = (more(), first)
        if turn >= WARM_UP:
            found.append(pair)
    report: dict[str, Any] = {}
    for kind in Cost._fields:
        both = [(getattr(one, kind), getattr(other, kind)) for one, other in found]
        differences = sorted(one - other for one, other in both)
        report[kind] = {
            "pairs": both,
            "medians": [statistics.median(side) for side in zip(*both, strict=True)],
            "more": statistics.median(differences),
            "quartiles": statistics.quantiles(differences, n=4)[::2] if count > 1 else differences * 2,
        }
    return report


def in_fork(airflow: OwnAirflow, dag_id: str) -> Cost:
    """Run a Dag's task as a worker of the LocalExecutor does."""
    from airflow.executors.base_executor import BaseExecutor

    if loaded := [name for name in LIBRARIES if name in sys.modules]:
        raise SystemExit(f"{loaded} are loaded: every task would find them, and nothing would be measured")
    workload = airflow.workload(dag_id, "task", {})
    return measured(
        airflow,
        str(workload.ti.id),
        lambda: BaseExecutor.run_workload(
            workload, server=airflow.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
        ),
    )


def in_fresh_interpreter(airflow: OwnAirflow, hidden: str) -> Cost:
    """Run the task that does nothing as a pod does, without one of the installed packages."""
    workload = airflow.workload("empty", "task", {})
    command = [sys.executable, "-c", HIDING, hidden, "--json-string", workload.model_dump_json()]
    return measured(
        airflow,
        str(workload.ti.id),
        lambda: subprocess.run(command, env=dict(airflow.environment), check=True, capture_output=True),
    )


def measured(airflow: OwnAirflow, ti_id: str, run: Callable[[], object]) -> Cost:
    """Return what a task cost; one that fails ends the benchmark."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.time()
    with redirect_stdout(sys.stderr):
        run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not until `run` returns: where a process takes a moment to exit, Airflow's supervisor sleeps for up to
    # [workers] min_heartbeat_interval (5 s) before it looks again. By then the end was reported.
    return Cost(
        airflow.end_s(ti_id) - started_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    )


def show(name: str, costs: dict[str, Any], limit_s: float) -> None:
    """Print the medians of both, and of the difference."""
    for kind, label in zip(Cost._fields, ("on the clock", "of the processors"), strict=True):
        one, other = costs[kind]["medians"]
        low, high = costs[kind]["quartiles"]
        print(
            f"{name:>13}: {one:.3f} s against {other:.3f} s {label}; {costs[kind]['more']:+.3f} s more "
            f"(half of the pairs {low:+.3f} to {high:+.3f}), limit {limit_s:g} s"
        )


def publish_elsewhere(airflow: OwnAirflow, stages: int) -> None:
    """Publish the model in a process of its own, which loads what no worker has loaded."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=publish, args=(airflow.store_url, stages))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("the model could not be published")


def publish(url: str, stages: int) -> None:
    """Publish a model of random times under the name ``synthetic``."""
    from dataclasses import replace

    from benchmarks.recommend_latency import synthetic_model
    from qosflow_airflow.core.tiers import TierCatalog
    from qosflow_airflow.store import open_store

    model = synthetic_model(stages, 5)
    mounted = [replace(tier, mount=f"/data/{tier.name}") for tier in model.catalog.tiers]
    model = replace(model, catalog=TierCatalog(tuple(mounted), node=model.catalog.node))
    parts = {"model": model.to_json(), "regions": model.regions_to_json()}
    with open_store(url) as store:
        store.register_workflow("synthetic", "/none")
        build_id = store.create_build("synthetic", {}, {})
        for kind, content in parts.items():
            store.put_part(build_id, kind, None, json.dumps(content).encode())
        summary = {"rules": "complete", "scales": list(model.nodes)}
        store.publish(build_id, summary, [(kind, None) for kind in parts], qosflow_version="benchmark")


if __name__ == "__main__":
    main()
