"""An Airflow connection in the form in which Postgres clients take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qosflow_airflow.exceptions import StoreError

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONNECTION_TYPES = ("qosflow", "postgres", "postgresql")

# fmt: off
PASSED_ON = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssdelegation", "gssencmode",
    "gsslib", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "krbsrvname", "load_balance_hosts", "options", "passfile", "require_auth", "requirepeer", "service",
    "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression",
    "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni",
    "target_session_attrs", "tcp_user_timeout",
})
"""Extras of a connection that say how to connect: libpq's parameter key words."""

OF_OTHERS = frozenset({
    "aws_conn_id", "client_encoding", "cluster-identifier", "cursor", "enable_log_db_messages", "iam", "port",
    "redshift", "region_name", "role_arn", "sqlalchemy_query", "sqlalchemy_scheme", "workgroup-name",
})
"""Extras that steer Airflow's own Postgres hook, on a connection that both use; the store's text is UTF-8."""
# fmt: on


def connection_parameters(connection: Connection) -> dict[str, str]:
    """Return a connection as libpq's parameters.

    Raises
    ------
    StoreError
        When the connection is of another type, or has an extra that nobody knows: a mistyped ``sslmode`` must
        not connect without encryption. Values are never repeated: they may be secrets.
    """
    # SQLAlchemy's way of naming a driver, postgresql+psycopg2, means the same database.
    if (connection.conn_type or "").partition("+")[0] not in CONNECTION_TYPES:
        raise StoreError(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}.",
            cure="Make it a connection of type QoSFlow or Postgres.",
        )
    extras: Mapping[str, Any] = connection.extra_dejson
    if unknown := sorted(set(extras) - PASSED_ON - OF_OTHERS):
        raise StoreError(
            f"Connection {connection.conn_id!r} has extras that Postgres does not know: "
            f"{', '.join(unknown)}.",
            cure="Correct or remove them; sslmode, sslrootcert and the like are possible.",
        )
    parameters = {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.schema,
        "user": connection.login,
        "password": connection.password,
        **{name: value for name, value in extras.items() if name in PASSED_ON},
    }
    return {name: str(value) for name, value in parameters.items() if value not in (None, "")}


def libpq_text(parameters: Mapping[str, str]) -> str:
    r"""Return parameters in libpq's form.

    >>> libpq_text({"host": "db", "password": "it's"})
    "host='db' password='it\\'s'"
    """
    return " ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
