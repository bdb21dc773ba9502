"""Connections that are kept open and shared by threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2 import extensions
from psycopg2.extras import RealDictCursor

from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store.connections import Database, as_store_error, transaction
from qosflow_airflow.store.queries import queries


class ConnectionPool:
    """At most ``size`` connections, opened when needed and lent to one thread at a time.

    ``prepare`` is called once with a cursor of each new connection and may refuse it. A connection that died
    while nobody used it is replaced without the caller noticing. A forked child starts with none: two
    processes must not talk over one.
    """

    def __init__(
        self,
        database: Database,
        prepare: Callable[[extensions.cursor], None],
        *,
        size: int,
        statement_timeout_s: float,
        connect_timeout_s: int,
    ) -> None:
        if not (size >= 1 and statement_timeout_s > 0 and connect_timeout_s >= 1):
            raise StoreError(
                "The number of connections and the timeouts must be positive.",
                cure="Check max_connections, statement_timeout_s and connect_timeout_s (whole seconds).",
            )
        self.database = database
        self._prepare = prepare
        self._size = size
        self._statement_timeout_s = statement_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._closed = False
        self.forget()
        _POOLS.add(self)

    def forget(self) -> None:
        """Start anew without touching the connections there were."""
        self._idle: list[extensions.connection] = []
        self._shared = threading.local()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self._size)

    @contextmanager
    def shared_transaction(self) -> Iterator[None]:
        """Let all transactions of this thread be one: beginning and ending one is most of what it costs."""
        with self.transaction() as cursor:
            outer, self._shared.cursor = getattr(self._shared, "cursor", None), cursor
            try:
                yield
            finally:
                self._shared.cursor = outer

    @contextmanager
    def transaction(self) -> Iterator[extensions.cursor]:
        """Lend a connection for one transaction (see :func:`transaction`), or the one that is shared."""
        shared: extensions.cursor | None = getattr(self._shared, "cursor", None)
        if shared is not None:
            try:
                yield shared
            except psycopg2.Error as error:
                lost = bool(shared.connection.closed)
                raise as_store_error(error, self.database, lost=lost) from error
            return
        self._refuse_when_closed()
        if not self._free.acquire(timeout=self._statement_timeout_s + self._connect_timeout_s):
            raise StoreError(
                f"All {self._size} connections to the QoSFlow database at {self.database} are busy.",
                cure="Try again later, or give the store more connections.",
            )
        try:
            connection = self._living_idle() or self._opened()
            try:
                with transaction(connection, self.database) as cursor:
                    yield cursor
            finally:
                self._put_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the connections that nobody uses; those in use follow when they are put back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreError("The store is closed.", cure="Open it again with open_store().")

    def _living_idle(self) -> extensions.connection | None:
        """Return an idle connection with its transaction begun, which shows whether it still lives."""
        while (connection := self._take_idle()) is not None:
            try:
                self._begin(connection)
            except psycopg2.Error:
                connection.close()
            else:
                return connection
        return None

    def _opened(self) -> extensions.connection:
        """Return a new connection with its transaction begun and the database found fit for use."""
        connection = self.database.connect(
            self._connect_timeout_s, self._statement_timeout_s + self._connect_timeout_s
        )
        try:
            self._begin(connection)
            with connection.cursor(cursor_factory=RealDictCursor) as cursor:
                self._prepare(cursor)
        except psycopg2.Error as error:
            connection.close()
            raise as_store_error(error, self.database, lost=False) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin(self, connection: extensions.connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                queries()["begin"],
                {
                    "statement_timeout_ms": str(max(1, int(self._statement_timeout_s * 1000))),
                    # Locks of a client that stopped in the middle are given back by then.
                    "idle_timeout_ms": str(max(1, int(self._statement_timeout_s * 2000))),
                },
            )

    def _take_idle(self) -> extensions.connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, connection: extensions.connection) -> None:
        with self._lock:
            if not self._closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()


_POOLS: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
