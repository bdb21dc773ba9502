"""``qosflow profile``: what storage tiers reach."""

from __future__ import annotations

from typing import Any

from qosflow_airflow.cli import profile_evaluate, profile_measure


def add_profile(commands: Any) -> None:
    """Add ``profile``."""
    profile = commands.add_parser("profile", help="measure storage tiers, and judge what was measured")
    actions = profile.add_subparsers(required=True, metavar="ACTION")
    profile_measure.add_measure(actions)
    profile_evaluate.add_evaluate(actions)
