"""Finished tasks of recommended runs, kept so that the next recommendation can learn from them.

Airflow calls this in the process of each task, after the task has ended. So it must not hold a task up, nor
make it fail: tasks that follow no recommendation are told by a look at their parameters, others have
:data:`LIMIT_S`, and whatever goes wrong is logged. What could not be kept in time is written to a file that a
later task hands in. Only hooks of task instances are used: those of Dag runs are called inside the scheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from qosflow_airflow.store.finished_runs import Observation, State

LIMIT_S = 4.0
"""So long is waited for the database. Importing and spooling come on top, and stay well below a second."""
STATEMENT_S = 2.0
AWAY_S = 30.0
"""So long a process that found no database does not ask again."""

log = logging.getLogger(__name__)


class FeedbackListener:
    """Keeps what finished tasks of recommended runs tell."""

    def __init__(self) -> None:
        self._away_until = 0.0

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Keep a success; one that somebody set has no previous state."""
        self._ended(task_instance, "success", by_user=previous_state is None)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any) -> None:
        """Keep a try that failed, also one that is tried again."""
        self._ended(task_instance, "failed", by_user=previous_state is None)

    def _ended(self, task_instance: Any, state: State, by_user: bool) -> None:
        try:
            from qosflow_airflow.listeners.finished_tasks import observe

            observation = observe(task_instance, state, by_user)
            if observation is not None:
                self._deliver(observation)
        except Exception:  # a task must not fail because of what it teaches
            log.warning("QoSFlow: what this task tells could not be kept.", exc_info=True)

    def _deliver(self, observation: Observation) -> None:
        """Keep an observation in the database within :data:`LIMIT_S`, else in a file."""
        from qosflow_airflow.hooks import settings
        from qosflow_airflow.store.spool import spool

        folder = settings.spool_folder()
        if time.monotonic() >= self._away_until:
            sending = _Sending(observation, folder)
            if sending.done_within(LIMIT_S):
                return
            self._away_until = time.monotonic() + AWAY_S
            log.info("QoSFlow: the database cannot be reached; %s waits in %s.", observation.stage, folder)
        spool(folder, [observation])


class _Sending:
    """Keeps an observation in the database, in a thread of its own: a name server may hang for minutes."""

    def __init__(self, observation: Observation, folder: Path) -> None:
        self._observation = observation
        self._folder = folder
        self._kept = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="qosflow-feedback", daemon=True).start()

    def done_within(self, seconds: float) -> bool:
        """Return whether the observation is kept; the rest of the time is for what was spooled."""
        self._ended.wait(seconds)
        return self._kept.is_set()

    def _run(self) -> None:
        from qosflow_airflow.exceptions import QoSFlowError
        from qosflow_airflow.hooks.qosflow import QoSFlowHook
        from qosflow_airflow.store.spool import drain

        try:
            with QoSFlowHook().get_bounded_store(STATEMENT_S) as store:
                store.add_observations([self._observation])
                self._kept.set()
                drain(store, self._folder, within_s=LIMIT_S / 4)
        except QoSFlowError as error:
            log.info("QoSFlow: %s", error)
        except Exception:  # nobody is above this thread to take it
            log.warning("QoSFlow: what this task tells could not be kept.", exc_info=True)
        finally:
            self._ended.set()
