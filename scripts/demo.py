"""``./setup.sh demo``: from measurements on this machine to a tier decision, and two runs that test it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml
from airflow_api import AirflowApi
from airflow_services import AirflowServices
from console import SetupError, say
from state import ROOT, StateFolder

PIPELINE_DAG = "qosflow_pipeline"
WORKFLOW_DAG = "genome_local"
WORKFLOW = "genome"
RUN_LIMIT_S = 900.0

# The deadline asked for: room above the fastest prediction, and for Airflow, which needs seconds to start a
# level of tasks, and which no run has told yet.
DEADLINE_FACTOR = 1.5
AIRFLOW_ALLOWANCE_S = 20

MEMORY_NEEDED_BYTES = 1 << 30
MEMORY_FOLDERS = ("/dev/shm", "/tmp")  # noqa: S108 - each is used only where it is a tmpfs


class Run(NamedTuple):
    """A finished run: its id, and what its tasks ``recommend`` and ``compare`` have returned."""

    run_id: str
    recommendation: Mapping[str, Any]
    comparison: Mapping[str, Any]


def run_demo(services: AirflowServices) -> None:
    """Measure, build a model, recommend, run and compare; print the answer. Raises :class:`SetupError`."""
    started = time.monotonic()
    bundle = prepare_bundle(services)
    api = AirflowApi(services.url, "admin", services.password)
    say(f"\nModel: {PIPELINE_DAG} builds it from {bundle}")
    api.run_dag(PIPELINE_DAG, {"bundle": str(bundle)}, RUN_LIMIT_S)
    stages = yaml.safe_load((bundle / "workflow.yaml").read_text(encoding="utf-8"))["stages"]
    first = run_workflow(services, api, "Run")
    say("\n" + describe(first.recommendation, first.comparison, stages))
    second = run_workflow(services, api, "Once more, with what that run has taught")
    say("\n" + describe_learning(first, second))
    say(f"\nDone in {time.monotonic() - started:.0f} s.")
    say("\n".join(table(pages(services.url, second))))
    say(f"Log in as admin with password {services.password}; stop everything with ./setup.sh down")


def prepare_bundle(services: AirflowServices) -> Path:
    """Measure the tiers and trace one run of the example, once; a second demo reuses the bundle."""
    state = services.state
    bundle = state.bundles / WORKFLOW
    disk = state.tiers / "disk"
    memory = memory_tier(state, os.environ)
    for folder in (disk, memory):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if memory.is_symlink() or memory.stat().st_uid != os.getuid():
        raise SetupError(
            f"{memory} belongs to somebody else.",
            "Remove it, or give another: QOSFLOW_MEMORY_TIER=/path/on/a/tmpfs",
        )
    say("\nMeasurements: input, rates of the tiers, and the trace of one run")
    command = [sys.executable, str(ROOT / "examples" / WORKFLOW / "prepare.py"), "--output", str(bundle)]
    command += ["--tier", f"disk={disk}", "--tier", f"tmpfs={memory}", "--size", "demo"]
    result = subprocess.run(
        command, env={**os.environ, **services.environment}, stdin=subprocess.DEVNULL, check=False
    )
    if result.returncode != 0:
        raise SetupError(
            "The example could not be measured; see above.",
            "Cure what the last lines name, then run ./setup.sh demo again.",
        )
    return bundle


def memory_tier(state: StateFolder, environ: Mapping[str, str]) -> Path:
    """Return the folder of the tier in memory: one name per state folder, on a tmpfs that is large enough."""
    if wanted := environ.get("QOSFLOW_MEMORY_TIER"):
        return Path(wanted).absolute()
    for folder in memory_folders():
        own = folder / memory_name(state)
        if own.exists() or shutil.disk_usage(folder).free >= MEMORY_NEEDED_BYTES:
            return own
    raise SetupError(
        f"No file system in memory (tmpfs) with {MEMORY_NEEDED_BYTES >> 20} MiB free was found.",
        "Give a folder on one: QOSFLOW_MEMORY_TIER=/path. In a container, enlarge /dev/shm (--shm-size=2g).",
    )


def memory_name(state: StateFolder) -> str:
    """Return the name of this state folder's part of a shared tmpfs."""
    return f"qosflow-{hashlib.sha256(str(state.path).encode()).hexdigest()[:12]}"


def memory_folders() -> list[Path]:
    """Return the folders among the usual ones where a tmpfs is mounted that we may write."""
    mounts = Path("/proc/mounts")
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []
    in_memory = {line.split()[1] for line in lines if line.split()[2] == "tmpfs"}
    return [Path(folder) for folder in MEMORY_FOLDERS if folder in in_memory and os.access(folder, os.W_OK)]


def run_workflow(services: AirflowServices, api: AirflowApi, what: str) -> Run:
    """Run the workflow with a deadline that can be kept; return what it recommended and compared."""
    fastest = fastest_answer(services)
    deadline_s = deadline_for(fastest)
    say(f"\n{what}: {WORKFLOW_DAG} with a deadline of {deadline_s} s (the fastest: {fastest['run_s']:.1f} s)")
    run_id = api.run_dag(WORKFLOW_DAG, {"deadline_s": deadline_s}, RUN_LIMIT_S)
    recommendation = api.returned(WORKFLOW_DAG, run_id, "recommend")
    return Run(run_id, recommendation, api.returned(WORKFLOW_DAG, run_id, "compare"))


def deadline_for(fastest: Mapping[str, Any]) -> int:
    """Return a deadline with room above the fastest answer, and for Airflow while no run tells its part."""
    allowance_s = 0 if fastest["overhead_s"] else AIRFLOW_ALLOWANCE_S
    return math.ceil(float(fastest["run_s"]) * DEADLINE_FACTOR) + allowance_s


def fastest_answer(services: AirflowServices) -> dict[str, Any]:
    """Return the answer to a request for the shortest makespan of the workflow."""
    program = str(Path(sys.executable).with_name("qosflow"))
    result = subprocess.run(
        [program, "recommend", "--workflow", WORKFLOW, "--format", "json"],
        env={**os.environ, **services.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise SetupError(
            f"qosflow recommend failed: {result.stderr.strip()}",
            "Cure what it names, then run ./setup.sh demo again.",
        )
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def pages(url: str, run: Run) -> list[tuple[str, str]]:
    """Return where to look, each with its address in Airflow's frame, to which its login leads on."""
    run_path = f"dags/{WORKFLOW_DAG}/runs/{quote(run.run_id, safe='')}"
    return [
        ("What was asked, answered and what happened:", f"{url}/{run_path}/plugin/qosflow-run"),
        ("Workflows, models, and what if:", f"{url}/plugin/qosflow"),
    ]


def describe_learning(first: Run, second: Run) -> str:
    """Return two runs' predictions beside what was measured, and what made the second one differ."""
    rows: list[Sequence[str]] = [("run", "predicted s", "measured s", "error")]
    errors = []
    for name, run in (("first", first), ("second", second)):
        errors.append(run.comparison["predicted_s"] / run.comparison["measured_s"] - 1)
        seconds = (f"{run.comparison[key]:.2f}" for key in ("predicted_s", "measured_s"))
        rows.append((name, *seconds, f"{errors[-1]:+.0%}"))
    closer = abs(errors[1]) < abs(errors[0])
    verdict = "The second prediction is closer" if closer else "The second prediction is NOT closer"
    why = " ".join(second.recommendation["learned"]) or "Nothing was learnt."
    return "\n".join([*table(rows), f"{verdict}. Its reason, as in the log of `recommend`: {why}"])


def describe(recommendation: Mapping[str, Any], comparison: Mapping[str, Any], stages: Iterable[str]) -> str:
    """Return the answer in words: the choice, why, and predicted against measured seconds.

    ``recommendation`` is what the Dag's task ``recommend`` has returned, ``comparison`` what ``compare`` has,
    and ``stages`` are the names in the order in which they are shown.
    """
    configuration = recommendation["configuration"]
    critical, flexible = recommendation["critical_stages"], recommendation["flexible_stages"]
    seconds = ("predicted_s", "busy_s", "measured_s")
    rows: list[Sequence[str]] = [("stage", "tier", "predicted s", "busy s", "with waits s", "")]
    for stage in stages:
        tier, found = configuration["tiers"][stage], comparison["stages"][stage]
        role = "critical" if stage in critical else "flexible" if stage in flexible else ""
        rows.append((stage, tier, *(f"{found[name]:.2f}" for name in seconds), role))
    rows.append(("whole run", "", *(f"{comparison[name]:.2f}" for name in seconds), ""))
    met = "met" if comparison["met_deadline"] else "not met"
    nodes = "1 node" if configuration["nodes"] == 1 else f"{configuration['nodes']} nodes"
    lines = [
        f"Choice: {nodes}, and per stage the tier below.",
        f"The deadline of {comparison['deadline_s']:g} s was {met}.",
        f"Why: {recommendation['explanation']}",
        *([f"Rule: {recommendation['region']['rule']}"] if recommendation["region"] else []),
        "",
        *table(rows),
        "Busy is while a task was at work; with waits, from the first start to the last end.",
    ]
    if comparison.get("airflow_s") is not None:
        waited_s, run_s = comparison["airflow_s"], comparison["run_s"]
        lines.append(f"Of the Dag run's {run_s:.1f} s, Airflow took {waited_s:.1f} s between tasks.")
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with their columns lined up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def remove_memory_tier(state: StateFolder) -> None:
    """Give back the memory that the demo's files take; they are copies, and made again when needed."""
    for folder in memory_folders():
        own = folder / memory_name(state)
        if own.is_dir() and not own.is_symlink() and own.stat().st_uid == os.getuid():
            shutil.rmtree(own)
