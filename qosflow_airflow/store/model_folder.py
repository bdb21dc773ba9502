"""A model as a folder of files that a person can open: its values, its regions and its configurations."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.core.model import Model
from qosflow_airflow.exceptions import BundleError

if TYPE_CHECKING:
    import pandas as pd

MODEL = "model.json"
REGIONS = "regions.json"
CONFIGURATIONS = "configurations.csv"
REPORT_CARD = "report_card.json"
_PARTIAL = ".partial-"


def write_model_folder(folder: Path, model: Model, configurations: Iterable[pd.DataFrame]) -> None:
    """Write a model to ``folder``, replacing an earlier one.

    Every file is written under another name first. ``model.json`` comes last and holds the others' hashes, so
    that a folder in which the writing stopped half way is told apart from a whole one.

    Raises
    ------
    BundleError
        When the folder cannot be written, or holds files that are not a model's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A build that was killed leaves its unfinished files behind; they are in nobody's way.
        names = {path.name for path in folder.iterdir() if not path.name.startswith(_PARTIAL)}
        foreign = names - {MODEL, REGIONS, CONFIGURATIONS, REPORT_CARD}
        if foreign and not (folder / MODEL).exists():
            raise BundleError(
                f"holds {', '.join(sorted(foreign)[:3])}, which is not a model's",
                source=folder,
                cure="Give a new or empty folder.",
            )
        with tempfile.TemporaryDirectory(dir=folder, prefix=_PARTIAL) as partial:
            written = Path(partial)
            with (written / CONFIGURATIONS).open("w", encoding="utf-8", newline="") as file:
                for block, frame in enumerate(configurations):
                    frame.to_csv(file, index=False, header=block == 0)
            _write_json(written / REGIONS, model.regions_to_json())
            files = {name: _sha256(written / name) for name in (CONFIGURATIONS, REGIONS)}
            _write_json(written / MODEL, {**model.to_json(), "files": files})
            # What was measured of another model says nothing of this one.
            (folder / REPORT_CARD).unlink(missing_ok=True)
            for name in (CONFIGURATIONS, REGIONS, MODEL):
                (written / name).replace(folder / name)
    except OSError as error:
        raise BundleError(
            f"cannot be written: {error.strerror}", source=folder, cure="Give a folder that you may write to."
        ) from error


def read_model_folder(folder: Path) -> Model:
    """Return the model that :func:`write_model_folder` wrote.

    Raises
    ------
    BundleError
        When a file is missing, is not what was written, or the writing had stopped half way.
    """
    model = _read_json(folder / MODEL)
    regions = _read_json(folder / REGIONS)
    if _sha256(folder / REGIONS) != model.get("files", {}).get(REGIONS):
        raise BundleError(
            "does not belong to the model.json beside it",
            source=folder / REGIONS,
            cure="Build the model again.",
        )
    try:
        return Model.from_json(model, regions)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"does not hold a model: {error!r}", source=folder / MODEL, cure="Build the model again."
        ) from error


def write_report_card(folder: Path, report: dict[str, Any]) -> None:
    """Keep how well the model in ``folder`` held in runs."""
    temporary = folder / f"{_PARTIAL}{os.getpid()}"
    _write_json(temporary, report)
    temporary.replace(folder / REPORT_CARD)


def read_report_card(folder: Path) -> dict[str, Any] | None:
    """Return how well the model in ``folder`` held in runs, ``None`` where it was not tried."""
    path = folder / REPORT_CARD
    return _read_json(path) if path.exists() else None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + os.linesep, encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            "is missing", source=path, cure="Give the folder that `qosflow build --output` wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot be read: {error}", source=path, cure="Build the model again.") from error
    if not isinstance(value, dict):
        raise BundleError("is not a JSON object", source=path, cure="Build the model again.")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
