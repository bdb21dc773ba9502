"""How fast predictions follow a change: the genome workload on a disk slowed down once its model is built.

    python -m benchmarks.learning_curve --output FOLDER [--runs 26] [--size-mib 12] [--fast-mib-s 100]
        [--slow-mib-s 2] [--slots 2] [--seed 1] [--json FILE]
    python -m benchmarks.learning_curve --again FOLDER

As root: the home tier is a file as a block device whose rate the kernel limits, and limits lower from then
on. Each run is asked for as a Dag asks (`answer_request`), runs here without Airflow, and is told as a Dag
tells it: an observation per task, and an outcome. Its error is that of the answer that was given before it
ran. Since that is one run for each number of runs, the same runs are also learnt from in many random orders,
each time to foretell those that were left: `--again` does that anew with what is kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow import pipeline
from qosflow_airflow.answers import LoadedModel, answer_request, load_model
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.learn.finished_run import FinishedRun, modelled_run
from qosflow_airflow.learn.lessons import Lesson
from qosflow_airflow.learn.teaching import learn
from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.points import MIB
from qosflow_airflow.measure.run_workflow import run_workflow
from qosflow_airflow.measure.scratch import scratch
from qosflow_airflow.measure.throttled_tier import limit_rate, throttled_tier
from qosflow_airflow.operators.outcome import compare, read_records
from qosflow_airflow.run_records import finished_run
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.model_folder import read_model_folder

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")  # noqa: S108  # a tier of the benchmark
STEPS = (0, 1, 2, 5, 10, 20)
ORDERS = 100
"""Random orders in which the runs are learnt from."""
BUNDLE, MODEL, RUNS = "bundle", "model", "learning-curve.json"


@dataclass(frozen=True)
class Settings:
    """What to run, and how slow the disk becomes."""

    output: Path
    runs: int
    size_mib: float
    fast_mib_s: float
    slow_mib_s: float
    slots: int
    seed: int


def main() -> None:
    """Run, or look again at runs that are kept; print errors against numbers of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--again", type=Path)
    for name, default in (("runs", 26), ("size-mib", 12.0), ("fast-mib-s", 100.0), ("slow-mib-s", 2.0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.again is None:
        names = ("runs", "size_mib", "fast_mib_s", "slow_mib_s", "slots", "seed")
        folder = options.output.absolute()
        run(Settings(folder, *(getattr(options, name) for name in names)))
    else:
        folder = options.again.absolute()
    report = curves(folder)
    print("\n".join(lines(report)))
    write_report(report, options.json, "learning curve")


def run(settings: Settings) -> None:
    """Measure and trace on the fast disk, build a model, slow the disk down, then run and learn."""
    settings.output.mkdir(parents=True, exist_ok=True)
    size_bytes = int((4 * settings.size_mib + 512) * MIB)
    with (
        throttled_tier(settings.output, size_bytes, settings.fast_mib_s) as disk,
        scratch("tmpfs", MEMORY) as memory,
    ):
        bundle = settings.output / BUNDLE
        prepare = [sys.executable, str(ROOT / "examples" / "genome" / "prepare.py"), "--force"]
        prepare += ["--output", str(bundle), "--tier", f"disk={disk}", "--tier", f"tmpfs={memory}"]
        prepare += ["--size", str(settings.size_mib), "--processes", str(settings.slots), "--traces", "1"]
        subprocess.run(prepare, check=True)
        store = MemoryStore()
        pipeline.run(store, bundle, BuildOptions(), print)
        pipeline.build_folder(bundle, BuildOptions(), settings.output / MODEL, lambda _: None)
        limit_rate(disk, settings.slow_mib_s)
        (workflow,) = store.list_workflows()
        loaded = load_model(store, workflow.name)
        rng = np.random.default_rng(settings.seed)
        rows: list[dict[str, Any]] = []
        for at in range(settings.runs):
            rows.append(one_run(store, loaded, settings, rng))
            seconds = f"foretold {rows[-1]['predicted_s']:.2f} s, took {rows[-1]['measured_s']:.2f} s"
            print(f"run {at + 1}: {seconds}", flush=True)
            keep(settings, rows, store, loaded)


def keep(settings: Settings, rows: list[dict[str, Any]], store: MemoryStore, loaded: LoadedModel) -> None:
    """Write what is known so far: an interrupt must not lose it."""
    told = [finished_run(record)._asdict() for record in reversed(store.runs(loaded.version.workflow))]
    about = {name: getattr(settings, name) for name in vars(settings) if name != "output"}
    kept = {"settings": about, "rows": rows, "runs": told}
    (settings.output / RUNS).write_text(json.dumps(kept, indent=1, allow_nan=False), encoding="utf-8")


def one_run(
    store: MemoryStore, loaded: LoadedModel, settings: Settings, rng: np.random.Generator
) -> dict[str, Any]:
    """Ask for a configuration that has most of its stages on the slow disk, run it, and tell what it took."""
    workflow, catalog = loaded.model.workflow, loaded.model.catalog
    tiers = {stage: "tmpfs" if rng.random() < 0.25 else "disk" for stage in workflow.stage_names}
    record, answer, _ = answer_request(store, workflow.name, QoSRequest(pin=tiers, max_nodes=1))
    told = json.loads((settings.output / BUNDLE / "run.json").read_text(encoding="utf-8"))
    evict([Path(told["initial_data"])])
    done = run_workflow(
        workflow,
        catalog,
        tiers,
        (sys.executable, *told["program"]),
        run_id=record.recommendation_id,
        initial_data=Path(told["initial_data"]),
        slots=settings.slots,
    )
    records = read_records(done.records)
    counts = {stage.name: stage.tasks for stage in workflow.stages}
    began_s = min(one["start_s"] for one in records) - min(stage.begin_s for stage in done.stages.values())
    copies = [
        {
            "stage": copy.stage,
            "data_of": copy.data_of,
            "start_s": began_s + copy.begin_s,
            "end_s": began_s + copy.end_s,
            "copy_s": copy.copy_s,
        }
        for copy in done.copies
    ]
    store.add_observations([observation(record.recommendation_id, one, counts, tiers) for one in records])
    outcome = compare(answer.answer, None, counts, records, copies)
    store.add_outcome(record.recommendation_id, outcome)
    for mount in {tier.mount for tier in catalog.tiers}:
        subprocess.run(["rm", "-rf", str(Path(str(mount), record.recommendation_id))], check=True)
    interval = answer.answer["interval"]
    return {
        "predicted_s": outcome["predicted_s"],
        "measured_s": outcome["measured_s"],
        "makespan_s": answer.answer["makespan_s"],
        "interval": interval,
        "tiers": tiers,
    }


def observation(
    identifier: str, record: dict[str, Any], counts: dict[str, int], tiers: dict[str, str]
) -> Observation:
    """Return what the listener keeps of a task that left this record."""
    moved = {"read": 0, "write": 0}
    for file in record["files"]:
        moved[file["operation"]] += int(file["bytes"])
    stage = record["stage"]
    return Observation(
        identifier,
        stage,
        record["index"],
        1,
        "success",
        count=counts[stage],
        start_s=record["start_s"],
        end_s=record["end_s"],
        read_bytes=moved["read"],
        write_bytes=moved["write"],
        tier=tiers[stage],
    )


def curves(folder: Path) -> dict[str, Any]:
    """Return errors as they were, and those over random orders, by numbers of runs that had taught."""
    kept = json.loads((folder / RUNS).read_text(encoding="utf-8"))
    model = read_model_folder(folder / MODEL)
    runs = [
        FinishedRun(**{name: tuple(held) if isinstance(held, list) else held for name, held in one.items()})
        for one in kept["runs"]
    ]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(runs)) for _ in range(ORDERS)]
    steps = [step for step in STEPS if step < len(runs)]
    mean: dict[int, float] = {}
    for step in steps:
        errors = []
        for order in orders:
            lesson = learn(model, [runs[at] for at in order[:step]])
            errors += [foretold_error(model, lesson, runs[at]) for at in order[step:]]
        mean[step] = float(np.mean(errors))
    return {"settings": kept["settings"], "rows": kept["rows"], "mean_error": mean}


def foretold_error(model: Model, lesson: Lesson, run: FinishedRun) -> float:
    """Return ``|observed / foretold - 1|``, the larger over the smaller, of a run after a lesson."""
    modelled = modelled_run(model, run.run, run.nodes, run.tiers, run)
    foretold_s = modelled.calibrated_s(lesson.calibration) + lesson.overhead_s
    assert run.measured_s is not None
    return math.expm1(abs(math.log(run.measured_s / foretold_s)))


def lines(report: dict[str, Any]) -> Sequence[str]:
    """Return the table of errors against numbers of runs."""
    said = ["runs  error of the next run  mean error of the others, over random orders"]
    for step, mean in report["mean_error"].items():
        row = report["rows"][int(step)]
        error = math.expm1(abs(math.log(row["measured_s"] / row["predicted_s"])))
        said.append(f"{step:>4}  {error:>21.1%}  {mean:>10.1%}")
    held = [row for row in report["rows"] if row["interval"]]
    inside = 0
    for row in held:
        worked_s = row["measured_s"] - (row["predicted_s"] - row["makespan_s"])
        inside += row["interval"]["p05_s"] <= worked_s <= row["interval"]["p95_s"]
    said.append(f"{inside} of {len(held)} runs were within their interval of 90 %")
    return said


if __name__ == "__main__":
    main()
