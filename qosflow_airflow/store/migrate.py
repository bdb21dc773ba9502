"""Bring a database to the form this code works with, and say in which form it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from functools import cache
from typing import NamedTuple

from psycopg2 import errors, extensions

from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store.connections import Database, row, rows, transaction
from qosflow_airflow.store.queries import queries, sql_folder

_OLDEST_SERVER = 13
_FILE_NAME = re.compile(r"(?P<number>\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One numbered step from an older form of the database to a newer one."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The hash of the step, by which a change after its release is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class AppliedMigration(NamedTuple):
    """A step that a database has been through. ``sha256`` is that of the file at the time."""

    number: int
    name: str
    sha256: str
    applied_at: datetime


class MigrationStatus(NamedTuple):
    """Where a database stands: steps applied, steps to apply, and applied ones this code does not know."""

    applied: tuple[AppliedMigration, ...]
    pending: tuple[Migration, ...]
    newer: tuple[AppliedMigration, ...]

    @property
    def is_current(self) -> bool:
        """Whether this code can work with the database."""
        return not self.pending and not self.newer


@cache
def shipped_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this code by number."""
    found = []
    for file in sql_folder().joinpath("migrations").iterdir():
        if name := _FILE_NAME.fullmatch(file.name):
            # Reading as text makes the hash independent of how line ends were checked out.
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(name["number"]), file.name.removesuffix(".sql"), text))
    return tuple(sorted(found, key=lambda migration: migration.number))


def upgrade(
    dsn: str,
    *,
    migrations: Sequence[Migration] | None = None,
    connect_timeout_s: int = 5,
    lock_timeout_s: float = 60.0,
) -> tuple[str, ...]:
    """Apply the pending migrations in order, each in its own transaction, and return their names.

    May run several times at once: an advisory lock makes each step happen once. A step that fails leaves the
    database as the step before left it.

    Raises
    ------
    StoreError
        When a step fails, an applied step is not the one this code knows, the database is newer than this
        code, the server is too old, or a lock is not free within ``lock_timeout_s``.
    """
    steps = shipped_migrations() if migrations is None else tuple(migrations)
    database = Database.from_url(dsn)
    names: list[str] = []
    with closing(database.connect(connect_timeout_s, lock_timeout_s)) as connection:
        _refuse_old_server(connection, database)
        while True:
            with transaction(connection, database) as cursor:
                cursor.execute(
                    queries()["begin_migration"], {"lock_timeout_ms": str(int(lock_timeout_s * 1000))}
                )
                cursor.execute(queries()["lock_migrations"])
                _create_ledger(cursor)
                state = _compare(_ledger(cursor), steps, database)
                _refuse_newer(state, database)
                if not state.pending:
                    return tuple(names)
                _apply(cursor, state.pending[0])
            names.append(state.pending[0].name)


def status(
    dsn: str, *, migrations: Sequence[Migration] | None = None, connect_timeout_s: int = 5
) -> MigrationStatus:
    """Return where the database stands, changing nothing.

    Raises
    ------
    StoreError
        When an applied step is not the one this code knows.
    """
    steps = shipped_migrations() if migrations is None else tuple(migrations)
    database = Database.from_url(dsn)
    with (
        closing(database.connect(connect_timeout_s, 60.0)) as connection,
        transaction(connection, database) as cursor,
    ):
        cursor.execute(queries()["begin_migration"], {"lock_timeout_ms": "10000"})
        return _compare(_ledger(cursor), steps, database)


def require_current(cursor: extensions.cursor, database: Database) -> None:
    """Raise :class:`StoreError` unless the database has exactly the migrations of this code."""
    try:
        # Not asked first whether there is a ledger: each connection waits for every question.
        applied = _applied(cursor)
    except errors.UndefinedTable:
        applied = ()
    state = _compare(applied, shipped_migrations(), database)
    _refuse_newer(state, database)
    if state.pending:
        what = "is not migrated yet" if not state.applied else f"lacks {len(state.pending)} migration(s)"
        raise StoreError(f"The QoSFlow database at {database} {what}.", cure="Run `qosflow db upgrade`.")


def _ledger(cursor: extensions.cursor) -> tuple[AppliedMigration, ...]:
    present = row(cursor, "has_migrations")
    if present is None or not present["present"]:
        return ()
    return _applied(cursor)


def _applied(cursor: extensions.cursor) -> tuple[AppliedMigration, ...]:
    return tuple(AppliedMigration(**applied) for applied in rows(cursor, "applied_migrations"))


def _create_ledger(cursor: extensions.cursor) -> None:
    # Asked for first: creating needs rights that are not needed where somebody else created the schema.
    for question, answer in (("has_schema", "create_schema"), ("has_migrations", "create_migrations")):
        present = row(cursor, question)
        if present is None or not present["present"]:
            cursor.execute(queries()[answer])


def _apply(cursor: extensions.cursor, migration: Migration) -> None:
    cursor.execute(migration.sql)
    cursor.execute(
        queries()["add_migration"],
        {"number": migration.number, "name": migration.name, "sha256": migration.sha256},
    )


def _compare(
    ledger: Sequence[AppliedMigration], steps: Sequence[Migration], database: Database
) -> MigrationStatus:
    known = {step.number: step for step in steps}
    done = {applied.number for applied in ledger}
    for applied in ledger:
        step = known.get(applied.number)
        if step is not None and step.sha256 != applied.sha256:
            raise StoreError(
                f"The QoSFlow database at {database} was made with another migration {applied.number:04d} "
                f"({applied.name}) than this code has ({step.name}).",
                cure="Install the version that made it, or start with a new database.",
            )
    return MigrationStatus(
        applied=tuple(applied for applied in ledger if applied.number in known),
        pending=tuple(step for step in steps if step.number not in done),
        newer=tuple(applied for applied in ledger if applied.number not in known),
    )


def _refuse_newer(state: MigrationStatus, database: Database) -> None:
    if state.newer:
        raise StoreError(
            f"The QoSFlow database at {database} is newer than this code: it has {state.newer[-1].name}.",
            cure="Install the version of airflow-provider-qosflow that upgraded it, or a later one.",
        )


def _refuse_old_server(connection: extensions.connection, database: Database) -> None:
    if connection.server_version < _OLDEST_SERVER * 10_000:
        raise StoreError(
            f"The server at {database} is Postgres {connection.server_version // 10_000}.",
            cure=f"Use Postgres {_OLDEST_SERVER} or newer.",
        )
