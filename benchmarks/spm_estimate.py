"""How much of SPM's published table the SPM-compatible estimate reproduces, and what that takes.

    python benchmarks/spm_estimate.py BUNDLE PROFILE --tiers beegfs,tmpfs,ssd [--json FILE]

BUNDLE holds observations.csv and the published spm.csv; PROFILE is the table of rates that it was made with.
A row is reproduced when both of its times are within a relative 1e-6. Time and peak memory are those of one
process that reads the files and estimates, imports not counted in the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qosflow_airflow.core.spm_estimate import spm_transfer_table
from qosflow_airflow.core.transfer_table import COLUMNS
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.rates_csv import read_rates_csv

WITHIN = (1e-6, 0.01, 0.1)


def main() -> None:
    """Print the figures and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--tiers", required=True, help="shared tier first")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = compared(options.bundle, options.profile, options.tiers.split(","))
    shares = ", ".join(f"{figures['within'][str(limit)]:.1%} within {limit:g}" for limit in WITHIN)
    print(
        f"{options.bundle.name}: {figures['rows']} published rows, {figures['estimated']} estimated: {shares}"
    )
    print(
        f"{figures['read_s']:.2f} s to read, {figures['estimate_s']:.2f} s to estimate, "
        f"{figures['peak_mib']:.0f} MiB at most"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def compared(bundle_path: Path, profile: Path, tiers: list[str]) -> dict[str, Any]:
    """Return the share of published rows that are reproduced, with time and memory."""
    started = time.perf_counter()
    bundle = read_bundle(bundle_path, tiers=tiers)
    rates = read_rates_csv(profile)
    if bundle.observations is None or bundle.transfer_table is None or bundle.catalog is None:
        raise SystemExit(f"{bundle_path} needs observations.csv and spm.csv")
    read = time.perf_counter()
    table = spm_transfer_table(bundle.workflow, bundle.catalog, bundle.observations, rates)
    estimated = time.perf_counter()
    # Before the comparison, which is not part of the estimate.
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    error = errors(bundle.transfer_table.frame, table.frame)
    return {
        "rows": len(error),
        "estimated": len(table.frame),
        "within": {str(limit): float((error <= limit).mean()) for limit in WITHIN},
        "read_s": read - started,
        "estimate_s": estimated - read,
        "peak_mib": peak_mib,
    }


def errors(published: pd.DataFrame, estimated: pd.DataFrame) -> np.ndarray:
    """Return each published row's relative error, the larger of its two; infinite where not estimated."""
    keys = list(COLUMNS[:6])
    both = published.merge(estimated, on=keys, how="left", suffixes=("", "_own"), validate="one_to_one")
    parts = []
    for side in ("producer_s", "consumer_s"):
        difference = (both[f"{side}_own"] - both[side]).abs()
        parts.append((difference / both[side].where(both[side] > 0, 1.0)).fillna(np.inf))
    return np.maximum(*(part.to_numpy() for part in parts))


if __name__ == "__main__":
    main()
