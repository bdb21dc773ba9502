"""``qosflow validate``: predicted against executed, on this machine."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_database, open_store
from qosflow_airflow.cli.text import as_json, figure, progress, table
from qosflow_airflow.exceptions import MeasurementError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "genome"
MEMORY = Path("/dev/shm")  # noqa: S108 - used only where it is a tmpfs


def add_validate(commands: Any) -> None:
    """Add ``validate``."""
    parser = commands.add_parser(
        "validate", help="hold predictions against runs on this machine", description=_validate.__doc__
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="keep the bundle, the model and the runs here",
    )
    parser.add_argument(
        "--tier",
        action="append",
        metavar="NAME=PATH",
        help="a tier and a folder on it; once per tier, shared first (default: disk in DIR, and tmpfs)",
    )
    parser.add_argument(
        "--throttle-mib-s",
        default="20",
        metavar="R",
        help="as root: one more, shared tier that the kernel limits to this rate; 0 for none (default: 20)",
    )
    parser.add_argument(
        "--size-mib", default="200", metavar="MIB", help="what one run moves, about (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", default="3", metavar="N", help="runs of each configuration (default: %(default)s)"
    )
    parser.add_argument(
        "--budget-s",
        default="600",
        metavar="S",
        help="seconds for the runs: where all configurations take longer, a sample (default: %(default)s)",
    )
    parser.add_argument(
        "--profile-budget-s",
        default="60",
        metavar="S",
        help="seconds to measure tiers (default: %(default)s)",
    )
    parser.add_argument(
        "--slots", metavar="N", help="tasks of a stage that run at once (default: the number of processors)"
    )
    parser.add_argument("--seed", default="1", metavar="N", help="of sample and order (default: %(default)s)")
    parser.add_argument(
        "--workload",
        type=Path,
        default=EXAMPLE,
        metavar="DIR",
        help="what to run (default: the example genome)",
    )
    parser.add_argument(
        "--airflow", action="store_true", help="measure what Airflow itself takes for a task, too"
    )
    parser.add_argument(
        "--again", action="store_true", help="run nothing: score the runs in DIR with a model built anew"
    )
    parser.add_argument(
        "--store", action="store_true", help="publish the model to the database too, with its report card"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    add_database(parser)
    parser.set_defaults(run=_validate)


def _validate(options: argparse.Namespace) -> int:
    """Run a workflow across its tiers, and report how well a model foresaw it.

    The tiers are measured, one run is traced on the home tier, and a model is built from both. Then all other
    configurations are run, or a random sample that fits the time, several times in random order, each from
    input that is in no cache. Nothing stays on the tiers, also when it is interrupted.
    """
    from qosflow_airflow.measure.signals import Stopped, stopped_by_signals
    from qosflow_airflow.validation import score_again, validate

    try:
        with stopped_by_signals():
            if options.again:
                found = score_again(options.output, progress)
            else:
                found = validate(_settings(options), progress)
    except Stopped as stopped:
        progress(f"qosflow: interrupted: nothing is left on the tiers ({stopped})")
        return 128 + stopped.number
    if options.store:
        _publish(options, found.card)
    print(as_json(found.card) if options.format == "json" else card_text(found.card))
    return OK


def _settings(options: argparse.Namespace) -> Any:
    from qosflow_airflow.measure.request import parse_tiers
    from qosflow_airflow.validation import ValidationSettings

    rate = _number("--throttle-mib-s", options.throttle_mib_s, 0)
    return ValidationSettings(
        workload=options.workload,
        output=options.output.absolute(),
        tiers=parse_tiers(options.tier) if options.tier else _default_tiers(options.output),
        size_mib=_number("--size-mib", options.size_mib, 1),
        throttle_mib_s=rate or None,
        repeats=int(_number("--repeats", options.repeats, 1)),
        budget_s=_number("--budget-s", options.budget_s, 0),
        profile_s=_number("--profile-budget-s", options.profile_budget_s, 0),
        slots=int(_number("--slots", options.slots or str(os.cpu_count() or 1), 1)),
        seed=int(_number("--seed", options.seed, 0)),
        airflow=options.airflow,
    )


def _default_tiers(output: Path) -> dict[str, Path]:
    from qosflow_airflow.measure.scratch import is_memory

    output.mkdir(parents=True, exist_ok=True)
    memory = {"tmpfs": MEMORY} if MEMORY.is_dir() and is_memory(MEMORY) else {}
    # The home tier first, then local ones, the fastest first; the throttled tier goes before them all.
    return {"disk": output, **memory}


def _number(option: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise MeasurementError(f"{option} is {text!r}", cure=f"Give a number from {least:g} on.")
    return value


def _publish(options: argparse.Namespace, card: Mapping[str, Any]) -> None:
    from qosflow_airflow import pipeline
    from qosflow_airflow.core.build_options import BuildOptions
    from qosflow_airflow.validation import BUNDLE

    with open_store(options) as store:
        published = pipeline.run(store, options.output / BUNDLE, BuildOptions(), progress)
        store.add_report_card(published["model_id"], card)
    progress(f"{published['workflow']} version {published['version']}: model {published['model_id']}")


def card_text(card: Mapping[str, Any]) -> str:
    """Return a report card: its figures beside the goals, where errors come from, and what repeats."""
    return "\n".join([*_figures(card), "", *_sources(card)])


def _figures(card: Mapping[str, Any]) -> Iterator[str]:
    met = card.get("goals_met", {})
    rows = [("figure", "", "goal", "")]
    for name, goal in (
        ("concordance", "at least 0.95"),
        ("median_error", "at most 0.15"),
        ("p90_error", ""),
        ("coverage_90", "0.85 to 0.95"),
        ("bias", ""),
        ("resolved_concordance", ""),
        ("resolved_pairs", ""),
        ("storage_concordance", ""),
        ("storage_median_error", ""),
        ("repeat_error", ""),
        ("repeat_concordance", ""),
    ):
        rows.append((name, figure(card[name]), goal, {True: "met", False: "not met"}.get(met.get(name), "")))
    yield table(rows)
    span = card["makespan_s"]
    yield ""
    yield (
        f"{card['runs']} runs of {card['configurations']} configurations of {card['space']}, "
        f"from {span['least']:.1f} s to {span['most']:.1f} s."
    )
    yield "resolved: pairs of configurations of which one was slower in every run."
    yield "storage: against runs with their own I/O and the computing that was foreseen."
    yield "repeat: how far a run lies from the median of its configuration, how well runs order repeats."


def _sources(card: Mapping[str, Any]) -> Iterator[str]:
    rows = [("error from", "median", "median size")]
    for term, found in card["error_terms"].items():
        rows.append((term, f"{found['median']:+.1%}", f"{found['median_size']:.1%}"))
    yield table(rows)
    yield "predicted minus measured, as shares of a run's makespan."
    yield ""
    kinds = [("work", "predicted", "measured", "ratio")]
    for kind, found in card["predicted_over_measured"].items():
        seconds = (f"{found['predicted_s']:.1f} s", f"{found['measured_s']:.1f} s")
        kinds.append((kind, *seconds, f"{found['ratio']:.2f}"))
    yield table(kinds)
    if card.get("airflow"):
        own = card["airflow"]
        yield ""
        yield (
            f"Airflow itself, in no prediction: {own['task_s']:.3f} s a task, {own['mapped_task_s']:.3f} s a "
            f"mapped one; {own['run_s']:.1f} s of a run of this workflow."
        )
