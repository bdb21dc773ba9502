"""JSON comes back equal, from the text and from every store; what is no JSON is refused by name."""

from __future__ import annotations

import json
from collections import OrderedDict
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.payload import MAX_DEPTH, MAX_PAYLOAD_CHARS, decode, encode

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e16, 1e22, 1e23, 1.7976931348623157e308, 5e-324, 0.1, -0.0, 2.0**53])
    | TEXT
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def spelled(value: object) -> str:
    """Return a text that differs where ``==`` is not enough: 1 and 1.0, True and 1."""
    return json.dumps(value, sort_keys=True).replace("-0.0", "0.0")


@settings(max_examples=60)
@given(OBJECTS)
def test_objects_survive_the_text(value: dict) -> None:
    text = encode(value, "summary")
    assert spelled(decode(text)) == spelled(value)
    assert encode(decode(text), "summary") == text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OBJECTS)
def test_objects_survive_every_store(store: Store, value: dict) -> None:
    store.register_workflow("genome", "/bundles/genome")
    kept = store.build(store.create_build("genome", value, {})).options
    assert spelled(kept) == spelled(value)
    assert list(kept) == list(decode(encode(value, "options")))  # all stores in one order


def test_tuples_and_other_mappings_become_plain_json() -> None:
    value = OrderedDict(tiers=("ssd", "beegfs"), share=np.float64(0.5))
    assert decode(encode(value, "answer")) == {"tiers": ["ssd", "beegfs"], "share": 0.5}


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


LOOP: dict = {}
LOOP["again"] = LOOP


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "summary is list, not an object"),
        (None, "summary is NoneType"),
        ({"n": np.int64(3)}, r"summary\.n is numpy\.int64, not JSON"),
        ({"n": Decimal("0.1")}, r"summary\.n is decimal\.Decimal"),
        ({"a": [{"b": {1, 2}}]}, r"summary\.a\[0\]\.b is set"),
        ({"a": b"bytes"}, r"summary\.a is bytes"),
        ({"a": {1: "one"}}, r"summary\.a has the key 1, which is int"),
        ({"a": {None: 1, "b": 2}}, "key None"),
        ({"n": 2**63}, "beyond 64 bits"),
        ({"n": -(2**63) - 1}, "beyond 64 bits"),
        ({"t": "a\x00b"}, r"summary\.t holds a NUL"),
        ({"a\x00b": 1}, "a key of summary holds a NUL"),
        ({"t": "\udcff"}, "lone surrogate"),
        (deep(MAX_DEPTH), "nested deeper"),
        (LOOP, "nested deeper"),
        ({"t": "x" * MAX_PAYLOAD_CHARS}, "Keep large content as a part"),
    ],
)
def test_what_is_no_json_is_refused(value: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        encode(value, "summary")  # type: ignore[arg-type]


def test_the_deepest_object_is_kept(store: Store) -> None:
    store.register_workflow("genome", "/bundles/genome")
    value = deep(MAX_DEPTH - 1)
    assert store.build(store.create_build("genome", value, {})).options == value
