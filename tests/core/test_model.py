"""Model versions as JSON, and whole spaces as tables."""

from __future__ import annotations

import csv
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.configurations import (
    EvaluatedConfigurations,
    configuration_frame,
    evaluate_space,
)
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import FORMAT, Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.region_fit import fit_regions
from qosflow_airflow.exceptions import QoSFlowError
from tests.support.instances import chain, platform, random_times, tiers_of
from tests.support.models import random_model

seeds = st.integers(0, 2**32).map(random.Random)
CHAIN = chain(("a", 4), ("b", 2))


def with_regions(nodes: int = 2) -> Model:
    """A model with one fitted scale."""
    catalog = platform(("pfs",), ("tmpfs", "ssd"))
    times = random_times(random.Random(3), CHAIN, catalog, nodes)
    bare = Model(CHAIN, catalog, COMPLETE, (ScaleModel(nodes, times),))
    evaluated = evaluate_space(bare.makespans(nodes))
    regions = fit_regions(bare.makespans(nodes), evaluated.layouts, evaluated)
    quality = {"regions": {"count": regions.count, "mae_held_out_s": regions.mae_held_out_s}}
    scale = ScaleModel(nodes, times, regions, quality)
    return Model(CHAIN, catalog, COMPLETE, (scale,), {"spm.csv": "0" * 64}, {"scales": [nodes]})


@settings(max_examples=30)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_a_model_answers_the_same_after_json(rng: random.Random, rules: MakespanRules) -> None:
    model = random_model(rng, rules)
    again = Model.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False)))
    assert again.nodes == model.nodes
    assert (again.workflow, again.catalog, again.rules) == (model.workflow, model.catalog, model.rules)
    assert recommend(again, QoSRequest()).answer == recommend(model, QoSRequest()).answer


def test_regions_quality_inputs_and_options_are_kept() -> None:
    model = with_regions()
    value, regions = (
        json.loads(json.dumps(part, allow_nan=False)) for part in (model.to_json(), model.regions_to_json())
    )
    again = Model.from_json(value, regions)
    assert again.scales[0].regions == model.scales[0].regions
    assert again.scales[0].quality == model.scales[0].quality
    assert again.inputs == {"spm.csv": "0" * 64}
    assert again.options == {"scales": [2]}
    assert again.to_json() == model.to_json()
    assert again.regions_to_json() == model.regions_to_json()
    assert Model.from_json(value).scales[0].regions is None


def test_scales_are_in_the_order_of_their_nodes() -> None:
    rng = random.Random(1)
    catalog = platform()
    scales = tuple(ScaleModel(n, random_times(rng, CHAIN, catalog, n)) for n in (2, 4, 10))
    value = Model(CHAIN, catalog, COMPLETE, scales).to_json()
    assert Model.from_json(json.loads(json.dumps(value, sort_keys=True))).nodes == (2, 4, 10)


@pytest.mark.parametrize("found", [0, FORMAT + 1, None, "1"])
def test_another_format_is_refused(found: object) -> None:
    with pytest.raises(QoSFlowError, match=r"model format .* is not 1\. Build the model again"):
        Model.from_json({**with_regions().to_json(), "format": found})


def test_compute_is_known_where_every_scale_knows_it() -> None:
    model = with_regions()
    model.scales[0].times.compute.provenance[:] = 0
    assert model.compute_known
    model.scales[0].times.compute.provenance[0] = 2
    assert not model.compute_known


@settings(max_examples=30)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_evaluated_configurations_survive_as_bytes(rng: random.Random, rules: MakespanRules) -> None:
    model = random_model(rng, rules)
    nodes = model.nodes[0]
    found = evaluate_space(model.makespans(nodes))
    again = EvaluatedConfigurations.from_bytes(found.to_bytes())
    assert again.nodes == nodes
    assert len(again) == len(found) == len(model.space.layouts())
    for name in ("layouts", "makespan_s", "provenance", "on_critical_path"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
        assert getattr(again, name).dtype == getattr(found, name).dtype
    assert again.states() == found.states()
    assert sum(found.states().values()) == len(found)


def test_states_count_what_is_known_of_each_configuration() -> None:
    found = EvaluatedConfigurations(
        2,
        np.zeros((5, 1), np.int8),
        np.array([1.0, 1.0, np.nan, 2.0, 3.0]),
        np.array([0, 1, 3, 3, 0], np.int8),
        np.zeros((5, 1), bool),
        np.zeros(5, bool),
    )
    assert found.states() == {"measured": 2, "extrapolated": 1, "unmeasured": 1, "incomplete": 1}


def test_the_table_of_configurations_has_a_column_for_everything() -> None:
    model = with_regions()
    complete = configuration_frame(model.makespans(2), model.space.layouts())
    parts = ["movement_s", "shared_io_s", "local_io_s", "compute_s"]
    last = ["makespan_s", "critical_path", "state"]
    assert list(complete.columns) == ["nodes", "tier_a", "tier_b", *parts, *last]
    published = Model(CHAIN, model.catalog, REFERENCE, model.scales)
    reference = configuration_frame(published.makespans(2), published.space.layouts())
    levels = [f"{phase}_{level}" for phase in ("in", "exec", "out") for level in (1, 2)]
    assert list(reference.columns) == ["nodes", "tier_a", "tier_b", *levels, *parts, *last]
    assert len(complete) == 9
    assert len(reference) == 7
    np.testing.assert_allclose(reference[levels].sum(axis=1), reference["makespan_s"])


@settings(max_examples=20)
@given(seeds, st.sampled_from([COMPLETE, REFERENCE]))
def test_the_table_says_of_each_configuration_what_the_model_does(
    rng: random.Random, rules: MakespanRules
) -> None:
    model = random_model(rng, rules)
    nodes = model.nodes[-1]
    layouts = model.space.layouts()
    text = configuration_frame(model.makespans(nodes), layouts).to_csv(index=False)
    rows = list(csv.DictReader(io.StringIO(text)))
    makespans = model.makespans(nodes).makespan_s(layouts)
    assert len(rows) == len(layouts)
    for row, layout, makespan_s in zip(rows, layouts, makespans.tolist(), strict=True):
        assert row["nodes"] == str(nodes)
        assert {s: row[f"tier_{s}"] for s in model.workflow.stage_names} == tiers_of(model.space, layout)
        # To the last digit, and blank where it is not known.
        assert row["makespan_s"] == ("" if np.isnan(makespan_s) else repr(makespan_s))
        assert (row["state"] == "unmeasured") == bool(np.isnan(makespan_s))
