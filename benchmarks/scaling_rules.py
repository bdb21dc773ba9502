"""How well scaling rules predict a run that they have not seen, per quantity.

    python benchmarks/scaling_rules.py RUN RUN RUN ... [--json FILE]

Each RUN is observations with their scale, as in run2.csv@data=2,tasks=1. Every run is left out once; rules
are chosen and anchored on the others alone. "Growing" are the series that differ between runs by more than
1 %: constant ones are easy, and would hide the others in a median over all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qosflow_airflow.cli.scaling import parse_run
from qosflow_airflow.core.scaling import QUANTITIES
from qosflow_airflow.core.scaling_inference import Run, held_out_errors, quantities

DIFFERS = 0.01


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = figures([parse_run(text) for text in options.runs])
    print(f"{'quantity':<20}{'series':>7}{'growing':>9}{'median':>9}{'p90':>9}{'of growing':>12}")
    for row in rows:
        shown = [
            f"{row[name]:.1%}" if row[name] is not None else ""
            for name in ("median", "p90", "growing_median")
        ]
        print(
            f"{row['quantity']:<20}{row['series']:>7}{row['growing']:>9}{shown[0]:>9}{shown[1]:>9}{shown[2]:>12}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the errors of runs left out, per quantity and over all of them."""
    errors = held_out_errors(runs)
    series = {key: [quantities(run.observations)[key] for run in runs] for key in errors}
    growing = {key for key, values in series.items() if max(values) > min(values) * (1 + DIFFERS)}
    rows = []
    for quantity in (*QUANTITIES, "all"):
        keys = [key for key in errors if quantity in (key[1], "all")]
        if keys:
            rows.append(
                _row(quantity, [errors[key] for key in keys], [errors[key] for key in keys if key in growing])
            )
    return rows


def _row(quantity: str, found: list[list[float]], growing: list[list[float]]) -> dict[str, Any]:
    everything = np.concatenate(found)
    return {
        "quantity": quantity,
        "series": len(found),
        "growing": len(growing),
        "median": float(np.median(everything)),
        "p90": float(np.quantile(everything, 0.9)),
        "growing_median": float(np.median(np.concatenate(growing))) if growing else None,
    }


if __name__ == "__main__":
    main()
