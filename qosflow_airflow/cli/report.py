"""``qosflow report`` and ``qosflow replay``: how recommendations fared, and the same answer again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from qosflow_airflow.cli.exit_codes import BAD_INPUT, OK
from qosflow_airflow.cli.sources import add_database, open_store
from qosflow_airflow.cli.text import as_json, figure, table
from qosflow_airflow.exceptions import StoreError

SHOWN = 20
"""Runs in the table; all of them are in the JSON."""


def add_report(commands: Any) -> None:
    """Add ``report``."""
    parser = commands.add_parser(
        "report", help="how the recommendations of a workflow fared", description=_report.__doc__
    )
    parser.add_argument("--workflow", required=True, metavar="NAME", help="the workflow")
    parser.add_argument(
        "--limit", default="200", metavar="N", help="look at so many of the newest (default: %(default)s)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    add_database(parser)
    parser.set_defaults(run=_report)


def add_replay(commands: Any) -> None:
    """Add ``replay``."""
    parser = commands.add_parser(
        "replay", help="make a kept answer again, and compare", description=_replay.__doc__
    )
    parser.add_argument("recommendation", metavar="RECOMMENDATION", help="its identifier")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    add_database(parser)
    parser.set_defaults(run=_replay)


def _report(options: argparse.Namespace) -> int:
    """Print deadlines met and missed, what was predicted beside what was observed, corrections and drift."""
    from qosflow_airflow.track_record import track_record

    try:
        limit = int(options.limit)
    except ValueError:
        raise StoreError(f"--limit is {options.limit!r}.", cure="Give a whole number.") from None
    with open_store(options) as store:
        found = track_record(store, options.workflow, limit)
    print(as_json(found) if options.format == "json" else report_text(found))
    return OK


def _replay(options: argparse.Namespace) -> int:
    """Answer a kept recommendation again, from its model and what that had been taught; compare the bytes."""
    from qosflow_airflow.answers import replay
    from qosflow_airflow.store.payload import encode

    with open_store(options) as store:
        record, answer = replay(store, options.recommendation)
        model = store.model(record.model_id)
    kept, again = (encode(value, "answer") for value in (record.answer, answer))
    if options.format == "json":
        print(again)
    else:
        by = f"version {model.version} of the model of {record.workflow}, built by {model.qosflow_version}"
        same = f"the same answer, {len(kept.encode()):,} bytes" if kept == again else "ANOTHER ANSWER"
        print(f"{record.recommendation_id}: {same}; {by}.")
        if kept != again:
            print(f"Differs: {', '.join(_differing(record.answer, answer))}.")
    return OK if kept == again else BAD_INPUT


def _differing(kept: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*kept, *again} if kept.get(name) != again.get(name))


def report_text(found: Mapping[str, Any]) -> str:
    """Return a track record: its figures, then the newest runs, then what the model is corrected by."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    made = found["recommendations"]
    yield (
        f"{found['workflow']}, version {found['model']['version']}: {made['made']} recommendations, of which "
        f"{made['infeasible']} found nothing feasible, and {found['runs']} were run and compared."
    )
    deadlines = found["deadlines"]
    if deadlines["met"] + deadlines["missed"]:
        yield f"Deadlines: {deadlines['met']} met, {deadlines['missed']} missed."
    if found["not_compared"]:
        yield f"{found['not_compared']} more are known by their tasks only: they did not end, or failed."
    if found["runs"]:
        errors = found["error"]
        yield (
            f"Predicted against observed: median error {errors['median_error']:.1%}, "
            f"90 % of runs within {errors['p90_error']:.1%}, bias {errors['bias']:+.1%}."
        )
        yield ""
        rows = [("when", "predicted", "observed", "error", "deadline", "", "recommendation")]
        for run in found["compared"][:SHOWN]:
            met = {True: "met", False: "MISSED", None: ""}[run["met_deadline"]]
            seconds = (figure(run[name], " s") for name in ("predicted_s", "observed_s"))
            error = f"{run['predicted_s'] / run['observed_s'] - 1:+.1%}"
            deadline = "" if run["deadline_s"] is None else f"{run['deadline_s']:g} s"
            rows.append((run["when"][:19], *seconds, error, deadline, met, run["recommendation_id"]))
        yield table(rows)
        yield ""
    calibration = found["calibration"]
    yield from calibration["words"]
    yield f"Drift: {calibration['drift']['state']} ({calibration['drift']['words']})."
