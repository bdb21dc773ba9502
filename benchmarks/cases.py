"""How long the most similar of many cases take to find, and what they do to errors; on made-up runs.

    python -m benchmarks.cases [--cases 50000] [--queries 50] [--seeds 10,11,12,13] [--runs 400] [--json FILE]

For the time, stages of generated runs are repeated with their features moved a little, up to the number of
cases. For errors, each seed is a world of its own (platforms, habits of workflows): first the errors of
workflows left out, without and with cases, then one table of all layers, each run foretold from those before.
Runs come from qosflow_airflow/learn/case_generator.py: nothing here was measured in the field.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow.learn.ablation import ablation, foretell
from qosflow_airflow.learn.case_correction import judge
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.cases import Case, CaseBase, run_case, stage_cases

GOAL_S = 0.02


def main() -> None:
    """Print what was measured and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seeds", default="10,11,12,13")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"latency": latency(options.cases, options.queries)}
    found = report["latency"]
    print(
        f"{found['cases']:,} cases: median {found['median_s'] * 1e3:.1f} ms, "
        f"slowest of {options.queries} {found['slowest_s'] * 1e3:.1f} ms; "
        f"made ready once in {found['ready_s'] * 1e3:.0f} ms (goal {GOAL_S * 1e3:.0f} ms a query)"
    )
    report["left_out"] = {}
    for seed in map(int, options.seeds.split(",")):
        runs = list(generated_runs(options.runs, seed))
        report["left_out"][seed] = judged(seed, runs)
    report["layers"] = layers([int(seed) for seed in options.seeds.split(",")], options.runs)
    write_report(report, options.json, "cases")


def latency(count: int, queries: int) -> dict[str, float]:
    """Return the seconds that a query takes in a base of ``count`` cases."""
    rng = np.random.default_rng(0)
    made = [case for run in generated_runs(600) for case in stage_cases(run)]
    base = CaseBase(moved(made[at % len(made)], rng) for at in range(count))
    started = perf_counter()
    base.nearest(made[0].features, made[0].platform)
    ready_s = perf_counter() - started
    taken = []
    for at in rng.integers(len(made), size=queries).tolist():
        started = perf_counter()
        base.nearest(made[at].features, made[at].platform)
        taken.append(perf_counter() - started)
    return {
        "cases": len(base),
        "ready_s": ready_s,
        "median_s": float(np.median(taken)),
        "slowest_s": max(taken),
    }


def moved(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with its features moved a little."""
    return replace(case, features=tuple((np.array(case.features) + rng.normal(0, 0.05, 17)).tolist()))


def judged(seed: int, runs: list[Any]) -> dict[str, Any]:
    """Print and return the errors of workflows that were left out."""
    found = {}
    for kind, cases in (
        ("runs", [run_case(run) for run in runs]),
        ("stages", [case for run in runs for case in stage_cases(run)]),
    ):
        judgement = judge(CaseBase(cases))
        print(f"world {seed}, {kind}: {judgement.words}")
        found[kind] = judgement._asdict()
    return found


def layers(seeds: list[int], runs: int) -> dict[str, Any]:
    """Print and return the table of layers over each world's runs; workflows arrive one after the other."""
    foretold = []
    for seed in seeds:
        foretold += foretell(generated_runs(runs, seed, arriving=True))
    found = ablation(foretold)
    print(f"{'runs of':<9}{'layer':<36}{'runs':>6}{'median':>9}{'mean':>9}{'coverage':>10}{'width':>8}")
    for row in found["rows"]:
        if row["runs"]:
            covered = "" if row["coverage"] is None else f"{row['coverage']:.1%}"
            width = "" if row["width"] is None else f"{row['width']:.2f}"
            print(
                f"{row['runs_of']:<9}{row['layer']:<36}{row['runs']:>6}{row['median_error']:>9.1%}"
                f"{row['mean_error']:>9.1%}{covered:>10}{width:>8}"
            )
    return found


if __name__ == "__main__":
    main()
