"""The operator that gives the tiers back what a run no longer needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator

from qosflow_airflow.measure.probe import TierHangsError, ask

if TYPE_CHECKING:
    from airflow.sdk import Context

ANSWER_S = 10.0
"""A tier that takes longer for a small file hangs."""


class QoSCleanOperator(BaseOperator):
    """Removes the copies that were staged for a run, and what lies on other tiers than the home tier.

    Final outputs were copied to the home tier and stay, as do the records. Put it after the comparison, so
    that a run that failed keeps its folders and can be continued.

    :param recommendation: what the recommending task returned (templated).
    """

    template_fields = ("recommendation",)
    ui_color = "#eeeeee"

    def __init__(self, *, recommendation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recommendation = recommendation

    def execute(self, context: Context) -> list[str]:
        """Remove the folders and return their paths.

        Raises
        ------
        AirflowException
            When one cannot be removed and the run may not do without its tier; the others are removed.
        """
        summary = self.recommendation
        if not isinstance(summary, Mapping) or "temporary" not in summary:
            raise AirflowSkipException("There was no run, so there is nothing to remove.")
        removed, left = [], []
        hanging = _hanging(summary) if summary.get("fallback") else {}
        for folder in map(Path, summary["temporary"]):
            if hangs := hanging.get(_mount(folder, summary["recommendation_id"])):
                left.append(f"{folder} ({hangs})")
                continue
            try:
                if remove_run_folder(folder, summary["recommendation_id"]):
                    removed.append(str(folder))
            except OSError as error:
                left.append(f"{folder} ({error.strerror or error})")
        self.log.info("Removed %s", ", ".join(removed) or "nothing")
        if left and not summary.get("fallback"):
            raise AirflowException(f"Not removed: {', '.join(left)}. Mend the tier, then try again.")
        if left:
            # The run did without the tier that failed, and what lies there is needed no more.
            self.log.warning("NOT REMOVED: %s. Remove it once the tier is back.", ", ".join(left))
        return removed


def _hanging(summary: Mapping[str, Any]) -> dict[Path, str]:
    """Return the tiers that hang, in words: whoever tried to remove a folder there would hang with them."""
    found = {}
    for mount in {_mount(Path(one), summary["recommendation_id"]) for one in summary["temporary"]}:
        try:
            ask(mount, ANSWER_S)
        except TierHangsError as error:
            found[mount] = str(error)
    return found


def _mount(folder: Path, run: str) -> Path:
    return next((parent.parent for parent in folder.parents if parent.name == run), folder)


def remove_run_folder(folder: Path, run: str) -> bool:
    """Remove a folder of a run, and what is empty then of the folders above it; return whether it was there.

    Raises
    ------
    AirflowFailException
        When the folder does not lie below one named ``run``: it would not be the run's own.
    """
    if run not in folder.parts[:-1] or ".." in folder.parts:
        raise AirflowFailException(f"{folder} is not below a folder {run}: it is not removed.")
    found = folder.is_dir()
    if found:
        shutil.rmtree(folder)
    for parent in folder.parents:
        # A folder that still holds something is needed.
        with suppress(OSError):
            parent.rmdir()
        if parent.name == run:
            break
    return found
