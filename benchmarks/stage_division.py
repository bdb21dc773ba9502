"""How well the I/O model foretells what a stage takes in other numbers of tasks than its own: real runs.

    python -m benchmarks.stage_division --output FOLDER [--size-mib 64] [--slots 2] [--rounds 3] [--json FILE]
        [--again]

The genome workload is measured and traced in its own numbers of tasks on the first tier, a disk, and a model
is built of that. Then two of its stages, which run alone or nearly so, are done in 1, 2, 4 and 8 tasks on
each of two tiers, really, one of them at a time, and in their own numbers: all of these once a round, in a
random order. What is compared are ratios within a round, seconds in so many tasks over seconds in the own
number, since a machine is quicker at one time than at another. `--again` looks once more at the runs that are
kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow import pipeline
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.model import Model
from qosflow_airflow.learn.chunk_choice import ChunkGoal, better_than_own
from qosflow_airflow.learn.divided_stage import DividedStage
from qosflow_airflow.learn.stage_chunks import COLD_GAIN
from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.run_workflow import run_workflow
from qosflow_airflow.measure.scratch import scratch
from qosflow_airflow.operators.outcome import read_records, span_s
from qosflow_airflow.store.model_folder import read_model_folder

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")  # noqa: S108  # a tier of the benchmark
STAGES = ("individuals", "individuals_merge")
COUNTS = (1, 2, 4, 8)
OWN = 0
"""Stands for the workflow's own numbers."""
BUNDLE, MODEL, RUNS = "bundle", "model", "stage-division.json"


def main() -> None:
    """Run, or look again at runs that are kept; print foretold beside measured ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size-mib", type=float, default=64.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.output.absolute()
    if not options.again:
        run(folder, options.size_mib, options.slots, options.rounds)
    report = compared(folder)
    print("\n".join(lines(report)))
    write_report(report, options.json, Path(__file__).stem)


def run(folder: Path, size_mib: float, slots: int, rounds: int) -> None:
    """Measure, trace and build, then run each number of tasks on each tier once a round."""
    folder.mkdir(parents=True, exist_ok=True)
    with scratch("disk", folder) as disk, scratch("tmpfs", MEMORY) as memory:
        bundle = folder / BUNDLE
        prepare = [sys.executable, str(ROOT / "examples" / "genome" / "prepare.py"), "--force"]
        prepare += ["--output", str(bundle), "--tier", f"disk={disk}", "--tier", f"tmpfs={memory}"]
        prepare += ["--size", str(size_mib), "--processes", str(slots), "--traces", "1"]
        subprocess.run(prepare, check=True)
        pipeline.build_folder(bundle, BuildOptions(), folder / MODEL, print)
        model = read_model_folder(folder / MODEL)
        rng = np.random.default_rng(1)
        rows = []
        for at in range(rounds):
            divided = [("", OWN), *((stage, count) for stage in STAGES for count in COUNTS)]
            asked = [(*one, tier) for one in divided for tier in model.catalog.names]
            for number in rng.permutation(len(asked)):
                stage, count, tier = asked[number]
                took_s = one_run(model, folder, {stage: count} if stage else {}, tier)
                rows.append({"round": at, "stage": stage, "count": count, "tier": tier, "took_s": took_s})
                print(rows[-1], flush=True)
                (folder / RUNS).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def one_run(model: Model, folder: Path, numbers: dict[str, int], tier: str) -> dict[str, float]:
    """Return what the stages took, all of them on one tier, in these numbers of tasks."""
    told = json.loads((folder / BUNDLE / "run.json").read_text(encoding="utf-8"))
    evict([Path(told["initial_data"])])
    done = run_workflow(
        model.workflow.with_tasks(numbers),
        model.catalog,
        dict.fromkeys(model.workflow.stage_names, tier),
        (sys.executable, *told["program"]),
        run_id="division",
        initial_data=Path(told["initial_data"]),
        slots=model.catalog.node.slots,
    )
    records = read_records(done.records)
    for mount in {one.mount for one in model.catalog.tiers}:
        subprocess.run(["rm", "-rf", str(Path(str(mount), "division"))], check=True)
    return {stage: span_s([one for one in records if one["stage"] == stage]) for stage in STAGES}


def compared(folder: Path) -> dict[str, Any]:
    """Return foretold and measured ratios per stage, tier and number, and what choosing by them is worth."""
    model, rows = read_model_folder(folder / MODEL), json.loads((folder / RUNS).read_text(encoding="utf-8"))
    table, chosen = [], []
    for stage in STAGES:
        for tier in model.catalog.names:
            divided = stage_of(model, stage, tier)
            own_s = divided.seconds(divided.own)
            measured = {0: 1.0}
            for count in COUNTS:
                measured[count] = median(ratios(rows, stage, tier, count))
                foretold = divided.seconds(count) / own_s
                table.append(
                    {
                        "stage": stage,
                        "tier": tier,
                        "own": divided.own,
                        "own_s": own_s,
                        "count": count,
                        "foretold": foretold,
                        "measured": measured[count],
                        "of": sorted(ratios(rows, stage, tier, count)),
                        "as_before": abs(math.log(measured[count])),
                        "error": abs(math.log(measured[count] / foretold)),
                    }
                )
            best = better_than_own(divided, divided.own, max(COUNTS), ChunkGoal(), COLD_GAIN).chunks
            chosen.append({"stage": stage, "tier": tier, "chosen": best, "measured": measured})
    errors = {name: float(np.mean([row[name] for row in table])) for name in ("error", "as_before")}
    rms = math.sqrt(float(np.mean([row["error"] ** 2 for row in table])))
    return {"rows": table, "chosen": chosen, "mean": errors, "log_sd": rms, "runs": len(rows)}


def stage_of(model: Model, stage: str, tier: str) -> DividedStage:
    """Return a stage on a tier, as the model has it."""
    times = model.scales[0].times
    at = times.stages.index(stage), times.tiers.index(tier)
    return DividedStage(times, *at, model.workflow.stage(stage).tasks, model.catalog.node)


def ratios(rows: list[dict[str, Any]], stage: str, tier: str, count: int) -> list[float]:
    """Return, per round, what a stage took in so many tasks over what it took in its own number."""
    here = [row for row in rows if row["tier"] == tier]
    own = {row["round"]: row["took_s"][stage] for row in here if row["count"] == OWN}
    divided = [row for row in here if (row["stage"], row["count"]) == (stage, count) and row["round"] in own]
    return [row["took_s"][stage] / own[row["round"]] for row in divided]


def lines(report: dict[str, Any]) -> list[str]:
    """Return the table."""
    said = ["stage              tier   own  tasks  foretold  measured"]
    said += [
        f"{row['stage']:18} {row['tier']:6} {row['own']:3} {row['count']:6} {row['foretold']:9.2f} "
        f"{row['measured']:9.2f}  ({', '.join(f'{one:.2f}' for one in row['of'])})"
        for row in report["rows"]
    ]
    said += [f"{one['stage']} on {one['tier']}: {one['chosen']} chosen" for one in report["chosen"]]
    mean = report["mean"]
    said.append(
        f"mean |ln|: {mean['error']:.3f} foretold, {mean['as_before']:.3f} as long as in its own number; "
        f"root mean square {report['log_sd']:.3f}"
    )
    return said


if __name__ == "__main__":
    main()
