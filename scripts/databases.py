"""The two databases on one Postgres server: Airflow's metadata, and what QoSFlow stores."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg2
from console import SetupError
from psycopg2 import sql

OLDEST_SERVER = 13  # Airflow 3 supports none older


@dataclass(frozen=True)
class Databases:
    """Where the two databases are: a server's URL without a database, and their names on it."""

    server_url: str
    airflow: str
    qosflow: str
    maintenance: str = "postgres"  # the database to be in while creating the others

    @property
    def server(self) -> str:
        """Host and port, without user and password: fit to be shown."""
        parts = urlsplit(self.server_url)
        return f"{parts.hostname}:{parts.port or 5432}"

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """Return the URL of one database, with the server's options."""
        parts = urlsplit(self.server_url)
        return urlunsplit((scheme, parts.netloc, f"/{database}", parts.query, ""))

    def asyncpg_url(self, database: str) -> str:
        """Return the URL for the asynchronous driver, which calls ``sslmode`` by another name."""
        parts = urlsplit(self.url(database, "postgresql+asyncpg"))
        options = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)]
        return urlunsplit(parts._replace(query=urlencode(options)))


def parse_server_url(text: str, airflow: str, qosflow: str) -> Databases:
    """Read ``postgresql://user:password@host:port[/database][?options]``.

    A database in the URL is where we stand while creating our own two, named ``airflow`` and ``qosflow``.
    Raises :class:`SetupError` when the text is no such URL.
    """
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("postgresql", "postgres") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise SetupError(
            "QOSFLOW_POSTGRES_URL is not the URL of a Postgres server.",
            "Write it as postgresql://user:password@host:port, with special characters %-encoded.",
        )
    # Airflow expands $ in its settings as a shell does.
    server_url = urlunsplit(("postgresql", parts.netloc, "", parts.query, "")).replace("$", "%24")
    return Databases(server_url, airflow, qosflow, parts.path.strip("/") or "postgres")


def create_databases(databases: Databases, ours: Container[str]) -> None:
    """Create the databases that are missing; ``ours`` names the servers whose metadata database is ours.

    An Airflow metadata database that holds tables and is not ours belongs to somebody else, and migrating it
    could break their Airflow: that is an error. So is a server that is too old or cannot be reached.
    """
    with Session(databases, databases.maintenance) as session:
        version = int(str(session.ask("SHOW server_version_num"))) // 10000
        if version < OLDEST_SERVER:
            raise SetupError(
                f"Postgres at {databases.server} is version {version}, too old for Airflow.",
                f"Give version {OLDEST_SERVER} or newer, or use ours: QOSFLOW_POSTGRES_URL=embedded",
            )
        for name in (databases.airflow, databases.qosflow):
            if session.ask("SELECT count(*) FROM pg_database WHERE datname = %s", name) == 0:
                session.create_database(name)
    with Session(databases, databases.airflow) as session:
        tables = session.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    if tables != 0 and databases.airflow not in ours:
        raise SetupError(
            f"The database {databases.airflow!r} at {databases.server} holds tables that are not ours.",
            "Give ours another name: QOSFLOW_AIRFLOW_DATABASE_NAME=airflow_qosflow ./setup.sh up",
        )


def airflow_revision(databases: Databases) -> str:
    """Return the schema revision of Airflow's metadata database, empty before the first migration."""
    with Session(databases, databases.airflow) as session:
        if session.ask("SELECT to_regclass('public.alembic_version')") is None:
            return ""
        return str(session.ask("SELECT version_num FROM public.alembic_version") or "")


class Session:
    """One connection, outside transactions because a database cannot be created in one."""

    def __init__(self, databases: Databases, name: str) -> None:
        self._server = databases.server
        try:
            self._connection = psycopg2.connect(databases.url(name), connect_timeout=10)
        except psycopg2.OperationalError as error:
            raise SetupError(
                f"Cannot use the database {name!r} at {databases.server}: {str(error).strip()}",
                "Check QOSFLOW_POSTGRES_URL: host, port, user, password, and whether the server runs.",
            ) from error
        self._connection.autocommit = True

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, statement: str, *values: str) -> object:
        """Run a statement that answers, and return the first column of the first row."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
        return row[0] if row else None

    def create_database(self, name: str) -> None:
        """Create an empty UTF-8 database."""
        statement = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement.format(sql.Identifier(name)))
        except psycopg2.errors.InsufficientPrivilege as error:
            raise SetupError(
                f"The user may not create the database {name!r} at {self._server}.",
                f"Let somebody who may run: CREATE DATABASE {name}; or connect as a user with CREATEDB.",
            ) from error
