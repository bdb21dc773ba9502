"""``qosflow profile measure``: what the storage tiers of this machine reach."""

from __future__ import annotations

import argparse
import math
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.text import progress, table
from qosflow_airflow.exceptions import MeasurementError

if TYPE_CHECKING:
    from qosflow_airflow.measure.points import ProfileRow

MAX_JOBS = 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    from qosflow_airflow.measure import measure_tiers, write_profile

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
    except _Stopped as stopped:
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


def parse_tiers(given: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each tier, in the order of ``NAME=PATH`` texts.

    Raises
    ------
    MeasurementError
        When a text has no name or path, a name is given twice, or two tiers are one folder.
    """
    tiers: dict[str, Path] = {}
    for text in given:
        name, equals, path = (part.strip() for part in text.partition("="))
        if not (name and equals and path):
            raise MeasurementError(f"{text!r} does not name a tier and its folder", cure="Write NAME=PATH.")
        if name in tiers:
            raise MeasurementError(f"tier {name!r} is given twice", cure="Remove one of them.")
        same = [other for other, folder in tiers.items() if folder.resolve() == Path(path).resolve()]
        if same:
            raise MeasurementError(
                f"the tiers {same[0]!r} and {name!r} are the same folder", cure="Give each its own."
            )
        tiers[name] = Path(path)
    return tiers


def parse_budget(text: str) -> float:
    """Return the seconds, or raise a :class:`MeasurementError` where they are not a number above 0."""
    try:
        budget_s = float(text)
    except ValueError:
        budget_s = math.nan
    if not 0 < budget_s < math.inf:
        raise MeasurementError(f"the budget is {text!r}", cure="Give seconds above 0.")
    return budget_s


def parse_jobs(text: str) -> list[int]:
    """Return how many processes transfer at once, ascending.

    Raises
    ------
    MeasurementError
        When a number is not whole, or not from 1 to :data:`MAX_JOBS`.
    """
    parts = [part.strip() for part in text.split(",")]
    # isdecimal alone takes digits of other scripts, which int would read without a word.
    if not all(part.isascii() and part.isdecimal() and 1 <= int(part) <= MAX_JOBS for part in parts):
        raise MeasurementError(
            f"the jobs are {text!r}", cure=f"Give whole numbers from 1 to {MAX_JOBS}, as in 1,2,4."
        )
    return sorted({int(part) for part in parts})


def check_output(path: Path) -> None:
    """Raise a :class:`MeasurementError` where the profile could not be written: before time is spent."""
    if path.is_dir():
        raise MeasurementError("is a folder", source=path, cure="Name a file in it, as in profile.csv.")
    if not path.parent.is_dir():
        raise MeasurementError("there is no such folder", source=path.parent, cure="Create it.")
    if not os.access(path.parent, os.W_OK):
        raise MeasurementError("may not be written", source=path.parent, cure="Give write permission.")


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
        way = "direct" if row.point.direct else "page cache" if row.cached else ""
        found.setdefault((row.point.operation, row.point.where, way), []).append(row.mib_s)
    lines: list[tuple[str, ...]] = [("operation", "tier", "rates", "least MiB/s", "most MiB/s", "")]
    for (operation, where, way), rates in found.items():
        lines.append((operation, where, str(len(rates)), f"{min(rates):,.0f}", f"{max(rates):,.0f}", way))
    return lines


def cache_notice(rows: Sequence[ProfileRow]) -> str:
    """Return what the page cache did to the reads."""
    cached = sum(row.cached for row in rows)
    reads = sum(row.point.operation == "read" for row in rows)
    return (
        f"measure: {cached} of {reads} reads found their data in the page cache, as a task does that reads "
        "on the node that wrote; they are marked cached. What a device gives is in the direct rates"
    )


class _Stopped(BaseException):
    """The process was told to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn the first signal to end into an exception, so that what must be cleaned up is; ignore others."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the cleaning up
        raise _Stopped(number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    # What is ignored stays so: nohup has SIGHUP ignored.
    for each in (each for each, handler in before.items() if handler != signal.SIG_IGN):
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
