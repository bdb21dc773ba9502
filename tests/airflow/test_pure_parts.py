from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn

from qosflow_airflow.core import figure_data
from qosflow_airflow.hooks import libpq
from qosflow_airflow.operators import answer_table, outcome
from qosflow_airflow.web import insights

moments = st.integers(0, 1000)
records = st.lists(
    st.tuples(moments, moments).map(lambda pair: {"start_s": min(pair), "end_s": max(pair)}), min_size=1
)


@given(records)
def test_busy_seconds_are_those_in_which_something_ran(found: list[dict[str, int]]) -> None:
    seconds = {second for record in found for second in range(record["start_s"], record["end_s"])}
    assert outcome.busy_s(found) == len(seconds)
    assert outcome.busy_s(found) <= outcome.span_s(found)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_value_survives_libpq_s_form(value: str) -> None:
    assert parse_dsn(libpq.libpq_text({"host": "db", "password": value, "port": "1"})) == {
        "host": "db",
        "password": value,
        "port": "1",
    }


@pytest.mark.parametrize("module", [figure_data, libpq, answer_table, outcome, insights])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
