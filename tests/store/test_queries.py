"""The SQL files are read whole, and no query is forgotten or missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qosflow_airflow.store
from qosflow_airflow.store.queries import parse, queries

FOLDER = Path(qosflow_airflow.store.__file__).parent


def test_queries_are_split_by_name() -> None:
    text = "-- about the file\n\n-- name: one\nselect 1;\n\n-- name: two\n-- why\nselect %(x)s;\n"
    assert parse(text) == {"one": "select 1;", "two": "-- why\nselect %(x)s;"}
    with pytest.raises(ValueError, match="given twice"):
        parse("-- name: one\nselect 1;\n-- name: one\nselect 2;\n")


def test_every_query_is_used_and_every_use_has_a_query() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    named = set(re.findall(r'"([a-z_]+)"', source))
    assert set(queries()) <= named
    used = re.findall(r'(?:\brows?|_rows)\(\s*(?:cursor,\s*)?"(\w+)"', source)
    used += re.findall(r'queries\(\)\["(\w+)"\]', source)
    assert len(used) > 20
    assert set(used) <= set(queries())


def test_importing_the_room_loads_no_driver() -> None:
    check = (
        "import sys, qosflow_airflow.store, qosflow_airflow.store.base; sys.exit('psycopg2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
