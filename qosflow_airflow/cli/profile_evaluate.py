"""``qosflow profile evaluate``: how well rates that were held out are estimated."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.text import as_json, figure, progress, table
from qosflow_airflow.exceptions import MeasurementError

if TYPE_CHECKING:
    import pandas as pd

    from qosflow_airflow.core.profile import StorageProfile
    from qosflow_airflow.core.rate_evaluation import HeldOut, Runs
    from qosflow_airflow.core.rates import StorageRates

QUERIES = 100_000


def add_evaluate(actions: Any) -> None:
    """Add ``evaluate`` to the actions of ``qosflow profile``."""
    evaluate = actions.add_parser(
        "evaluate", help="judge rate estimates on held-out measurements", description=_evaluate.__doc__
    )
    evaluate.add_argument("rates", type=Path, metavar="CSV", help="measured rates (a profile.csv)")
    evaluate.add_argument(
        "--folds",
        type=Path,
        metavar="CSV",
        help="columns row,fold: the random split; row counts the measurements from 0, and those that are not"
        " named are left out (default: five folds, the same every time)",
    )
    evaluate.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    evaluate.add_argument("--format", choices=("text", "json"), default="text")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    """Hold measurements out, at random and by whole levels of each axis, and compare estimates with them.

    Errors are |ln(estimate / measured)|; their ratios are to the four-axis interpolation on the same rows.
    """
    from qosflow_airflow.core.rate_checks import RULES, Action, check_rates
    from qosflow_airflow.core.rate_evaluation import repeat_noise, summarise
    from qosflow_airflow.core.rates import StorageRates
    from qosflow_airflow.readers.rates_csv import read_rates_csv

    rates = read_rates_csv(options.rates)
    # As measured: a correction must not flatter. Without folds, what no rule would keep is left out.
    dropping = check_rates(rates, without=[rule.name for rule in RULES if rule.action is not Action.DROP])
    frame = _with_folds(rates.frame if options.folds else dropping.rates.frame, options.folds)
    all_runs = _runs(frame)
    found = summarise(_hold_out(all_runs, options.jobs))
    found["repeat_noise"] = repeat_noise(all_runs)
    found["checks"] = check_rates(rates).report.to_json()
    found.update(_speed(StorageRates(frame)))
    print(as_json(found) if options.format == "json" else _text(found))
    return OK


def _with_folds(frame: pd.DataFrame, path: Path | None) -> pd.DataFrame:
    from qosflow_airflow.readers.csv_table import read_csv

    if path is None:
        return frame.assign(fold=-1)
    folds = read_csv(path)
    folds.require(("row", "fold"))
    rows, fold = folds.numbers("row", low=0, high=2**40), folds.numbers("fold", low=0, high=1000)
    if (rows >= len(frame)).any():
        at = int((rows >= len(frame)).argmax())
        raise folds.error(at, "row", f"is {rows[at]:.0f} of {len(frame)} measurements", "Count them from 0.")
    return frame.iloc[rows.astype(int)].assign(fold=fold.astype(int))


def _runs(frame: pd.DataFrame) -> list[Runs]:
    from qosflow_airflow.core.profile import AXES
    from qosflow_airflow.core.rate_evaluation import Runs, design_folds

    found = []
    for key, rows in frame.groupby(["operation", "source_tier", "destination_tier"], sort=True):
        operation, source, destination = (str(part) for part in key)
        points = rows[list(AXES)].to_numpy(dtype=float)
        folds = rows["fold"].to_numpy()
        folds = design_folds(points) if (folds < 0).any() else folds
        rates_mib_s = rows["rate_mib_s"].to_numpy(dtype=float)
        found.append(Runs((operation, source, destination), points, rates_mib_s, folds))
    return found


def _hold_out(all_runs: list[Runs], jobs: int) -> list[HeldOut]:
    from qosflow_airflow.core.rate_evaluation import SPLITS, hold_out

    work = list(product(SPLITS, all_runs))
    splits, runs = [split for split, _ in work], [each for _, each in work]
    held: list[HeldOut] = []
    if jobs == 1:
        parts = map(hold_out, runs, splits)
        for split, each, part in zip(splits, runs, parts, strict=True):
            progress(f"{split}: {' '.join(each.key)}")
            held += part
    else:
        with ProcessPoolExecutor(jobs) as pool:
            for split, each, part in zip(splits, runs, pool.map(hold_out, runs, splits), strict=True):
                progress(f"{split}: {' '.join(each.key)}")
                held += part
    if not held:
        raise MeasurementError(
            "there are too few measurements to hold some out",
            cure="Measure at least 30 points of an operation, at two levels or more of every axis.",
        )
    return held


def _speed(rates: StorageRates) -> dict[str, float]:
    """Return the seconds that fitting all takes, calibration included, and asking for many rates."""
    from qosflow_airflow.core.profile import StorageProfile

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    profile = StorageProfile(rates).fitted()
    found = {"fit_s": time.perf_counter() - wall_s, "fit_cpu_s": time.process_time() - cpu_s}
    queries = _queries(profile)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    profile.rates_of(queries)
    return {
        **found,
        "predict_100k_s": time.perf_counter() - wall_s,
        "predict_100k_cpu_s": time.process_time() - cpu_s,
    }


def _queries(profile: StorageProfile) -> list[Any]:
    """Return distinct queries spread over the measured ranges of every law."""
    import numpy as np

    from qosflow_airflow.core.profile import RateQuery

    if profile.model is None or not profile.model.rates:
        return []
    random = np.random.default_rng(0)
    queries: list[Any] = []
    share = -(-QUERIES // len(profile.model.rates))
    for key, fitted in profile.model.rates.items():
        points = np.exp(random.uniform(fitted.low, fitted.high, (share, len(fitted.low))))
        points[:, 0] = np.exp(random.choice(fitted.nodes, share))
        queries += [RateQuery(*key, *point) for point in points.tolist()]
    return queries[:QUERIES]


def _text(found: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("split", "runs", "median", "p90", "of the 4-D median", "of the 4-D p90")]
    for name, split in found["splits"].items():
        numbers = (split[column] for column in ("median", "p90", "ratio_median", "ratio_p90"))
        rows.append((name, str(split["runs"]), *(figure(number) for number in numbers)))
    rules = [("rule", "does", "rows", "factor")]
    for rule in found["checks"]["rules"]:
        rules.append((rule["name"], rule["action"], str(rule["rows"]), figure(rule["factor"])))
    coverage = found["coverage_90"]
    noise = found["repeat_noise"]
    return "\n".join(
        [
            table(rows),
            "",
            table(rules),
            "",
            f"repeats of one point differ by {figure(noise.get('median'))} / {figure(noise.get('p90'))}",
            f"90 % intervals hold {figure(coverage['grid'])} of the runs in the grid",
            f"  (half-width factor {figure(found['half_width_factor'])})",
            f"and {figure(coverage['nodes_interior']) or 'an unknown share'} at unseen node counts",
            f"fit: {found['fit_s']:.1f} s ({found['fit_cpu_s']:.1f} s of processor)",
            f"{QUERIES:,} rates: {found['predict_100k_s']:.1f} s ({found['predict_100k_cpu_s']:.1f} s)",
        ]
    )
