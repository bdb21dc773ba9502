"""What the four-axis interpolation costs beside a fitted profile, on the same queries.

    python benchmarks/four_d_baseline.py PROFILE.csv [--queries 2000] [--json FILE]

The interpolation itself is qosflow_airflow/core/rate_baseline.py: `qosflow profile evaluate` compares
errors with it, and the package cannot import a benchmark. Queries are spread over the measured range of
every operation and tier that a law was fitted to; the time of 100,000 is scaled from them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from qosflow_airflow.core.profile import RateQuery, StorageProfile
from qosflow_airflow.core.rate_baseline import interpolate_four_axes
from qosflow_airflow.readers.rates_csv import read_rates_csv


def main() -> None:
    """Print both times and their ratio, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    profile = StorageProfile(read_rates_csv(options.profile)).fitted()
    if profile.model is None or not profile.model.rates:
        raise SystemExit("no operation has enough points for a law")
    random = np.random.default_rng(0)
    share = -(-options.queries // len(profile.model.rates))
    points, ours_s, theirs_s = profile.points(), 0.0, 0.0
    for key, fitted in profile.model.rates.items():
        asked = np.exp(random.uniform(fitted.low, fitted.high, (share, len(fitted.low))))
        ours_s += seconds(profile.rates_of, [RateQuery(*key, *point) for point in asked.tolist()])
        found = points[key]
        measured = np.exp(found.points[found.runs[:, 0].astype(int)])
        theirs_s += seconds(interpolate_four_axes, measured, np.exp(found.runs[:, 1]), asked)
    scale = 100_000 / (share * len(profile.model.rates))
    result = {
        "fitted_100k_s": ours_s * scale,
        "four_axes_100k_s": theirs_s * scale,
        "ratio": theirs_s / ours_s,
    }
    print("\n".join(f"{name}: {value:.2f}" for name, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def seconds(function, *arguments) -> float:  # type: ignore[no-untyped-def]
    """Return how long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
