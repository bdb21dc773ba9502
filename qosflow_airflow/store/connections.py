"""Connections to Postgres: where to, how long to wait, what each failure means."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errors, extensions
from psycopg2.extras import RealDictCursor

from qosflow_airflow.exceptions import StoreError, StoreUnavailableError
from qosflow_airflow.store.queries import queries

Row = dict[str, Any]

_SCHEME = re.compile(r"^(?P<name>[A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9]+)?://")
_URL_CURE = "Give postgresql://user:password@host:port/database, odd characters percent-encoded."
_MIGRATE = "Run `qosflow db upgrade`."


@dataclass(frozen=True)
class Database:
    """Where a database is. Written as text it shows no user and no password."""

    parameters: Mapping[str, str]

    @classmethod
    def from_url(cls, url: str) -> Database:
        """Read ``postgresql://``, ``postgres://``, ``postgresql+driver://`` or libpq's ``key=value`` form.

        Raises
        ------
        StoreError
            When it is neither. The text is never repeated: it may hold a password.
        """
        scheme = _SCHEME.match(url)
        if "\x00" in url:
            raise StoreError("The database URL holds a NUL character.", cure=_URL_CURE)
        if scheme is not None and scheme["name"].lower() not in ("postgresql", "postgres"):
            raise StoreError(
                f"A {scheme['name']}:// URL is no Postgres database.",
                cure=_URL_CURE,
            )
        try:
            parameters = extensions.parse_dsn(_SCHEME.sub("postgresql://", url, count=1))
        except (psycopg2.Error, ValueError, UnicodeError):
            # The driver's message repeats the text, so it must not be chained either.
            raise StoreError(
                "The database URL cannot be read.",
                cure=_URL_CURE,
            ) from None
        return cls(parameters)

    def __str__(self) -> str:
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or os.environ.get("PGHOST")
        port = self.parameters.get("port") or os.environ.get("PGPORT") or "5432"
        return f"{host or 'the local socket'}:{port}/{self.parameters.get('dbname', '')}"

    __repr__ = __str__

    def connect(self, connect_timeout_s: int, patience_s: float) -> extensions.connection:
        """Open a connection; ``patience_s`` is how long sent data may stay without an answer of the network.

        Raises
        ------
        StoreUnavailableError
            When the server cannot be reached or does not let us in.
        """
        settings: dict[str, Any] = {
            "connect_timeout": connect_timeout_s,
            "application_name": "qosflow",
            "client_encoding": "UTF8",
            # A server that vanished without a word is noticed within a minute.
            "keepalives_idle": 20,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": int(patience_s * 1000),
            **self.parameters,
        }
        try:
            connection: extensions.connection = psycopg2.connect(**settings)
        except psycopg2.Error as error:
            raise StoreUnavailableError(
                f"The QoSFlow database at {self} cannot be reached: {_first_line(error)}",
                cure="Check that Postgres runs there and that the connection's user and password are right.",
            ) from error
        # Publishing relies on each statement seeing what was committed before it, whatever the default is.
        connection.set_session(isolation_level=extensions.ISOLATION_LEVEL_READ_COMMITTED)
        return connection


def rows(cursor: extensions.cursor, query: str, **parameters: object) -> list[Row]:
    """Run the named query and return its rows."""
    cursor.execute(queries()[query], parameters)
    return [dict(row) for row in cursor.fetchall()]


def row(cursor: extensions.cursor, query: str, **parameters: object) -> Row | None:
    """Run the named query and return its first row, if any."""
    found = rows(cursor, query, **parameters)
    return found[0] if found else None


@contextmanager
def transaction(connection: extensions.connection, database: Database) -> Iterator[extensions.cursor]:
    """Commit what the block did, or nothing of it; errors of the driver become errors of the store."""
    try:
        with connection.cursor(cursor_factory=RealDictCursor) as cursor:
            yield cursor
        connection.commit()
    except BaseException as error:
        _roll_back(connection)
        if isinstance(error, psycopg2.Error):
            raise as_store_error(error, database, lost=bool(connection.closed)) from error
        raise


def as_store_error(error: psycopg2.Error, database: Database, *, lost: bool) -> StoreError:
    """Return what an error of the driver means to who called the store."""
    reason = _first_line(error)
    # Classes of SQLSTATE: 08 is a broken connection, 57P a server that stops or starts.
    if lost or (error.pgcode or "").startswith(("08", "57P")):
        return StoreUnavailableError(
            f"The connection to the QoSFlow database at {database} was lost: {reason}",
            cure="Nothing was half-written; try again.",
        )
    cures: dict[type[psycopg2.Error], str] = {
        errors.QueryCanceled: "Try again when the database is less busy, or raise the statement timeout.",
        errors.LockNotAvailable: "Stop what uses the database, then try again.",
        errors.DeadlockDetected: "Nothing was written; try again.",
        errors.SerializationFailure: "Nothing was written; try again.",
        errors.UndefinedTable: _MIGRATE,
        errors.UndefinedColumn: _MIGRATE,
        errors.UndefinedFunction: _MIGRATE,
        errors.InvalidSchemaName: _MIGRATE,
        errors.InsufficientPrivilege: "Grant the connection's user the rights on the schema qosflow.",
        errors.ReadOnlySqlTransaction: "Connect to the primary server, not to a read-only copy.",
        errors.DiskFull: "Free disk space on the database server.",
    }
    return StoreError(f"The QoSFlow database at {database} refused: {reason}", cure=cures.get(type(error)))


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
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self._size)

    @contextmanager
    def transaction(self) -> Iterator[extensions.cursor]:
        """Lend a connection for one transaction (see :func:`transaction`)."""
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


def _roll_back(connection: extensions.connection) -> None:
    try:
        connection.rollback()
    except psycopg2.Error:
        connection.close()


def _first_line(error: psycopg2.Error) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else line + "."
