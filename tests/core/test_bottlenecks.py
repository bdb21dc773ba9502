from __future__ import annotations

import json

import numpy as np

from qosflow_airflow.core.bottlenecks import Bottleneck, shift


def test_the_largest_median_part_is_the_bottleneck() -> None:
    found = Bottleneck.of(np.array([[1.0, 5.0, 0.0, 2.0], [9.0, 4.0, 0.0, 2.0], [2.0, 6.0, 0.0, 2.0]]))
    assert found.split_s == {"movement": 2.0, "shared_io": 5.0, "local_io": 0.0, "compute": 2.0}
    assert (found.part, round(found.share, 3)) == ("shared_io", 0.556)
    assert Bottleneck.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_nothing_to_wait_for() -> None:
    assert Bottleneck.of(np.zeros((3, 4))).share == 0.0


def test_bottlenecks_shift_with_node_counts() -> None:
    moving, computing = (Bottleneck.of(np.array([row])) for row in ([8.0, 1, 1, 0], [1.0, 0, 0, 3]))
    found = shift([(10, computing), (2, moving), (5, moving)])
    assert [(scale["nodes"], scale["part"]) for scale in found["scales"]] == [
        (2, "movement"),
        (5, "movement"),
        (10, "compute"),
    ]
    assert found["changes"] == [{"from_nodes": 5, "to_nodes": 10, "from": "movement", "to": "compute"}]
    assert shift([]) == {"scales": [], "changes": []}
