"""Measuring the tiers of a class of nodes, as tasks of the measuring Dag do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.session import task_errors

PROFILE = "profile.csv"
TIER_ROOTS = "[qosflow] tier_roots"
BUNDLE_ROOTS = "[qosflow] bundle_roots"


def classes_to_measure() -> Mapping[str, Mapping[str, str]]:
    """Return queue and pool of each class of nodes, as arguments of its task."""
    return settings.node_classes()


def measure_node_class(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Measure the tiers of the node that this runs on, and write them as the bundle's profile.

    ``tiers`` are lines of ``NAME=PATH`` or a JSON object; ``bundle`` is a folder, which is made where it is
    missing, or the name of a workflow in ``[qosflow] workflows``; ``budget_s`` is about how long it takes. Of
    several classes, each has its profile in a subfolder of its name. Nothing is measured outside ``[qosflow]
    tier_roots`` nor written outside ``[qosflow] bundle_roots``. Return the path of the profile and counts.

    Raises
    ------
    AirflowFailException
        When a folder lies outside the roots, or is missing, full or not writable.
    AirflowException
        When the task is told to end; the tiers are as before then.
    """
    from qosflow_airflow.measure.profile_csv import write_profile
    from qosflow_airflow.measure.request import check_output, parse_budget
    from qosflow_airflow.measure.signals import Stopped, stopped_by_signals
    from qosflow_airflow.measure.tiers import measure_tiers

    with task_errors():
        tiers = _tiers(str(params["tiers"]))
        budget_s = parse_budget(str(params["budget_s"]))
        profile = _folder(str(params["bundle"]), name) / PROFILE
        check_output(profile)
        try:
            with stopped_by_signals():
                rows = measure_tiers(tiers, budget_s=budget_s, progress=_say)
        except Stopped as stopped:
            raise AirflowException(
                f"The measurement was ended by {stopped}; no profile is written."
            ) from None
        write_profile(rows, profile)
    return {
        "profile": str(profile),
        "rates": len(rows),
        "cached": sum(row.cached for row in rows),
        "tiers": list(tiers),
    }


def _tiers(text: str) -> dict[str, Path]:
    from qosflow_airflow.measure.request import parse_tier_text
    from qosflow_airflow.readers.roots import check_place

    roots = settings.tier_roots()
    return {name: check_place(path, roots, TIER_ROOTS) for name, path in parse_tier_text(text).items()}


def _folder(asked: str, name: str) -> Path:
    """Return the folder of the profile, made where it is missing."""
    from qosflow_airflow.readers.roots import check_place

    bundle = Path(settings.registered_bundles().get(asked, asked))
    folder = bundle if len(settings.node_classes()) == 1 else bundle / name
    # Checked before it is made, and again as it is: a link could have been put in its place.
    real = check_place(folder, settings.bundle_roots(), BUNDLE_ROOTS)
    try:
        real.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MeasurementError(
            f"cannot be made: {error.strerror}", source=folder, cure="Choose another folder."
        ) from None
    return check_place(real, settings.bundle_roots(), BUNDLE_ROOTS)


def _say(line: str) -> None:
    import logging

    logging.getLogger(__name__).info(line)
