"""The SQL files of the store."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def sql_folder() -> Traversable:
    """Return the folder of the SQL files, wherever the package is installed."""
    return files("qosflow_airflow.store").joinpath("sql")


@cache
def queries() -> MappingProxyType[str, str]:
    """Return every statement of ``queries.sql`` by name."""
    return parse(sql_folder().joinpath("queries.sql").read_text(encoding="utf-8"))


def parse(text: str) -> MappingProxyType[str, str]:
    """Split SQL at its ``-- name: x`` lines; what stands before the first belongs to no statement."""
    pieces = _NAME.split(text)[1:]
    names, bodies = pieces[::2], pieces[1::2]
    if len(set(names)) != len(names):
        raise ValueError("a query name is given twice")
    return MappingProxyType({name: body.strip() for name, body in zip(names, bodies, strict=True)})
