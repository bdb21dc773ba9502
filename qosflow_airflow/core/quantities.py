"""Quantities of Kubernetes resources (``500m``, ``1.5Gi``, ``2e3``) as exact numbers, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from qosflow_airflow.exceptions import TierError

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[numkMGTPE]?|[KMGTPE]i|[eE][+-]?\d{1,2})")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def parse_quantity(text: str) -> Fraction:
    """Return the number that a quantity stands for.

    >>> parse_quantity("500m"), parse_quantity("1.5Gi"), parse_quantity("2e3")
    (Fraction(1, 2), Fraction(1610612736, 1), Fraction(2000, 1))

    Raises
    ------
    TierError
        When the text is no quantity.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise TierError(
            f"{text!r} is no quantity of Kubernetes", cure="Write it as in 500m, 2, 512Mi or 1.5Gi."
        )
    number, suffix = Fraction(found["number"]), found["suffix"]
    if suffix in _BINARY:
        return number * _BINARY[suffix]
    # `E` alone is exa; followed by digits it is an exponent.
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return number * Fraction(f"1e{exponent}")


def format_quantity(value: Fraction) -> str:
    """Return a number as a quantity, whole or in thousandths, rounded up.

    >>> format_quantity(Fraction(1, 2)), format_quantity(Fraction(2**20))
    ('500m', '1048576')
    """
    thousandths = -(-value.numerator * 1000 // value.denominator)
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)


def multiply(quantities: Mapping[str, str], times: int, *, extra_memory_bytes: int = 0) -> dict[str, str]:
    """Return resources of ``times`` tasks, with memory added where it is asked for at all.

    >>> multiply({"cpu": "250m", "memory": "1Ki"}, 3, extra_memory_bytes=1000)
    {'cpu': '750m', 'memory': '4072'}
    """
    amounts = {name: parse_quantity(text) * times for name, text in quantities.items()}
    if extra_memory_bytes and "memory" in amounts:
        amounts["memory"] += extra_memory_bytes
    return {name: format_quantity(amount) for name, amount in amounts.items()}
