"""``qosflow explain``: everything that is known of an answer or of a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from qosflow_airflow.cli.ask import add_request, answer_of, parse_request
from qosflow_airflow.cli.exit_codes import INFEASIBLE, OK
from qosflow_airflow.cli.sources import add_layers, add_model, open_lesson, open_model, open_store
from qosflow_airflow.cli.text import as_json, numbers_in_words, table
from qosflow_airflow.exceptions import RequestError

Found = Mapping[str, Any]


def add_explain(commands: Any) -> None:
    """Add ``explain``."""
    explain = commands.add_parser(
        "explain", help="why this configuration, and what else", description=_explain.__doc__
    )
    source = add_model(explain)
    source.add_argument("--recommendation", metavar="ID", help="an answer that the database keeps")
    explain.add_argument(
        "--configuration",
        metavar="nodes=N,STAGE=TIER,…",
        help="this one, instead of the best: the node count and a tier for every stage",
    )
    add_request(explain)
    add_layers(explain)
    explain.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    """Say everything that is known of the best configuration for a request, of another one, or of an answer.

    That is the rule of its region, where its time goes, the alternatives, and what would change it: other
    tiers, other node counts, slower tiers. Where nothing is feasible: what would help.
    """
    found = _found(options)
    print(as_json(found) if options.format == "json" else "\n".join(explanation_lines(found)))
    return INFEASIBLE if found["status"] == "infeasible" else OK


def _found(options: argparse.Namespace) -> Found:
    from qosflow_airflow.core.qos import QoSRequest

    request = parse_request(options)
    if request != QoSRequest() and (options.recommendation or options.configuration):
        raise RequestError(
            "a request, and what is to be explained already",
            cure="Give one of the two, and leave the other out.",
        )
    if options.recommendation:
        if options.configuration:
            raise RequestError("a recommendation and a configuration", cure="Leave one of the two out.")
        with open_store(options) as store:
            return store.recommendation(options.recommendation).answer
    if not options.configuration:
        return answer_of(options)
    from qosflow_airflow.core.examine import examine, parse_configuration
    from qosflow_airflow.learn.lessons import Lesson

    lesson = Lesson.from_json(open_lesson(options) or Lesson().to_json())
    search = lesson.search(open_model(options))
    return examine(search.model, parse_configuration(search.model, options.configuration), search)


def explanation_lines(found: Found) -> Iterator[str]:
    """Yield the lines of an answer, of :func:`~qosflow_airflow.core.examine.examine`, or of a stored answer.

    What an answer does not have, as those of older versions may not, is left out.
    """
    yield found["explanation"]
    about = found.get("nearest") if found["status"] == "infeasible" else found
    if about and about.get("makespan_s") is not None:
        if found["status"] == "infeasible":
            yield from _section(
                "The nearest configuration", [f"{_configuration(about)}: {about['makespan_s']:.1f} s"]
            )
        yield from _section("Rule", [about["region"]["rule"]] if about.get("region") else [])
        yield from _section("Where the time goes", _breakdown(about))
        yield from _section("Stages", _stages(about))
        yield from _section("Numbers of tasks", numbers_in_words(found))
        yield from _section("Uncertainty", _uncertainty(found.get("interval")))
        yield from _section("Seconds gained (-) or lost (+) by moving one stage", _swaps(about))
    yield from _section("What else it depends on", (found.get("sensitivity") or {}).get("words", []))
    others = _alternatives(found)
    if found["status"] == "feasible" and not others:
        others = ["none within 5 % of the best"]
    yield from _section("Alternatives", others)
    yield from _section("Trade-offs", _trade_offs(found.get("pareto")))
    yield from _section("What would help", map(_repair, found.get("repairs") or []))


def _section(title: str, lines: Any) -> Iterator[str]:
    listed = list(lines)
    if listed:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in listed)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    return table(rows).splitlines() if len(rows) > 1 else []


def _configuration(found: Found) -> str:
    from qosflow_airflow.core.explain import configuration_in_words

    return configuration_in_words(found["configuration"])


def _repair(repair: Found) -> str:
    return f"{repair['words']}: {repair['makespan_s']:.1f} s, {_configuration(repair)}"


def _breakdown(found: Found) -> list[str]:
    whole_s = found["makespan_s"]
    rows: list[tuple[str, ...]] = [("part", "seconds", "share")]
    for part, seconds in found["split_s"].items():
        share = f"{seconds / whole_s:.1%}" if whole_s else ""
        rows.append((part.replace("_io", " I/O"), f"{seconds:.2f}", share))
    rows.append(("makespan", f"{whole_s:.2f}", ""))
    return [*_table(rows), f"critical path: {found['critical_path']}"]


def _stages(found: Found) -> list[str]:
    rows: list[tuple[str, ...]] = [("stage", "tier", "stage in", "read", "compute", "write", "stage out", "")]
    for stage, tier in found["configuration"]["tiers"].items():
        seconds = [f"{value:.2f} s" for value in found["stage_s"][stage].values()]
        role = "critical" if stage in found["critical_stages"] else ""
        rows.append((stage, tier, *seconds, "flexible" if stage in found["flexible_stages"] else role))
    return _table(rows)


def _uncertainty(interval: Found | None) -> Iterator[str]:
    if not interval:
        return
    low, middle, high = (f"{interval[name]:.1f} s" for name in ("p05_s", "p50_s", "p95_s"))
    yield f"between {low} and {high} with a probability of 90 %, up to {middle} with one of 50 %"
    if interval.get("words"):  # answers of before intervals had a source have none
        yield f"that is {interval['words']}"
    if interval.get("p_deadline") is not None:
        yield f"the deadline is kept with a probability of {interval['p_deadline']:.1%}"


def _swaps(found: Found) -> list[str]:
    swaps = found["swap_s"]
    tiers = sorted({tier for changes in swaps.values() for tier in changes} | set(_tiers(found).values()))
    rows: list[tuple[str, ...]] = [("stage", *tiers)]
    for stage, changes in swaps.items():
        cells = ("here" if tier == _tiers(found)[stage] else _change(changes, tier) for tier in tiers)
        rows.append((stage, *cells))
    return _table(rows)


def _tiers(found: Found) -> dict[str, str]:
    return dict(found["configuration"]["tiers"])


def _change(changes: Found, tier: str) -> str:
    if tier not in changes:
        return "not possible"
    seconds = changes[tier]
    return "not measured" if seconds is None else f"{seconds:+.2f} s"


def _alternatives(found: Found) -> list[str]:
    rows: list[tuple[str, ...]] = [("makespan", "difference", "node-hours", "configuration")]
    for other in found.get("alternatives") or []:
        known = found.get("makespan_s") is not None
        difference = f"{other['makespan_s'] - found['makespan_s']:+.1f} s" if known else ""
        seconds, hours = f"{other['makespan_s']:.1f} s", f"{other['node_hours']:.4g}"
        rows.append((seconds, difference, hours, _configuration(other)))
    return _table(rows)


def _trade_offs(front: Found | None) -> list[str]:
    if not front:
        return []
    priced = any(point.get("cost") is not None for point in front["points"])
    rows: list[tuple[str, ...]] = [("makespan", "node-hours", *(["cost"] if priced else []), "configuration")]
    for point in front["points"]:
        cost = [f"{point['cost']:.4g}"] if priced and point.get("cost") is not None else [""] * priced
        words = _configuration(point) + (" (the knee)" if point.get("knee") else "")
        rows.append((f"{point['makespan_s']:.1f} s", f"{point['node_hours']:.4g}", *cost, words))
    return _table(rows)
