"""Speaking to a Postgres database: where it is, one transaction, what each failure means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errors, extensions
from psycopg2.extras import RealDictCursor

from qosflow_airflow.exceptions import StoreError, StoreUnavailableError
from qosflow_airflow.store.queries import queries

Row = dict[str, Any]

_SCHEME = re.compile(r"^(?P<name>[A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9]+)?://")
_URL_CURE = "Give postgresql://user:password@host:port/database, odd characters percent-encoded."
_MIGRATE = "Run `qosflow db upgrade`."


class Database(NamedTuple):
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

    def __repr__(self) -> str:
        return str(self)

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


def _roll_back(connection: extensions.connection) -> None:
    try:
        connection.rollback()
    except psycopg2.Error:
        connection.close()


def _first_line(error: psycopg2.Error) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else line + "."
