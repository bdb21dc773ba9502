"""What a second worker saves when a model is built: the pipeline's steps, mapped over node counts.

    QOSFLOW_EXECUTOR=celery ./setup.sh up
    python -m benchmarks.scale_out [--stages 9] [--scales 1,2,4,8] [--repeats 2] [--json FILE]

Runs `qosflow_pipeline` in the installation that `QOSFLOW_HOME` names, in turns with one worker and with both,
on a workflow of so many stages and three tiers, so 3^stages configurations at each node count. Each worker
runs one task at a time. What counts is the fastest Dag run of either kind. No more is to be gained than there
are processors for, and web server, scheduler and database take their share of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

DAG = "qosflow_pipeline"
RUN_LIMIT_S = 1800.0
TASKS = 4


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stages", type=int, default=9)
    parser.add_argument("--scales", default="1,2,4,8")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    from airflow_api import AirflowApi
    from airflow_services import WORKERS
    from bringup import choose_databases, describe_services
    from state import load_settings, locate_state

    state = locate_state(os.environ)
    settings = load_settings(state)
    if settings.executor != "celery":
        raise SystemExit("This installation has no workers. Start one: QOSFLOW_EXECUTOR=celery ./setup.sh up")
    choose_databases(settings, os.environ)
    services = describe_services(state, settings, os.environ)
    api = AirflowApi(services.url, "admin", services.password)
    conf = {"bundle": str(write_chain(state.bundles, options.stages)), "scales": options.scales}
    rows: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        for workers in range(1, len(WORKERS) + 1):
            services.run_workers(workers)
            run_id = api.run_dag(DAG, conf, RUN_LIMIT_S)
            rows.append({"workers": workers, **measured(api, run_id)})
            print(f"{workers} at work: {rows[-1]['run_s']:.1f} s, mapped steps {rows[-1]['mapped_s']:.1f} s")
    report(rows, options)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print and write how many times as fast both workers are."""
    from benchmarks.report import write_report

    fastest = {
        name: {count: min(row[name] for row in rows if row["workers"] == count) for count in (1, 2)}
        for name in ("run_s", "mapped_s")
    }
    faster = {name: found[1] / found[2] for name, found in fastest.items()}
    size = 3**options.stages * len(options.scales.split(","))
    print(f"{size:,} configurations: two workers are {faster['run_s']:.2f} times as fast as one")
    print(f"(the mapped steps alone {faster['mapped_s']:.2f} times, on {os.cpu_count()} processors)")
    claim = "a second worker shortens the building of a model"
    write_report(
        {"claim": claim, "configurations": size, "faster": faster, "rows": rows},
        options.json,
        Path(__file__).stem,
    )


def measured(api: Any, run_id: str) -> dict[str, float]:
    """Return the seconds of a Dag run, and those from the first start to the last end of its mapped tasks."""
    run, tasks = api.finished_run(DAG, run_id)
    mapped = [task for task in tasks if task["map_index"] >= 0]
    return {
        "run_s": seconds(run, run),
        "mapped_s": max(epoch_s(task["end_date"]) for task in mapped)
        - min(epoch_s(task["start_date"]) for task in mapped),
        "work_s": sum(seconds(task, task) for task in mapped),
        "hosts": len({task["hostname"] for task in mapped}),
        "at": time.time(),
    }


def seconds(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Return the seconds from a start to an end."""
    return epoch_s(last["end_date"]) - epoch_s(first["start_date"])


def epoch_s(moment: str) -> float:
    """Return a moment as Airflow writes it in seconds since the epoch."""
    return datetime.fromisoformat(moment).timestamp()


def write_chain(bundles: Path, stages: int) -> Path:
    """Write the bundle of a workflow whose stages each read what the one before them wrote."""
    from tests.support.bundles import observations_of, write_bundle

    names = [f"s{number}" for number in range(stages)]
    lines = [f"name: chain{stages}", "stages:"]
    moved: list[tuple[str, str, str, str, int, str]] = []
    for number, name in enumerate(names):
        before = names[number - 1] if number else "initial_data"
        lines += [
            f"  {name}:",
            f"    tasks: {TASKS}",
            f'    predecessors: {{{before}: {{inputs: ["{before}_.*"]}}}}',
            f'    outputs: ["{name}_.*"]',
        ]
        mib = 60 + 45 * (number * 7 % 11)
        for task in range(TASKS):
            moved.append(("read", name, f"{name}t{task}", f"{before}_{task}", mib, before))
            moved.append(("write", name, f"{name}t{task}", f"{name}_{task}", 600 - mib, ""))
    trace = observations_of(
        moved, dict.fromkeys(names, TASKS), {name: 1.0 + number for number, name in enumerate(names)}
    )
    folder = bundles / f"chain{stages}"
    return write_bundle(folder, workflow="\n".join(lines) + "\n", observations=trace)


if __name__ == "__main__":
    main()
