"""The store inside a task, with errors turned into what Airflow does about them."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from qosflow_airflow.exceptions import NotFoundError, QoSFlowError, StoreError
from qosflow_airflow.hooks import settings
from qosflow_airflow.hooks.qosflow import QoSFlowHook

if TYPE_CHECKING:
    from qosflow_airflow.store.base import Store

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""The variables in which numpy's library looks for the number of its threads."""

log = logging.getLogger(__name__)


@contextmanager
def task_errors() -> Iterator[None]:
    """Fail for good where the input is wrong; let Airflow retry where the database is the trouble."""
    try:
        yield
    except NotFoundError as error:
        raise AirflowFailException(str(error)) from None
    except StoreError as error:
        # Unreachable, busy, out of time or in a deadlock: the next try may do.
        raise AirflowException(str(error)) from error
    except QoSFlowError as error:
        # The message says where and what to change; whence it came would only bury it in the log.
        raise AirflowFailException(str(error)) from None


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave Python's garbage collector off.

    A task's process is made with hundreds of thousands of objects of Airflow in it. To walk them again and
    again while libraries are imported takes longer than the imports, and copies their memory. What is there
    at the end is left out of later collections too: the first one would walk all of it, and the process is
    about to end. In a process that goes on, as ``dag.test()``'s does, garbage in cycles that is there by then
    stays.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()


@contextmanager
def with_one_thread() -> Iterator[None]:
    """Let numpy calculate in one thread, where it is loaded here first and nobody says in how many.

    Its library starts threads as soon as it is loaded, one per processor, and they wait for work at full
    speed: a task that recommends gives them none, and would pay as much for them as for all of numpy.
    """
    said = set(_THREADS) & set(os.environ)
    if said or "numpy" in sys.modules:
        yield
        return
    os.environ[_THREADS[0]] = "1"
    try:
        yield
    finally:
        os.environ.pop(_THREADS[0], None)


@contextmanager
def lean() -> Iterator[None]:
    """Load and use the model's libraries at the least cost to a task."""
    with without_collection(), with_one_thread():
        yield


@contextmanager
def task_store(qosflow_conn_id: str | None = None) -> Iterator[Store]:
    """Open the store for one task and close it; errors are those of :func:`task_errors`."""
    with task_errors(), QoSFlowHook(qosflow_conn_id).get_store() as store:
        _hand_in(store)
        yield store


def _hand_in(store: Store) -> None:
    """Hand in what finished tasks have left in files while the database was away; never fail for it."""
    folder = settings.spool_folder()
    try:
        if folder.is_dir():
            from qosflow_airflow.store.spool import drain

            drain(store, folder)
    except (QoSFlowError, OSError) as error:
        log.info("What earlier tasks have spooled waits on: %s", error)
