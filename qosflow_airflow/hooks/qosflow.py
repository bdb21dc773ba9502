"""From an Airflow connection to the store of models and recommendations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from qosflow_airflow.exceptions import QoSFlowError, StoreError
from qosflow_airflow.hooks import settings
from qosflow_airflow.hooks.libpq import connection_parameters, libpq_text

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from qosflow_airflow.store.base import Store


class QoSFlowHook(BaseHook):
    """Opens the store that a connection to Postgres leads to.

    The connection is of type QoSFlow or Postgres. Its extras may be the key words that Postgres clients know
    (``sslmode``, ``sslrootcert``, ``target_session_attrs`` ...). Statements are stopped after
    ``[qosflow] statement_timeout_s``.

    :param qosflow_conn_id: the connection; ``[qosflow] conn_id`` where it is not given.
    """

    conn_name_attr = "qosflow_conn_id"
    default_conn_name = "qosflow_default"
    conn_type = "qosflow"
    hook_name = "QoSFlow"

    def __init__(self, qosflow_conn_id: str | None = None) -> None:
        super().__init__()
        self.qosflow_conn_id = qosflow_conn_id or settings.connection_id()

    def get_store(self) -> Store:
        """Return the store, which connects at its first call. Close it, or use it as a context manager.

        Raises
        ------
        StoreError
            When there is no such connection, or it does not lead to Postgres.
        """
        # Imported here so that importing the hook loads no database driver.
        from qosflow_airflow.store.postgres import PostgresStore

        parameters = connection_parameters(self._connection())
        return PostgresStore(libpq_text(parameters), statement_timeout_s=settings.statement_timeout_s())

    def get_bounded_store(self, seconds: float) -> Store:
        """Return a store of one connection, which gives up on connecting and on statements after ``seconds``.

        Errors are those of :meth:`get_store`.
        """
        from qosflow_airflow.store.postgres import PostgresStore

        return PostgresStore(
            libpq_text(connection_parameters(self._connection())),
            statement_timeout_s=seconds,
            connect_timeout_s=max(2, round(seconds)),  # libpq takes less for 2
            max_connections=1,
        )

    def get_conn(self) -> Store:
        """Return what :meth:`get_store` does."""
        return self.get_store()

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the store can be used, and a sentence; the connection form shows both."""
        try:
            with self.get_store() as store:
                store.ping()
        except QoSFlowError as error:
            return False, str(error)
        return True, "The QoSFlow database can be used."

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the connection form of Airflow's page looks."""
        return {
            "hidden_fields": [],
            "relabeling": {"schema": "Database"},
            "placeholders": {"port": "5432", "schema": "qosflow", "extra": '{"sslmode": "require"}'},
        }

    def _connection(self) -> Connection:
        try:
            return self.get_connection(self.qosflow_conn_id)
        except AirflowNotFoundException:
            raise StoreError(
                f"Airflow has no connection {self.qosflow_conn_id!r}.",
                cure="Add one of type QoSFlow or Postgres under that id, or set the environment variable "
                f"AIRFLOW_CONN_{self.qosflow_conn_id.upper()}=postgresql://user:password@host:5432/qosflow",
            ) from None
