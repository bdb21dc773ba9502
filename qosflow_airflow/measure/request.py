"""What a measurement is asked for, as people write it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from qosflow_airflow.exceptions import MeasurementError

MAX_JOBS = 1024


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
        if not name.isprintable():
            raise MeasurementError(
                f"{name!r} cannot be the name of a tier", cure="Use characters that print."
            )
        if name in tiers:
            raise MeasurementError(f"tier {name!r} is given twice", cure="Remove one of them.")
        same = [other for other, folder in tiers.items() if folder.resolve() == Path(path).resolve()]
        if same:
            raise MeasurementError(
                f"the tiers {same[0]!r} and {name!r} are the same folder", cure="Give each its own."
            )
        tiers[name] = Path(path)
    return tiers


def parse_tier_text(text: str) -> dict[str, Path]:
    """Return the folder of each tier of a form: lines of ``NAME=PATH``, or a JSON object from name to path.

    Raises
    ------
    MeasurementError
        When the text is neither, or as :func:`parse_tiers` does.
    """
    if not text.lstrip().startswith("{"):
        return parse_tiers([line for line in text.splitlines() if line.strip()])
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"the tiers are not valid JSON: {error}", cure="Correct the text.") from None
    if not all(isinstance(path, str) for _, path in pairs):
        raise MeasurementError("the folder of a tier is not a text", cure='Write {"disk": "/data/scratch"}.')
    return parse_tiers([f"{name}={path}" for name, path in pairs])


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
    if path.name == "profile.csv" and path.with_name("profile.json").exists():
        raise MeasurementError(
            "would stand beside profile.json, and a bundle holds one of them",
            source=path,
            cure="Remove profile.json, or give another folder.",
        )
    if not path.parent.is_dir():
        raise MeasurementError("there is no such folder", source=path.parent, cure="Create it.")
    if not os.access(path.parent, os.W_OK):
        raise MeasurementError("may not be written", source=path.parent, cure="Give write permission.")
