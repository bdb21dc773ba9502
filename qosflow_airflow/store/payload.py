"""Plain JSON as text, in one form that every store writes and reads alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store.base import JsonObject

MAX_PAYLOAD_CHARS = 16 * 1024 * 1024
"""The largest object kept as JSON; what is larger belongs in a part."""
MAX_DEPTH = 64
"""The deepest nesting, far below where a parser's stack ends."""
_MAX_INTEGER = 2**63


def encode(value: Mapping[str, Any], what: str) -> str:
    """Return the JSON text of an object; ``what`` names it in messages.

    Keys are in the order in which Postgres keeps them, and floats are written without an exponent, as
    ``jsonb`` otherwise gives 1e23 back as the whole number 10**23, which is another value in Python.

    Raises
    ------
    StoreError
        When the value is not plain JSON (see :class:`~qosflow_airflow.store.base.Store`) or too large.
    """
    if not isinstance(value, Mapping):
        raise StoreError(f"{what} is {_kind(value)}, not an object.", cure="Give a dict.")
    text = "".join(_pieces(value, what, 1))
    if len(text) > MAX_PAYLOAD_CHARS:
        raise StoreError(
            f"{what} is {len(text):,} characters of JSON, more than {MAX_PAYLOAD_CHARS:,}.",
            cure="Keep large content as a part.",
        )
    return text


def decode(text: str) -> JsonObject:
    """Return the object that :func:`encode` wrote."""
    value: JsonObject = json.loads(text)
    return value


def checked_text(value: object, what: str, max_chars: int = 200, *, may_be_empty: bool = False) -> str:
    """Return ``value`` when it is text that any store can keep, else raise :class:`StoreError`."""
    if not isinstance(value, str):
        raise StoreError(f"{what} is {_kind(value)}, not text.", cure="Give a str.")
    if not value and not may_be_empty:
        raise StoreError(f"{what} is empty.", cure="Give it a value.")
    if len(value) > max_chars:
        raise StoreError(
            f"{what} has {len(value):,} characters, more than {max_chars:,}.", cure="Shorten it."
        )
    return _storable(value, what)


def _pieces(value: object, where: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise StoreError(f"{where} is nested deeper than {MAX_DEPTH} levels.", cure="Flatten it.")
    if isinstance(value, Mapping):
        yield "{"
        for position, key in enumerate(sorted(value, key=lambda key: _key_order(key, where))):
            yield ", " if position else ""
            yield json.dumps(key)
            yield ": "
            yield from _pieces(value[key], f"{where}.{key}", depth + 1)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for position, item in enumerate(value):
            yield ", " if position else ""
            yield from _pieces(item, f"{where}[{position}]", depth + 1)
        yield "]"
    else:
        yield _scalar(value, where)


def _key_order(key: object, where: str) -> tuple[int, bytes]:
    if not isinstance(key, str):
        raise StoreError(f"{where} has the key {key!r}, which is {_kind(key)}.", cure="Use text as keys.")
    encoded = _storable(key, f"a key of {where}").encode()
    return len(encoded), encoded


def _scalar(value: object, where: str) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(_storable(value, where))
    if isinstance(value, int):
        if not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise StoreError(f"{where} is a whole number beyond 64 bits.", cure="Store it as text.")
        return int.__repr__(value)
    if isinstance(value, float):
        return _fixed_point(value, where)
    raise StoreError(f"{where} is {_kind(value)}, not JSON.", cure="Convert it to a plain Python value.")


def _fixed_point(value: float, where: str) -> str:
    if not math.isfinite(value):
        raise StoreError(f"{where} is {value}, not JSON.", cure="Write None for what is unknown.")
    # Adding zero drops the sign of -0.0, which Postgres does not keep.
    text = format(Decimal(float.__repr__(value + 0.0)), "f")
    return text if "." in text else text + ".0"


def _storable(text: str, where: str) -> str:
    if "\x00" in text:
        raise StoreError(f"{where} holds a NUL character.", cure="Remove it.")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise StoreError(
            f"{where} holds a lone surrogate, which is no character.", cure="Decode it as UTF-8."
        )
    return text


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
