"""Work that shares devices and processors: worked examples, a plain reading, and what holds for all."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core import contention
from qosflow_airflow.core.contention import as_shares
from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes, blank_tables
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.support.instances import (
    NODES,
    chain,
    platform,
    random_catalog,
    random_demand,
    random_layouts,
    random_times,
    random_workflow,
)
from tests.support.plain_contention import plain_makespan_s

instances = st.integers(0, 2**32).map(random.Random)
PLATFORM = platform(("pfs",), ("ssd", "tmpfs"))
FORK = Workflow(
    "fork",
    (
        Stage("a", 1, 4, {INITIAL_DATA: ()}),
        Stage("b", 2, 4, {"a": ()}, final=True),
        Stage("c", 2, 4, {"a": ()}, final=True),
    ),
)


def times_of(workflow: Workflow, *, share: float = 1.0, cores: float = 0.0, **seconds: float) -> StageTimes:
    """Every part takes the same wherever, a ``share`` of its tier, and computing one of the ``cores``."""
    stages, tiers, edges = len(workflow.stages), len(PLATFORM.tiers), len(workflow.edges)
    tables = blank_tables(stages, tiers, edges)
    for name, table in tables.items():
        table.seconds[...] = seconds.get(name, 0.0)
        table.provenance[...] = Provenance.MEASURED
        table.log_sd[...] = 0.0
    apart = np.broadcast_to(~np.eye(tiers, dtype=bool), (edges, tiers, tiers)) * 1.0
    demand = Demand(
        np.full((stages, tiers), share),
        np.full((stages, tiers), share),
        np.full(stages, cores),
        apart * share,
        apart * share,
    )
    return StageTimes(1, workflow.stage_names, PLATFORM.names, workflow.edges, **tables, demand=demand)


def makespan_s(times: StageTimes, workflow: Workflow = FORK, **tiers: str) -> float:
    space = ConfigurationSpace(workflow, PLATFORM, COMPLETE)
    return float(MakespanModel(workflow, PLATFORM, times, COMPLETE).makespan_s(space.layout(tiers))[0])


class TestWorkedExamples:
    def test_two_stages_that_write_to_one_device_take_twice_as_long(self) -> None:
        assert makespan_s(times_of(FORK, write=10.0), a="pfs", b="pfs", c="pfs") == 30.0

    def test_two_stages_that_write_to_two_devices_do_not_wait(self) -> None:
        assert makespan_s(times_of(FORK, write=10.0), a="pfs", b="ssd", c="tmpfs") == 20.0

    def test_a_device_that_two_do_not_use_up_keeps_nobody_waiting(self) -> None:
        assert makespan_s(times_of(FORK, share=0.5, write=10.0), a="pfs", b="pfs", c="pfs") == 20.0

    def test_beyond_that_all_wait_for_what_is_too_much(self) -> None:
        # Together they would take 1.5 of the device, and so they take half as long again.
        found = makespan_s(times_of(FORK, share=0.75, write=8.0), a="pfs", b="pfs", c="pfs")
        assert found == pytest.approx(8.0 + 8.0 * 1.5)

    def test_who_hardly_uses_a_device_hardly_waits_for_it(self) -> None:
        times = times_of(FORK, write=8.0)
        assert times.demand is not None
        times.demand.write[FORK.index["c"]] = 0.25
        model = MakespanModel(FORK, PLATFORM, times, COMPLETE)
        paid = model.charges(np.zeros((1, 3), dtype=np.int8))
        _, b, c = (paid.write[0] / 8.0).tolist()
        assert 1.0 < c < 1.1 < b < 1.25

    def test_computing_shares_the_processors_whatever_the_tiers(self) -> None:
        times = times_of(FORK, cores=1.0, compute=10.0)
        assert makespan_s(times, a="pfs", b="ssd", c="tmpfs") == 30.0
        assert makespan_s(times_of(FORK, cores=0.5, compute=10.0), a="pfs", b="ssd", c="tmpfs") == 20.0

    def test_copies_of_one_output_to_two_stages_share_its_tier(self) -> None:
        times = times_of(FORK, stage_in=4.0)
        # Outside input is on pfs; b and c copy a's output from there at the same time.
        assert makespan_s(times, a="pfs", b="ssd", c="tmpfs") == 8.0
        assert makespan_s(times, a="pfs", b="ssd", c="pfs") == 4.0

    def test_who_ends_first_leaves_the_device_to_the_others(self) -> None:
        times = times_of(FORK, write=10.0)
        times.write.seconds[FORK.index["c"]] = 4.0
        model = MakespanModel(FORK, PLATFORM, times, COMPLETE)
        layout = np.zeros((1, 3), dtype=np.int8)
        paid = model.charges(layout)
        # For 8 s each gets half; then b has 6 s to itself.
        assert paid.write[0].tolist() == pytest.approx([10.0, 14.0, 8.0])
        found = model.schedule(layout)
        assert found.makespan_s.tolist() == [24.0]
        assert found.split_s.sum(axis=1).tolist() == [24.0]

    def test_stages_in_a_row_never_wait(self) -> None:
        row = chain(("a", 2), ("b", 2))
        model = MakespanModel(row, PLATFORM, times_of(row, read=1.0, write=2.0, cores=1.0), COMPLETE)
        assert model.costs.contention is None

    def test_nothing_waits_where_no_demand_is_known_or_the_rules_do_not_count_it(self) -> None:
        times = times_of(FORK, write=10.0)
        layout = np.zeros((1, 3), dtype=np.int8)
        unknown = MakespanModel(FORK, PLATFORM, replace(times, demand=None), COMPLETE)
        assert unknown.makespan_s(layout).tolist() == [20.0]
        assert MakespanModel(FORK, PLATFORM, times, REFERENCE).costs.contention is None

    def test_intervals_lie_around_the_makespan_with_its_waiting(self) -> None:
        times = times_of(FORK, write=10.0)
        times.write.log_sd[...] = 0.1
        draws = MakespanDraws(MakespanModel(FORK, PLATFORM, times, COMPLETE), FactorDraws(1001))
        found = draws.interval((0, 0, 0))
        assert found is not None
        assert found["p50_s"] == pytest.approx(30.0)

    def test_an_unknown_time_stays_unknown_and_disturbs_no_other_layout(self) -> None:
        times = times_of(FORK, write=10.0)
        times.write.seconds[FORK.index["b"], 1] = np.nan
        times.write.provenance[FORK.index["b"], 1] = Provenance.UNKNOWN
        model = MakespanModel(FORK, PLATFORM, times, COMPLETE)
        found = model.makespan_s(np.array([[0, 1, 0], [0, 0, 0]], dtype=np.int8))
        assert np.isnan(found[0])
        assert found[1] == 30.0

    def test_demand_survives_json(self) -> None:
        times = times_of(FORK, write=10.0, cores=0.25)
        again = StageTimes.from_json(json.loads(json.dumps(times.to_json())))
        assert again.demand is not None
        for name in ("read", "write", "compute", "source", "destination"):
            assert (getattr(again.demand, name) == getattr(times.demand, name)).all()
        assert StageTimes.from_json(replace(times, demand=None).to_json()).demand is None


def random_case(rng: random.Random) -> tuple[MakespanModel, Layouts]:
    workflow, catalog = random_workflow(rng, 5), random_catalog(rng)
    times = random_demand(rng, random_times(rng, workflow, catalog, rng.choice(NODES), rng.choice((0, 0.05))))
    model = MakespanModel(workflow, catalog, times, COMPLETE)
    return model, random_layouts(rng, model.space, 12)


class TestProperties:
    @settings(max_examples=150, deadline=None)
    @given(instances)
    def test_it_is_what_a_plain_reading_finds(self, rng: random.Random) -> None:
        model, layouts = random_case(rng)
        found = model.makespan_s(layouts)
        plain = [plain_makespan_s(model, row) for row in layouts.tolist()]
        assert found.tolist() == pytest.approx(plain, nan_ok=True)

    @settings(max_examples=100, deadline=None)
    @given(instances)
    def test_nothing_is_faster_than_alone_and_no_run_slower_than_one_by_one(self, rng: random.Random) -> None:
        model, layouts = random_case(rng)
        alone = MakespanModel(model.workflow, model.catalog, replace(model.times, demand=None), COMPLETE)
        least, found, paid = alone.makespan_s(layouts), model.makespan_s(layouts), alone.charges(layouts)
        assert (np.isnan(least) == np.isnan(found)).all()
        known = ~np.isnan(found)
        assert (found >= least)[known].all()
        assert (found <= sum(part.sum(axis=1) for part in paid) * (1 + 1e-9))[known].all()

    @given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=12))
    def test_what_is_at_work_uses_a_resource_up_and_hardly_more(self, values: list[float]) -> None:
        shares = as_shares(np.array(values))[None, :, None]
        beyond = contention._beyond(shares, shares**2, np.ones((len(values), 1)))[0, 0]
        used = float((shares / (1 + shares * beyond)).sum())
        assert min(1.0, shares.sum()) - 1e-9 <= used <= min(1.35, shares.sum())

    @settings(max_examples=50, deadline=None)
    @given(instances)
    def test_a_layout_takes_the_same_to_the_last_bit_in_any_company(self, rng: random.Random) -> None:
        model, layouts = random_case(rng)
        together = model.makespan_s(layouts)
        one_by_one = [model.makespan_s(layouts[row : row + 1])[0] for row in range(len(layouts))]
        assert np.array_equal(together, one_by_one, equal_nan=True)

    @settings(max_examples=50, deadline=None)
    @given(instances)
    def test_what_is_paid_adds_up_to_the_makespan(self, rng: random.Random) -> None:
        model, layouts = random_case(rng)
        schedule = model.schedule(layouts)
        known = ~np.isnan(schedule.makespan_s)
        assert schedule.split_s.sum(axis=1)[known] == pytest.approx(schedule.makespan_s[known])


def test_blocks_of_configurations_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    model, layouts = random_case(rng)
    while model.costs.contention is None or len(layouts) < 5:
        model, layouts = random_case(rng)
    whole = model.makespan_s(layouts)
    monkeypatch.setattr(contention, "BLOCK", 2)
    assert np.array_equal(model.makespan_s(layouts), whole, equal_nan=True)


def test_shares_are_sums_without_rounding() -> None:
    shares: FloatArray = as_shares(np.array([0.1, 0.2, 0.3, np.nan, 2.0, -1.0]))
    assert shares.tolist()[3:] == [0.0, 1.0, 0.0]
    assert (shares * 2**20 == np.rint(shares * 2**20)).all()
