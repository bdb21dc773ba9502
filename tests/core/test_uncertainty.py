"""Draws of makespans: each is the makespan of a world in which every factor came out as drawn."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.transfer import FloatArray, TimeTable
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws, shares_of_best
from tests.support.models import random_model

seeds = st.integers(0, 2**32)
rule_sets = st.sampled_from([COMPLETE, REFERENCE])


def world(model: Model, nodes: int, factors: FactorDraws, draw: int) -> MakespanModel:
    """The model at one draw: every time multiplied by what its factor came out as."""
    times = model.scale(nodes).times
    profiles = [tier.profile_name for tier in model.catalog.tiers]

    def drawn(table: TimeTable, z: FloatArray) -> TimeTable:
        return replace(table, seconds=table.seconds * np.exp(table.log_sd * z))

    def of(*factor: str) -> float:
        return float(factors.of(factor)[draw])

    copies = np.array([[of("copy", a, b) for b in profiles] for a in profiles])
    return MakespanModel(
        model.workflow,
        model.catalog,
        replace(
            times,
            read=drawn(times.read, np.array([of("read", name) for name in profiles])),
            write=drawn(times.write, np.array([of("write", name) for name in profiles])),
            compute=drawn(times.compute, np.array([of("compute", name) for name in times.stages])),
            stage_in=drawn(times.stage_in, copies),
            stage_out=drawn(times.stage_out, copies),
        ),
        model.rules,
    )


@settings(max_examples=60, deadline=None)
@given(seeds, rule_sets)
def test_every_draw_is_the_makespan_of_the_times_drawn(seed: int, rules: MakespanRules) -> None:
    rng = random.Random(seed)
    # Who waits for whom is that of the estimate, in every draw.
    model = random_model(rng, rules, unknown=0.05, shares=False)
    factors = FactorDraws(count=4, seed=seed % 97)
    layouts = model.space.layouts()[:20]
    for nodes in model.nodes:
        draws = MakespanDraws(model.makespans(nodes), factors)
        for draw in range(4):
            want = world(model, nodes, factors, draw).makespan_s(layouts)
            have = [float(np.broadcast_to(draws.makespan_s(layout), 4)[draw]) for layout in layouts.tolist()]
            np.testing.assert_allclose(have, want, rtol=1e-12)


def test_a_factor_is_drawn_once_and_each_of_its_quantiles_comes_up() -> None:
    factors = FactorDraws(count=1001)
    read = factors.of(("read", "pfs"))
    assert read is factors.of(("read", "pfs"))
    assert np.array_equal(read, FactorDraws(count=1001).of(("read", "pfs")))
    assert not np.array_equal(read, factors.of(("write", "pfs")))
    assert np.median(read) == 0
    assert np.mean(np.abs(read) <= 1.6448536) == pytest.approx(0.9, abs=0.001)
    assert abs(np.corrcoef(read, factors.of(("write", "pfs")))[0, 1]) < 0.1


def test_without_spread_the_interval_is_the_estimate() -> None:
    model = certain(random_model(random.Random(3), COMPLETE, unknown=0.0))
    nodes, layout = model.nodes[0], model.space.layouts()[0]
    draws = MakespanDraws(model.makespans(nodes), FactorDraws())
    makespan_s = float(model.makespans(nodes).makespan_s(layout[None, :])[0])
    quantiles = draws.quantiles_s(layout.tolist())
    assert quantiles is not None
    assert list(quantiles.values()) == pytest.approx([makespan_s] * 3)
    assert draws.probability_within(layout.tolist(), makespan_s * 1.001) == 1.0
    assert draws.probability_within(layout.tolist(), makespan_s * 0.999) == 0.0


def certain(model: Model) -> Model:
    for scale in model.scales:
        for name in ("read", "write", "compute", "stage_in", "stage_out"):
            getattr(scale.times, name).log_sd[...] = 0.0
    return model


def test_a_spread_that_is_not_known_is_not_none() -> None:
    model = random_model(random.Random(3), COMPLETE, unknown=0.0)
    times = model.scale(model.nodes[0]).times
    layouts = model.space.layouts()
    times.read.seconds[0, 0] = 5.0
    times.read.log_sd[0, 0] = np.nan
    draws = MakespanDraws(model.makespans(model.nodes[0]), FactorDraws())
    assert draws.known(layouts).tolist() == (layouts[:, 0] != 0).tolist()
    assert draws.quantiles_s(layouts[0].tolist()) is None
    assert draws.quantiles_s(layouts[-1].tolist()) is not None


def test_ties_for_the_best_count_for_all_of_them() -> None:
    first, second, third = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.01]), np.array([9.0])
    assert shares_of_best([first, second, third]).tolist() == [0.75, 0.5, 0.0]
    assert shares_of_best([first, second, third], tolerance=0.05).tolist() == [0.75, 0.75, 0.0]
