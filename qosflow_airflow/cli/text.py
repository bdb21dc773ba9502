"""What commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def answer_text(answer: Any) -> str:
    """Return an answer with its times per stage, its region, what else there is, and what would help."""
    from qosflow_airflow.core.explain import configuration_in_words

    found = answer if answer["status"] == "feasible" else answer["nearest"]
    lines = [answer["explanation"]]
    if found is not None:
        rows = [("stage", "tier", "stage in", "read", "compute", "write", "stage out", "")]
        for stage, tier in found["configuration"]["tiers"].items():
            seconds = [f"{value:.2f} s" for value in found["stage_s"][stage].values()]
            role = "critical" if stage in found["critical_stages"] else ""
            rows.append((stage, tier, *seconds, "flexible" if stage in found["flexible_stages"] else role))
        lines += ["", table(rows)]
    if numbers := numbers_in_words(answer):
        lines += ["", *numbers]
    if found is not None and found.get("region"):
        lines += ["", f"Region: {found['region']['rule']}"]
    for other in answer.get("alternatives", []):
        lines.append(f"Also {other['makespan_s']:.1f} s: {configuration_in_words(other['configuration'])}")
    if helps := _repairs(answer.get("repairs", [])):
        lines += ["", table(helps)]
    if words := answer.get("sensitivity", {}).get("words"):
        lines += ["", *words]
    if trade_offs := _trade_offs(answer.get("pareto", {})):
        lines += ["", table(trade_offs)]
    return "\n".join(lines)


def numbers_in_words(answer: Mapping[str, Any]) -> list[str]:
    """Return a sentence per stage whose number of tasks was chosen."""
    if not answer.get("chunks"):
        return []
    from qosflow_airflow.learn.stage_chunks import StageChunks

    return [StageChunks.from_json(one).sentence(stage) for stage, one in answer["chunks"].items()]


def _repairs(repairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of what would help, with their heading; none where nothing would."""
    from qosflow_airflow.core.explain import configuration_in_words

    rows = [
        (found["words"], f"{found['makespan_s']:.1f} s", configuration_in_words(found["configuration"]))
        for found in repairs
    ]
    return [("what would help", "makespan", "recommended then"), *rows] if rows else []


def _trade_offs(front: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of a front, with their heading; none where there is nothing to trade."""
    from qosflow_airflow.core.explain import configuration_in_words

    points = front.get("points", [])
    if len(points) < 2:
        return []
    rows: list[tuple[str, ...]] = [("makespan", "node-hours", "cost", "", "trade-off")]
    for point in points:
        cost = "" if point["cost"] is None else f"{point['cost']:.4g}"
        words = configuration_in_words(point["configuration"])
        knee = "knee" if point["knee"] else ""
        rows.append((f"{point['makespan_s']:.1f} s", f"{point['node_hours']:.4g}", cost, knee, words))
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def figure(value: float | None, unit: str = "") -> str:
    """Return a number to three places, nothing where it is not known."""
    return "" if value is None else f"{value:.3f}{unit}"


def card_line(card: Mapping[str, Any]) -> str:
    """Return a report card in one line."""
    covered = "" if card["coverage_90"] is None else f", {card['coverage_90']:.0%} of runs in 90 % intervals"
    return (
        f"concordance {card['concordance']:.3f}, median error {card['median_error']:.1%}{covered} "
        f"({card['runs']} runs of {card['configurations']} configurations)"
    )


def as_json(value: Any) -> str:
    """Return a value as indented JSON."""
    return json.dumps(value, indent=2, default=str, allow_nan=False)


def progress(line: str) -> None:
    """Say what goes on, apart from the output."""
    print(line, file=sys.stderr, flush=True)
