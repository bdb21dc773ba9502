from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.quantities import format_quantity, multiply, parse_quantity
from qosflow_airflow.exceptions import TierError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        (".5", Fraction(1, 2)),
        ("100m", Fraction(1, 10)),
        ("1Ki", 1024),
        ("1k", 1000),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1e-3", Fraction(1, 1000)),
        ("1.5Gi", 3 * 2**29),
        ("7n", Fraction("7e-9")),
    ],
)
def test_suffixes_are_those_of_kubernetes(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "1gi", "1GiB", "1,5", "nan", "1e400", "."])
def test_anything_else_is_refused_with_a_cure(text: str) -> None:
    with pytest.raises(TierError, match="512Mi"):
        parse_quantity(text)


@given(st.integers(0, 10**15))
def test_thousandths_survive(thousandths: int) -> None:
    assert parse_quantity(format_quantity(Fraction(thousandths, 1000))) * 1000 == thousandths


def test_tasks_multiply_and_a_tier_in_memory_adds() -> None:
    asked = multiply({"cpu": "500m", "memory": "1Mi"}, 3, extra_memory_bytes=2**30)
    assert asked == {"cpu": "1500m", "memory": str(3 * 2**20 + 2**30)}
    assert multiply({"cpu": "1"}, 2, extra_memory_bytes=5) == {"cpu": "2"}
