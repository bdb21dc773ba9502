"""Observations that could not be kept at once, as files, until somebody who reaches the store hands them in.

One file each, written under another name first: tasks that end at the same moment do not disturb each other,
and half a file is never read. Handing in twice changes nothing, so that several may do it at once.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from qosflow_airflow.exceptions import StoreError, StoreUnavailableError
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.finished_runs import Observation

BATCH = 200
SUFFIX = ".json"
REFUSED = ".refused"
"""Ending of files that the store does not take; they are kept to be looked at, and not tried again."""

log = logging.getLogger(__name__)


class Drained(NamedTuple):
    """How many files were handed in, and how many were refused."""

    kept: int = 0
    refused: int = 0


def spool(folder: Path, observations: Iterable[Observation]) -> None:
    """Write observations into ``folder``, each whole or not at all; errors are those of the file system."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for found in observations:
        # Files are read in the order of their names: the oldest first.
        path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}{SUFFIX}"
        temporary = path.with_suffix(".part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(found.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def spooled(folder: Path) -> list[Path]:
    """Return the files that wait in ``folder``, oldest first."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    return [folder / name for name in names]


def drain(store: Store, folder: Path, within_s: float = 2.0) -> Drained:
    """Hand in what waits in ``folder``, for so long at most, and remove it from there.

    Raises
    ------
    StoreUnavailableError
        When the store cannot be reached: what was not handed in waits on.
    """
    until = time.monotonic() + within_s
    kept = refused = 0
    waiting = spooled(folder)
    for at in range(0, len(waiting), BATCH):
        if time.monotonic() > until:
            break
        done = _hand_in(store, waiting[at : at + BATCH])
        kept, refused = kept + done.kept, refused + done.refused
    if kept or refused:
        log.info("QoSFlow: %s spooled observations were handed in, %s were refused.", kept, refused)
    return Drained(kept, refused)


def _hand_in(store: Store, paths: list[Path]) -> Drained:
    read = {path: _read(path) for path in paths}
    refused = sum(found is None for found in read.values())
    observations = {path: found for path, found in read.items() if isinstance(found, Observation)}
    try:
        store.add_observations(list(observations.values()))
    except StoreUnavailableError:
        raise
    except StoreError:
        # One of them is refused, and all with it: each for itself, then.
        return _one_by_one(store, observations, refused)
    for path in observations:
        path.unlink(missing_ok=True)
    return Drained(len(observations), refused)


def _one_by_one(store: Store, observations: dict[Path, Observation], refused: int) -> Drained:
    kept = 0
    for path, found in observations.items():
        try:
            store.add_observations([found])
        except StoreUnavailableError:
            raise
        except StoreError as error:
            _set_aside(path, str(error))
            refused += 1
        else:
            path.unlink(missing_ok=True)
            kept += 1
    return Drained(kept, refused)


def _read(path: Path) -> Observation | FileNotFoundError | None:
    """Return what a file holds; the error where another one handed it in meanwhile, ``None`` if damaged."""
    try:
        return Observation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        return error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        _set_aside(path, str(error))
        return None


def _set_aside(path: Path, reason: str) -> None:
    log.warning("QoSFlow: %s holds no observation that can be kept: %s", path, reason)
    try:
        path.replace(path.with_suffix(REFUSED))
    except OSError as error:
        log.warning("QoSFlow: %s cannot be set aside: %s", path, error)
