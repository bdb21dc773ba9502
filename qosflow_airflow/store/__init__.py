"""What QoSFlow remembers: workflows, builds, model versions, recommendations and their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qosflow_airflow.store.base import Store


def open_store(url: str) -> Store:
    """Return the store at ``url``, which is connected to at the first call.

    ``url`` is ``postgresql://user:password@host:port/database``; ``postgres://`` and SQLAlchemy's
    ``postgresql+psycopg2://`` mean the same. Close the store, or use it as a context manager.

    Raises
    ------
    StoreError
        When ``url`` is no Postgres URL. The URL is never repeated in a message: it may hold a password.
    """
    # Imported here so that importing the package loads no database driver.
    from qosflow_airflow.store.postgres import PostgresStore

    return PostgresStore(url)
