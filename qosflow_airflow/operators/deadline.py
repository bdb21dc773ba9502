"""The deadline of a run's form as a deadline of Airflow's: missed, it is seen there, and somebody is told."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk.definitions.callback import Callback
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


class QoSParamDeadline(BaseDeadlineReference):
    """So many seconds after a run was queued, as a Dag parameter says.

    Airflow evaluates it when the run is made, where it knows what the run was triggered with, and not the
    Dag's defaults: so the parameter's default is given once more. A run whose parameter is empty has no
    deadline.

    :param param: the parameter that holds the seconds.
    :param default_s: the parameter's default.
    """

    required_kwargs = frozenset({"dag_id", "run_id"})

    def __init__(self, param: str = "deadline_s", default_s: float | None = None) -> None:
        self.param = param
        self.default_s = default_s

    def serialize_reference(self) -> dict[str, Any]:
        """Return what :meth:`deserialize_reference` takes, as plain JSON."""
        return {"reference_type": self.reference_name, "param": self.param, "default_s": self.default_s}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> QoSParamDeadline:
        """Return the reference that was serialised."""
        return cls(reference_data["param"], reference_data["default_s"])

    def _evaluate_with(self, *, session: Session, dag_id: str, run_id: str, **_: Any) -> datetime | None:
        from airflow._shared.timezones import timezone
        from airflow.models import DagRun
        from sqlalchemy import select

        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        asked = self.default_s if run is None else (run.conf or {}).get(self.param, self.default_s)
        if asked in (None, ""):
            return None
        queued = None if run is None else run.queued_at
        return (queued or timezone.utcnow()) + timedelta(seconds=float(asked))


def qos_deadline(
    default_s: float | None = None, *, param: str = "deadline_s", callback: Callback | None = None
) -> DeadlineAlert:
    """Return what a Dag takes as ``deadline``, so that Airflow watches the deadline of the run's form.

    :param default_s: the parameter's default, in seconds.
    :param param: the parameter that holds the seconds.
    :param callback: what is called when the deadline is missed (``AsyncCallback`` or ``SyncCallback``); by
        default a warning in the triggerer's log.
    """
    from airflow.sdk.definitions.callback import AsyncCallback

    return DeadlineAlert(
        reference=QoSParamDeadline(param, default_s),
        interval=timedelta(0),
        callback=callback or AsyncCallback(warn_of_missed_deadline),
    )


async def warn_of_missed_deadline(context: dict[str, Any] | None = None, **_: Any) -> None:
    """Say in the log that a run has missed its deadline."""
    run = (context or {}).get("dag_run") or {}
    # Airflow describes the run as its REST API does.
    log.warning("The run %s of %s has missed its deadline.", run.get("dag_run_id"), run.get("dag_id"))
