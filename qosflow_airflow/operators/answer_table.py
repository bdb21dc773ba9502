"""An answer as a table that a person reads in a task's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("stage_in_s", "read_s", "compute_s", "write_s", "stage_out_s")
"""What a stage's seconds are made of, in the order in which they are spent."""

_HEADINGS = ("stage", "tasks", "tier", "in s", "read s", "compute s", "write s", "out s", "")


def answer_table(described: Mapping[str, Any], tasks: Mapping[str, int]) -> str:
    """Return one line per stage: tasks, tier, seconds per part, and whether it is critical or flexible.

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
        )
        for stage, count in tasks.items()
    ]
    return text_table([_HEADINGS, *rows], right=range(3, 8))


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
