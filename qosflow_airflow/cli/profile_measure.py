"""``qosflow profile measure``: what the storage tiers of this machine reach."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.text import progress, table
from qosflow_airflow.exceptions import MeasurementError

if TYPE_CHECKING:
    from qosflow_airflow.measure.points import ProfileRow


def add_measure(actions: Any) -> None:
    """Add ``measure`` to the actions of ``qosflow profile``."""
    measure = actions.add_parser(
        "measure", help="measure the storage tiers of this machine", description=_measure.__doc__
    )
    measure.add_argument(
        "--tier",
        action="append",
        required=True,
        metavar="NAME=PATH",
        help="a tier and a folder on it; once per tier",
    )
    measure.add_argument(
        "--budget-s", default="60", metavar="S", help="seconds to spend, about (default: %(default)s)"
    )
    measure.add_argument(
        "--jobs",
        metavar="N,N",
        help="how many processes transfer at once (default: 1, 2 and the number of processors)",
    )
    measure.add_argument(
        "--direct",
        choices=("auto", "fio", "off"),
        default="auto",
        help="around the page cache as well: by fio where it is installed, by fio or not at all, or never"
        " (default: %(default)s)",
    )
    measure.add_argument("--output", type=Path, required=True, metavar="CSV", help="the profile to write")
    measure.set_defaults(run=_measure)


def _measure(options: argparse.Namespace) -> int:
    """Measure reads, writes and copies between tiers, and write them as a storage profile.

    Each tier is measured in a folder of its own below PATH, which is removed at the end, also when the
    measurement is interrupted. A share of the free space is never taken. Progress goes to standard error.
    """
    from qosflow_airflow.measure.profile_csv import write_profile
    from qosflow_airflow.measure.request import check_output, parse_budget, parse_jobs, parse_tiers
    from qosflow_airflow.measure.signals import Stopped, stopped_by_signals
    from qosflow_airflow.measure.tiers import measure_tiers

    tiers = parse_tiers(options.tier)
    budget_s = parse_budget(options.budget_s)
    jobs = None if options.jobs is None else parse_jobs(options.jobs)
    check_output(options.output)
    check_fio(options.direct)
    try:
        with stopped_by_signals():
            rows = measure_tiers(
                tiers, budget_s=budget_s, jobs=jobs, direct=options.direct != "off", progress=progress
            )
    except Stopped as stopped:
        progress(f"qosflow: interrupted: no profile is written, and the tiers are as before ({stopped})")
        return 128 + stopped.number
    try:
        write_profile(rows, options.output)
    except OSError as error:
        raise MeasurementError(f"cannot be written: {error.strerror}", source=options.output) from error
    print(table(summary(rows)))
    progress(cache_notice(rows))
    progress(f"wrote {len(rows)} rates to {options.output}")
    return OK


def check_fio(direct: str) -> None:
    """Say that fio is missing, or raise a :class:`MeasurementError` where it was asked for."""
    from qosflow_airflow.measure.fio import find_fio

    if direct == "off" or find_fio() is not None:
        return
    if direct == "fio":
        raise MeasurementError(
            "fio is not installed",
            cure="Install it (Debian, Ubuntu: apt-get install fio), or measure with --direct auto.",
        )
    progress("measure: fio is not installed, so processes of our own measure around the page cache")


def summary(rows: Sequence[ProfileRow]) -> list[tuple[str, ...]]:
    """Return lines of a table: per operation, tier and way to it, the points and the range of rates."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        way = "direct" if row.point.direct else "page cache" if row.cached else "cold" * row.point.cold
        found.setdefault((row.point.operation, row.point.where, way), []).append(row.mib_s)
    lines: list[tuple[str, ...]] = [("operation", "tier", "rates", "least MiB/s", "most MiB/s", "")]
    for (operation, where, way), rates in found.items():
        lines.append((operation, where, str(len(rates)), f"{min(rates):,.0f}", f"{max(rates):,.0f}", way))
    return lines


def cache_notice(rows: Sequence[ProfileRow]) -> str:
    """Return what the page cache did to the reads."""
    reads = [row for row in rows if row.point.operation == "read"]
    device = {row.point.where for row in reads if row.point.direct}
    ratios = [
        f"{tier} {_median(reads, tier, direct=False) / _median(reads, tier, direct=True):,.1f} times"
        for tier in sorted(device)
    ]
    return (
        f"measure: {sum(row.cached for row in reads)} of {len(reads)} reads found their data in the page "
        "cache, as a task does that reads on the node that wrote; they are marked cached"
        + (f". Beside the rate of the device: {', '.join(ratios)}" if ratios else "")
    )


def _median(reads: Sequence[ProfileRow], tier: str, *, direct: bool) -> float:
    warm = [row for row in reads if not row.point.cold]
    return median(row.mib_s for row in warm if row.point.where == tier and row.point.direct == direct)
