"""An answer as a table that a person reads in a task's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qosflow_airflow.core.explain import configuration_in_words

PARTS = ("stage_in_s", "read_s", "compute_s", "write_s", "stage_out_s")
"""What a stage's seconds are made of, in the order in which they are spent."""

_HEADINGS = ("stage", "tasks", "tier", "in s", "read s", "compute s", "write s", "out s", "", "elsewhere s")


def answer_text(answer: Mapping[str, Any], described: Mapping[str, Any], tasks: Mapping[str, int]) -> str:
    """Return the table of a configuration; below it what it depends on, trade-offs and what would help."""
    parts = [
        answer_table(described, tasks),
        "\n".join(answer.get("sensitivity", {}).get("words", ())),
        _trade_offs(answer.get("pareto", {}).get("points", ())),
        "\n".join(f"What would help: {repair['words']}." for repair in answer.get("repairs", ())),
    ]
    return "\n\n".join(part for part in parts if part)


def answer_table(described: Mapping[str, Any], tasks: Mapping[str, int]) -> str:
    """Return one line per stage: tasks, tier, seconds per part, whether it is critical or flexible, and more.

    Last come the seconds that the run takes more (+) or less (-) with the stage on another tier.
    ``described`` is a configuration as an answer describes it; ``tasks`` is how many tasks each stage has, in
    the order of the lines.
    """
    roles = {
        **dict.fromkeys(described["flexible_stages"], "flexible"),
        **dict.fromkeys(described["critical_stages"], "critical"),
    }
    rows = [
        (
            stage,
            str(count),
            described["configuration"]["tiers"][stage],
            *(f"{described['stage_s'][stage][part]:.2f}" for part in PARTS),
            roles.get(stage, ""),
            _elsewhere(described["swap_s"][stage]),
        )
        for stage, count in tasks.items()
    ]
    return text_table([_HEADINGS, *rows], right=range(3, 8))


def _elsewhere(swaps: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{tier} {'?' if change is None else f'{change:+.2f}'}" for tier, change in swaps.items()
    )


def _trade_offs(points: Sequence[Mapping[str, Any]]) -> str:
    """Return the front as a table; empty where there is nothing to trade."""
    if len(points) < 2:
        return ""
    rows = [
        (
            f"{point['makespan_s']:.2f}",
            f"{point['node_hours']:.4g}",
            "" if point["cost"] is None else f"{point['cost']:.4g}",
            "knee" if point["knee"] else "",
            configuration_in_words(point["configuration"]),
        )
        for point in points
    ]
    return text_table([("makespan s", "node-hours", "cost", "", "trade-off"), *rows], right=range(3))


def text_table(rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> str:
    """Return rows with their columns lined up, those in ``right`` on their right side.

    >>> print(text_table([("stage", "s"), ("merge", "12.5")], right=[1]))
    stage     s
    merge  12.5
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
