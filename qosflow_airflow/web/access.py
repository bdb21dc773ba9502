"""What a user of the pages may see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from qosflow_airflow.exceptions import NotFoundError, StoreError
from qosflow_airflow.store.payload import checked_text


class ForbiddenError(Exception):
    """The user may not read the Dag that a page is about."""


class DagReader(Protocol):
    """A user who has logged in, and the Dags that this user may read."""

    def may_read(self, dag_id: str) -> bool:
        """Return whether the user may read a Dag."""


class _OfDag(Protocol):
    @property
    def dag_id(self) -> str | None: ...


Record = TypeVar("Record", bound=_OfDag)


def readable(reader: DagReader, records: Iterable[Record]) -> list[Record]:
    """Return the records without a Dag, and those of Dags that the user may read; a Dag is asked for once."""
    kept = list(records)
    allowed = {dag: reader.may_read(dag) for dag in {one.dag_id for one in kept} if dag is not None}
    return [one for one in kept if one.dag_id is None or allowed[one.dag_id]]


def check_readable(reader: DagReader, record: _OfDag) -> None:
    """Raise :class:`ForbiddenError` for a record of a Dag that the user may not read."""
    if record.dag_id is not None and not reader.may_read(record.dag_id):
        raise ForbiddenError


def check_name(name: str, what: str, max_chars: int = 200) -> str:
    """Return a name that a store could keep; any other names nothing, which is ``NotFoundError``."""
    try:
        return checked_text(name, what, max_chars)
    except StoreError:
        raise NotFoundError(f"There is no {what} of this name.") from None
