"""Stage times: unknown stays unknown, on paper too."""

from __future__ import annotations

import json
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.transfer import Provenance, StageTimes, TimeTable, blank_tables
from qosflow_airflow.core.workflow import INITIAL_DATA
from tests.support.instances import random_catalog, random_times, random_workflow

TABLES = ("read", "write", "compute", "stage_in", "stage_out")


def test_provenance_is_ordered_from_best_to_worst() -> None:
    assert Provenance.MEASURED < Provenance.EXTRAPOLATED < Provenance.NOT_OBSERVED < Provenance.UNKNOWN


def test_a_blank_table_knows_nothing() -> None:
    tables = blank_tables(stages=2, tiers=3, edges=4)
    assert {name: table.seconds.shape for name, table in tables.items()} == {
        "read": (2, 3),
        "write": (2, 3),
        "compute": (2,),
        "stage_in": (4, 3, 3),
        "stage_out": (4, 3, 3),
    }
    for table in tables.values():
        assert np.isnan(table.seconds).all()
        assert (table.provenance == Provenance.UNKNOWN).all()
        assert (table.tasks_per_node == -1).all()


def test_unknown_is_null_in_json_and_nan_again_afterwards() -> None:
    table = TimeTable.unknown((2,))
    table.put((0,), 1.5, Provenance.EXTRAPOLATED, 12)
    value = table.to_json()
    assert value == {
        "seconds": [1.5, None],
        "provenance": [1, 3],
        "tasks_per_node": [12, -1],
        "log_sd": [None, None],
    }
    again = TimeTable.from_json(json.loads(json.dumps(value, allow_nan=False)))
    assert again.seconds[0] == 1.5
    assert np.isnan(again.seconds[1])


@settings(max_examples=50)
@given(st.integers(0, 2**32).map(random.Random))
def test_any_stage_times_survive_json(rng: random.Random) -> None:
    workflow, catalog = random_workflow(rng), random_catalog(rng)
    times = random_times(rng, workflow, catalog, nodes=3, unknown=0.2)
    again = StageTimes.from_json(json.loads(json.dumps(times.to_json(), allow_nan=False)))
    assert (again.nodes, again.stages, again.tiers, again.edges) == (
        3,
        times.stages,
        times.tiers,
        times.edges,
    )
    for name in TABLES:
        have, want = getattr(again, name), getattr(times, name)
        np.testing.assert_array_equal(have.seconds, want.seconds)
        np.testing.assert_array_equal(have.provenance, want.provenance)
        np.testing.assert_array_equal(have.tasks_per_node, want.tasks_per_node)
        assert have.seconds.dtype == np.float64
        assert have.seconds.shape == want.seconds.shape


def test_compute_is_known_only_where_every_stage_has_it() -> None:
    rng = random.Random(1)
    times = random_times(rng, random_workflow(rng), random_catalog(rng), nodes=1)
    times.compute.provenance[:] = Provenance.EXTRAPOLATED
    assert times.compute_known
    times.compute.provenance[-1] = Provenance.NOT_OBSERVED
    assert not times.compute_known


def test_the_spread_of_volumes_adds_to_that_of_rates() -> None:
    rng = random.Random(5)
    workflow, catalog = random_workflow(rng), random_catalog(rng)
    times = random_times(rng, workflow, catalog, nodes=2)
    first = workflow.stage_names[0]
    wider = times.with_spread({first: {"read": 0.3, "write": 0.4, "compute": 0.5}})
    for name, spread in (("read", 0.3), ("write", 0.4), ("compute", 0.5)):
        have, before = getattr(wider, name), getattr(times, name)
        certain = before.seconds[0] == 0
        np.testing.assert_allclose(
            have.log_sd[0], np.where(certain, before.log_sd[0], np.hypot(before.log_sd[0], spread))
        )
        np.testing.assert_array_equal(have.log_sd[1:], before.log_sd[1:])
        np.testing.assert_array_equal(have.seconds, before.seconds)
    for e, edge in enumerate(times.edges):
        widened = edge.producer == first or (edge.producer == INITIAL_DATA and edge.consumer == first)
        assert (wider.stage_in.log_sd[e] > times.stage_in.log_sd[e]).any() == widened
