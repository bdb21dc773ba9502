"""Requests: every loose form that a trigger form, a template or a command line gives them in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.qos import CONSTRAINTS, OBJECTIVES, QoSRequest
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.tiers import NodePool
from qosflow_airflow.core.transfer import StageTimes, blank_tables
from qosflow_airflow.exceptions import QoSFlowError, RequestError, TierError, WorkflowError
from tests.support.instances import chain, platform

SPACE = ConfigurationSpace(
    chain(("first", 4), ("second", 2)),
    replace(platform(("pfs",), ("tmpfs", "ssd")), node=NodePool(price_per_hour=36.0)),
    COMPLETE,
)


def times(nodes: int) -> StageTimes:
    return StageTimes(nodes, ("first", "second"), ("pfs", "tmpfs", "ssd"), (), **blank_tables(2, 3, 0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, QoSRequest()),
        ({"deadline_s": 60}, QoSRequest(deadline_s=60.0)),
        ({"deadline_s": "60.5"}, QoSRequest(deadline_s=60.5)),
        ({"deadline_s": " 1e2 "}, QoSRequest(deadline_s=100.0)),
        ({"max_nodes": "4"}, QoSRequest(max_nodes=4)),
        ({"max_nodes": 4.0}, QoSRequest(max_nodes=4)),
        ({"max_nodes": "4.0"}, QoSRequest(max_nodes=4)),
        ({"allow": "pfs, tmpfs ,"}, QoSRequest(allow=("pfs", "tmpfs"))),
        ({"allow": ["pfs", "tmpfs"]}, QoSRequest(allow=("pfs", "tmpfs"))),
        ({"allow": ("pfs",)}, QoSRequest(allow=("pfs",))),
        ({"exclude": "ssd"}, QoSRequest(exclude=("ssd",))),
        ({"exclude": []}, QoSRequest()),
        ({"pin": "first=pfs,second=ssd"}, QoSRequest(pin={"first": "pfs", "second": "ssd"})),
        ({"pin": ["first=pfs", "second=ssd"]}, QoSRequest(pin={"first": "pfs", "second": "ssd"})),
        ({"pin": {"first": "pfs"}}, QoSRequest(pin={"first": "pfs"})),
        ({"pin": " first = pfs , second=ssd "}, QoSRequest(pin={"first": "pfs", "second": "ssd"})),
        ({"pin": ["first=pfs", "first=pfs"]}, QoSRequest(pin={"first": "pfs"})),
        ({"pin": {"first": None, "second": "ssd"}}, QoSRequest(pin={"second": "ssd"})),
        ({"objective": "node_hours"}, QoSRequest(objective="node_hours")),
        (
            {"confidence": "0.95", "max_node_hours": 2, "max_cost": "1e3"},
            QoSRequest(confidence=0.95, max_node_hours=2.0, max_cost=1000.0),
        ),
    ],
)
def test_loose_values_are_understood(values: dict[str, Any], expected: QoSRequest) -> None:
    assert QoSRequest.parse(values) == expected


@pytest.mark.parametrize("absent", [None, "", "  ", "None", "null", " None "])
@pytest.mark.parametrize("name", ["deadline_s", "max_nodes", "allow", "exclude", "pin", "objective"])
def test_an_absent_value_asks_for_nothing(name: str, absent: str | None) -> None:
    assert QoSRequest.parse({name: absent}) == QoSRequest()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"deadline_s": 0}, r"deadline_s is 0\.0\. Give seconds greater than 0"),
        ({"deadline_s": -5}, r"deadline_s is -5\.0"),
        ({"deadline_s": "nan"}, "deadline_s is nan"),
        ({"deadline_s": "inf"}, "deadline_s is inf"),
        ({"deadline_s": "soon"}, "deadline_s is 'soon', not a number"),
        ({"deadline_s": "1,000"}, "deadline_s is '1,000', not a number"),
        ({"deadline_s": True}, "deadline_s is True, not a number"),
        ({"deadline_s": [60]}, r"deadline_s is \[60\], not a number"),
        ({"deadline_s": 10**400}, "deadline_s is 1000"),
        ({"max_nodes": 0}, r"max_nodes is 0\. Give a whole number of at least 1"),
        ({"max_nodes": -1}, "max_nodes is -1"),
        ({"max_nodes": 2.5}, r"max_nodes is 2\.5, not a whole number"),
        ({"max_nodes": "inf"}, "max_nodes is 'inf', not a whole number"),
        ({"max_nodes": "nan"}, "max_nodes is 'nan', not a whole number"),
        ({"max_nodes": 10**400}, "max_nodes is 1000"),
        ({"allow": ","}, "allow is empty. Name at least one tier"),
        ({"allow": 5}, "allow is 5"),
        ({"allow": ["pfs", 5]}, r"allow is \['pfs', 5\]"),
        ({"allow": {"pfs": 1}}, "allow is {'pfs': 1}"),
        ({"pin": "first"}, r"pin 'first' is not stage=tier\. Write it as in `sifting=tmpfs`"),
        ({"pin": "=pfs"}, "pin '=pfs' is not stage=tier"),
        ({"pin": ["first="]}, "pin 'first=' is not stage=tier"),
        ({"pin": "first=pfs,first=ssd"}, "stage 'first' is pinned to 'pfs' and 'ssd'"),
        ({"pin": 7}, "pin is 7"),
        ({"objective": "speed"}, r"unknown objective 'speed'\. Use one of makespan, node_hours, cost"),
        (
            {"dead_line": 3, "node": 1},
            r"unknown fields dead_line, node\. Use allow, confidence, deadline_s, ",
        ),
        ({"confidence": 95}, r"confidence is 95\.0\. Give a probability between 0 and 1"),
        ({"confidence": 0}, r"confidence is 0\.0"),
        ({"confidence": "nan"}, "confidence is nan"),
        ({"max_node_hours": 0}, r"max_node_hours is 0\.0\. Give hours greater than 0"),
        ({"max_cost": -1}, r"max_cost is -1\.0\. Give an amount greater than 0"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_the_cure(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        QoSRequest.parse(values)


def test_names_that_the_model_does_not_know_are_errors() -> None:
    QoSRequest(allow=("pfs",), exclude=("ssd",), pin={"second": "tmpfs"}).check_names(SPACE)
    for request in (
        QoSRequest(allow=("nvme",)),
        QoSRequest(exclude=("nvme",)),
        QoSRequest(pin={"first": "nvme"}),
    ):
        with pytest.raises(TierError, match=r"unknown tier 'nvme'\. Use one of pfs, tmpfs, ssd"):
            request.check_names(SPACE)
    with pytest.raises(WorkflowError, match="has no stage 'third'"):
        QoSRequest(pin={"third": "pfs"}).check_names(SPACE)


def test_a_slack_is_how_far_each_configuration_is_from_breaking_a_constraint() -> None:
    request = QoSRequest(
        deadline_s=100.0,
        max_nodes=4,
        allow=("pfs", "tmpfs"),
        exclude=("pfs",),
        pin={"first": "ssd"},
        max_node_hours=0.25,
        max_cost=6.0,
    )
    layouts = np.array([[0, 0], [2, 1], [2, 2]], dtype=np.int8)
    slacks = request.slacks(SPACE, layouts, times(5), np.array([100.0, 130.0, np.nan]))
    # How sure a deadline is kept is not told by one estimate.
    assert tuple(slacks) == tuple(name for name in CONSTRAINTS if name != "confidence")
    assert slacks["deadline_s"][:2].tolist() == [0.0, -30.0]
    assert np.isnan(slacks["deadline_s"][2])
    assert slacks["max_node_hours"][:2].tolist() == [
        pytest.approx(0.25 - 5 / 36),
        pytest.approx(0.25 - 6.5 / 36),
    ]
    assert slacks["max_cost"][:2].tolist() == [pytest.approx(1.0), pytest.approx(-0.5)]
    assert slacks["max_nodes"].tolist() == [-1.0, -1.0, -1.0]
    assert slacks["allow"].tolist() == [0.0, -1.0, -2.0]
    assert slacks["exclude"].tolist() == [-2.0, 0.0, 0.0]
    assert slacks["pin"].tolist() == [-1.0, 0.0, 0.0]


def test_only_what_is_asked_for_has_a_slack() -> None:
    assert QoSRequest().slacks(SPACE, np.zeros((1, 2), np.int8), times(1), np.ones(1)) == {}


requests = st.builds(
    QoSRequest,
    deadline_s=st.none() | st.floats(1e-6, 1e9),
    max_nodes=st.none() | st.integers(1, 10**6),
    allow=st.none() | st.lists(st.sampled_from(["pfs", "ssd"]), min_size=1, max_size=2).map(tuple),
    exclude=st.lists(st.sampled_from(["pfs", "ssd"]), max_size=2).map(tuple),
    pin=st.dictionaries(st.sampled_from(["first", "second"]), st.sampled_from(["pfs", "ssd"])),
    objective=st.sampled_from(OBJECTIVES),
)


@given(requests)
def test_a_request_survives_json(request: QoSRequest) -> None:
    assert QoSRequest.parse(json.loads(json.dumps(request.to_json()))) == request


@settings(max_examples=120)
@given(
    st.dictionaries(
        st.sampled_from(["deadline_s", "max_nodes", "allow", "exclude", "pin", "objective"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_whatever_a_form_holds_is_a_request_or_one_clear_error(values: dict[str, Any]) -> None:
    try:
        request = QoSRequest.parse(values)
    except QoSFlowError:
        return
    assert QoSRequest.parse(request.to_json()) == request
