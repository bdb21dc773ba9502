"""How well trees foretell the seconds of stages they have not seen: trained and judged anew, on made-up runs.

    python -m benchmarks.task_predictor [--runs 800] [--seed 20] [--json FILE]

Runs come from qosflow_airflow/learn/case_generator.py: nothing here was measured in the field. Three splits:
runs at random, whole workflows held out, whole platforms held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.report import write_report
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.cases import stage_cases
from qosflow_airflow.learn.task_predictor import evaluated


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=800)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [case for run in generated_runs(options.runs, options.seed) for case in stage_cases(run)]
    found = evaluated(cases, options.seed)
    print(f"{len(cases):,} stages of {options.runs:,} generated runs")
    print(f"{'split':<13}{'predictor':<34}{'R2':>8}{'MSE s^2':>12}{'MAPE':>8}{'R2 of ln s':>12}")
    for split, predictors in found.items():
        for name, figures in predictors.items():
            print(
                f"{split:<13}{name:<34}{figures['r2']:>8.3f}{figures['mse_s2']:>12.1f}"
                f"{figures['mape']:>8.1%}{figures['r2_log']:>12.3f}"
            )
    write_report({"stages": len(cases), "seed": options.seed, **found}, options.json, "task_predictor")


if __name__ == "__main__":
    main()
