"""Makespans: a worked example, and what holds for every configuration."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules, rules_named
from qosflow_airflow.core.schedule import Schedule
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow
from qosflow_airflow.exceptions import RequestError
from tests.support.instances import NODES, chain, platform, random_catalog, random_times, random_workflow

instances = st.integers(0, 2**32).map(random.Random)
TABLES = ("read", "write", "compute", "stage_in", "stage_out")


def even_times(workflow: Workflow, catalog: TierCatalog, nodes: int = 2, **seconds: float) -> StageTimes:
    """Times that are the same wherever: ``read``, ``write``, ``compute``, ``stage_in``, ``stage_out``."""
    tables = blank_tables(len(workflow.stages), len(catalog.tiers), len(workflow.edges))
    for name, table in tables.items():
        table.seconds[...] = seconds.get(name, 0.0)
        table.provenance[...] = Provenance.MEASURED
        table.tasks_per_node[...] = 1
    return StageTimes(nodes, workflow.stage_names, catalog.names, workflow.edges, **tables)


def schedule_of(
    times: StageTimes,
    workflow: Workflow,
    catalog: TierCatalog,
    rules: MakespanRules = COMPLETE,
    **tiers: str,
) -> Schedule:
    space = ConfigurationSpace(workflow, catalog, rules)
    return MakespanModel(workflow, catalog, times, rules).schedule(space.layout(tiers))


def case(rng: random.Random, unknown: float = 0.0) -> tuple[MakespanModel, ConfigurationSpace]:
    """A random model under the complete rules with its space, small enough to evaluate whole."""
    workflow, catalog = random_workflow(rng, 4), random_catalog(rng)
    times = random_times(rng, workflow, catalog, rng.choice(NODES), unknown)
    return MakespanModel(workflow, catalog, times, COMPLETE), ConfigurationSpace(workflow, catalog, COMPLETE)


# A diamond whose upper branch is on the home tier and whose lower branch is local to the nodes.
PLATFORM = platform(("pfs",), ("tmpfs", "ssd"))
DIAMOND = Workflow(
    "diamond",
    (
        Stage("a", 1, 4, {INITIAL_DATA: ()}),
        Stage("b", 2, 4, {"a": ()}),
        Stage("c", 2, 4, {"a": ()}),
        Stage("d", 3, 4, {"b": (), "c": ()}),
    ),
)


class TestDiamond:
    """Each stage reads 1 s, computes 10 s and writes 2 s; a copy in takes 100 s, a copy out 1000 s."""

    TIMES = even_times(DIAMOND, PLATFORM, read=1.0, compute=10.0, write=2.0, stage_in=100.0, stage_out=1000.0)

    def test_the_longest_path_without_a_barrier(self) -> None:
        found = schedule_of(self.TIMES, DIAMOND, PLATFORM, a="pfs", b="pfs", c="tmpfs", d="pfs")
        # a 13 s, in to c 100 s, c 13 s, out of c 1000 s, d 13 s
        assert found.makespan_s.tolist() == [1139.0]
        assert found.split_s.tolist() == [[1100.0, 6.0, 3.0, 30.0]]
        assert found.critical_paths() == [
            (
                "read_a(2)->compute_a(2)->write_a(2)->stage_in_c(1)->read_c(2)->compute_c(2)->write_c(2)"
                "->stage_out_c(1)->read_d(2)->compute_d(2)->write_d(2)"
            )
        ]
        assert found.on_critical_path.tolist() == [[True, False, True, True]]
        assert found.level_s is None

    def test_the_barrier_pays_both_ends_phase_by_phase(self) -> None:
        found = schedule_of(self.TIMES, DIAMOND, PLATFORM, REFERENCE, a="pfs", b="pfs", c="tmpfs", d="pfs")
        assert found.level_s is not None
        assert {phase: seconds[0].tolist() for phase, seconds in found.level_s.items()} == {
            "in": [0.0, 100.0, 0.0],
            "exec": [13.0, 13.0, 13.0],
            "out": [1000.0, 1000.0, 0.0],  # a's copy to tmpfs as well as c's back
        }
        assert found.makespan_s.tolist() == [2139.0]
        assert found.critical_paths() == [
            (
                "read_a(2)->compute_a(2)->write_a(2)->stage_out_a(1)->stage_in_c(1)"
                # b and c take equally long: b comes first in the alphabet
                "->read_b(2)->compute_b(2)->write_b(2)->stage_out_c(1)->read_d(2)->compute_d(2)->write_d(2)"
            )
        ]

    def test_a_level_waits_for_nobody_without_a_barrier(self) -> None:
        # b could start later than c's predecessor ends only behind a barrier.
        times = even_times(DIAMOND, PLATFORM)
        times.compute.seconds[:] = [1.0, 5.0, 1.0, 1.0]
        apart = Workflow("apart", (*DIAMOND.stages[:3], Stage("d", 3, 4, {"c": ()})))
        found = even_times(apart, PLATFORM)
        found.compute.seconds[:] = [1.0, 5.0, 1.0, 1.0]
        on = dict.fromkeys("abcd", "pfs")
        assert schedule_of(times, DIAMOND, PLATFORM, **on).makespan_s.tolist() == [7.0]
        assert schedule_of(found, apart, PLATFORM, **on).makespan_s.tolist() == [6.0]
        assert schedule_of(found, apart, PLATFORM, REFERENCE, **on).makespan_s.tolist() == [7.0]


class TestCopiesUnderTheCompleteRules:
    """A copy in takes 100 s, a copy out 1000 s, nothing else takes time: the makespan counts copies."""

    CHAIN = chain(("a", 4), ("b", 4))
    WIDE = platform(("pfs", "nfs"), ("tmpfs", "ssd"))

    def copies(self, workflow: Workflow, nodes: int = 2, **tiers: str) -> tuple[int, int]:
        """How many copies in and copies out stand on the critical path."""
        times = even_times(workflow, self.WIDE, nodes, stage_in=100.0, stage_out=1000.0)
        makespan_s = schedule_of(times, workflow, self.WIDE, **tiers).makespan_s[0]
        return int(makespan_s % 1000 / 100), int(makespan_s // 1000)

    def test_all_on_the_home_tier_moves_nothing(self) -> None:
        assert self.copies(self.CHAIN, a="pfs", b="pfs") == (0, 0)

    def test_a_transfer_is_paid_once(self) -> None:
        assert self.copies(self.CHAIN, a="pfs", b="tmpfs") == (1, 1)  # in to b; b's flush
        assert self.copies(self.CHAIN, a="tmpfs", b="pfs") == (1, 1)  # in to a; out to b
        assert self.copies(self.CHAIN, a="nfs", b="pfs") == (1, 1)  # from home to nfs and back

    def test_final_outputs_on_another_shared_tier_go_home_too(self) -> None:
        assert self.copies(self.CHAIN, a="pfs", b="nfs") == (0, 2)

    def test_two_different_local_tiers_meet_on_the_home_tier(self) -> None:
        times = even_times(self.CHAIN, self.WIDE, stage_in=np.nan, stage_out=np.nan)
        tier = self.WIDE.index
        middle, into, end = (
            times.edges.index(Edge(*e)) for e in (("a", "b"), (INITIAL_DATA, "a"), ("b", FINAL_DATA))
        )
        # Only the legs by way of the home tier have a time.
        times.stage_in.seconds[into, tier["pfs"], tier["tmpfs"]] = 1.0
        times.stage_out.seconds[middle, tier["tmpfs"], tier["pfs"]] = 10.0
        times.stage_in.seconds[middle, tier["pfs"], tier["ssd"]] = 100.0
        times.stage_out.seconds[end, tier["ssd"], tier["pfs"]] = 1000.0
        assert schedule_of(times, self.CHAIN, self.WIDE, a="tmpfs", b="ssd").makespan_s.tolist() == [1111.0]

    def test_two_different_local_tiers_on_one_node_need_one_copy(self) -> None:
        # into a, from a to b, and home from b
        assert self.copies(self.CHAIN, 1, a="tmpfs", b="ssd") == (1, 2)
        assert self.copies(self.CHAIN, 2, a="tmpfs", b="ssd") == (2, 2)

    @pytest.mark.parametrize(("nodes", "expected"), [(1, (1, 1)), (2, (1, 2))])
    def test_the_same_local_tier_moves_nothing_on_a_single_node(
        self, nodes: int, expected: tuple[int, int]
    ) -> None:
        assert self.copies(self.CHAIN, nodes, a="tmpfs", b="tmpfs") == expected

    def test_a_final_output_is_flushed_whichever_level_its_stage_stands_on(self) -> None:
        kept = chain(("a", 4), ("b", 4), final=["a"])
        assert self.copies(kept, a="tmpfs", b="pfs") == (1, 1)
        early = Workflow(
            "early", (Stage("a", 1, 4, {INITIAL_DATA: ()}), Stage("b", 2, 4, {INITIAL_DATA: ()}))
        )
        assert self.copies(early, a="tmpfs", b="pfs") == (1, 1)
        times = even_times(early, self.WIDE, stage_out=1000.0)
        found = schedule_of(times, early, self.WIDE, REFERENCE, a="tmpfs", b="pfs")
        assert found.makespan_s.tolist() == [0.0]  # the published rules forget it


@settings(max_examples=40)
@given(instances)
def test_all_on_the_home_tier_moves_nothing(rng: random.Random) -> None:
    model, space = case(rng)
    layout = space.layout(dict.fromkeys(space.workflow.stage_names, space.catalog.home))
    charges = model.charges(layout)
    assert not charges.into.any()
    assert not charges.out_of.any()
    assert model.schedule(layout).split_s[0, [0, 2]].tolist() == [0.0, 0.0]


@settings(max_examples=40)
@given(instances)
def test_on_one_node_a_local_tier_moves_only_the_outside(rng: random.Random) -> None:
    workflow, catalog = random_workflow(rng, 4), random_catalog(rng)
    times = random_times(rng, workflow, catalog, nodes=1)
    space = ConfigurationSpace(workflow, catalog, COMPLETE)
    for tier in catalog.names:
        layout = space.layout(dict.fromkeys(workflow.stage_names, tier))
        charges = MakespanModel(workflow, catalog, times, COMPLETE).charges(layout)
        inner = [set(edge) <= set(workflow.index) for edge in times.edges]
        assert not (charges.into + charges.out_of)[0, inner].any()


@settings(max_examples=40)
@given(instances)
def test_every_final_output_that_is_not_at_home_is_flushed(rng: random.Random) -> None:
    model, space = case(rng)
    home = space.catalog.index[space.catalog.home]
    layouts = space.layouts()
    charges = model.charges(layouts)
    for e, edge in enumerate(model.times.edges):
        if edge.consumer == FINAL_DATA:
            tier = layouts[:, space.workflow.index[edge.producer]]
            expected = np.where(tier == home, 0.0, model.times.stage_out.seconds[e, tier, home])
            np.testing.assert_array_equal(charges.out_of[:, e], expected)
            assert not charges.into[:, e].any()


@settings(max_examples=40)
@given(instances, st.data())
def test_a_longer_time_never_shortens_a_makespan(rng: random.Random, data: st.DataObject) -> None:
    model, space = case(rng)
    layouts = space.layouts()
    before = model.makespan_s(layouts)
    table = getattr(model.times, data.draw(st.sampled_from(TABLES)))
    cells = table.seconds.reshape(-1)
    cells[data.draw(st.integers(0, len(cells) - 1))] += data.draw(st.floats(0, 20))
    fresh = MakespanModel(model.workflow, model.catalog, model.times, COMPLETE)
    assert (fresh.makespan_s(layouts) >= before - 1e-12).all()


@settings(max_examples=40)
@given(instances)
def test_a_makespan_is_at_least_what_any_stage_takes_and_at_most_everything(rng: random.Random) -> None:
    model, space = case(rng)
    layouts = space.layouts()
    charges = model.charges(layouts)
    execution = charges.read + charges.compute + charges.write
    makespan_s = model.makespan_s(layouts)
    assert (makespan_s >= execution.max(axis=1) - 1e-9).all()
    everything = execution.sum(axis=1) + (charges.into + charges.out_of).sum(axis=1)
    assert (makespan_s <= everything + 1e-9).all()


@settings(max_examples=40)
@given(instances)
def test_an_unknown_time_makes_exactly_the_configurations_that_need_it_unknown(rng: random.Random) -> None:
    model, space = case(rng)
    layouts = space.layouts()
    name = rng.choice(("read", "write"))
    s, t = rng.randrange(layouts.shape[1]), rng.randrange(len(space.catalog.tiers))
    known = model.schedule(layouts)
    getattr(model.times, name).put((s, t), np.nan, Provenance.UNKNOWN)
    found = MakespanModel(model.workflow, model.catalog, model.times, COMPLETE).schedule(layouts)
    needs_it = layouts[:, s] == t
    assert np.isnan(found.makespan_s[needs_it]).all()
    assert (found.provenance[needs_it] == Provenance.UNKNOWN).all()
    np.testing.assert_array_equal(found.makespan_s[~needs_it], known.makespan_s[~needs_it])


@settings(max_examples=40)
@given(instances)
def test_unknown_is_nan_and_never_a_number(rng: random.Random) -> None:
    model, space = case(rng, unknown=0.15)
    found = model.schedule(space.layouts())
    np.testing.assert_array_equal(np.isnan(found.makespan_s), found.provenance == Provenance.UNKNOWN)


@settings(max_examples=40)
@given(instances)
def test_behind_a_barrier_an_unknown_time_is_free_only_where_the_rules_say_so(rng: random.Random) -> None:
    workflow, catalog = random_workflow(rng, 4), random_catalog(rng, shared=1)
    times = random_times(rng, workflow, catalog, 2, unknown=0.15)
    layouts = ConfigurationSpace(workflow, catalog, REFERENCE).layouts()
    published = MakespanModel(workflow, catalog, times, REFERENCE).schedule(layouts)
    assert not np.isnan(published.makespan_s).any()
    strict = MakespanModel(workflow, catalog, times, REFERENCE._replace(missing_is_zero=False)).schedule(
        layouts
    )
    np.testing.assert_array_equal(np.isnan(strict.makespan_s), strict.provenance == Provenance.UNKNOWN)
    known = strict.provenance < Provenance.UNKNOWN
    np.testing.assert_array_equal(strict.makespan_s[known], published.makespan_s[known])


@settings(max_examples=40)
@given(instances, st.sampled_from([COMPLETE, REFERENCE]))
def test_a_configuration_alone_takes_what_it_takes_among_others(
    rng: random.Random, rules: MakespanRules
) -> None:
    workflow, catalog = random_workflow(rng, 4), random_catalog(rng, shared=1)
    times = random_times(rng, workflow, catalog, 2)
    model = MakespanModel(workflow, catalog, times, rules)
    layouts = ConfigurationSpace(workflow, catalog, rules).layouts()
    together = model.schedule(layouts)
    row = rng.randrange(len(layouts))
    alone = model.schedule(layouts[row : row + 1])
    assert alone.makespan_s[0] == together.makespan_s[row]
    assert alone.critical_paths()[0] == together.critical_paths()[row]
    np.testing.assert_array_equal(alone.split_s[0], together.split_s[row])


@settings(max_examples=40)
@given(instances, st.sampled_from([COMPLETE, REFERENCE]))
def test_the_parts_of_a_makespan_add_up(rng: random.Random, rules: MakespanRules) -> None:
    workflow, catalog = random_workflow(rng, 4), random_catalog(rng, shared=1)
    model = MakespanModel(workflow, catalog, random_times(rng, workflow, catalog, 2), rules)
    found = model.schedule(ConfigurationSpace(workflow, catalog, rules).layouts())
    np.testing.assert_allclose(found.split_s.sum(axis=1), found.makespan_s, rtol=1e-12)
    if found.level_s is not None:
        parts = sum(seconds.sum(axis=1) for seconds in found.level_s.values())
        np.testing.assert_allclose(parts, found.makespan_s, rtol=1e-12)


def test_rules_are_known_by_name() -> None:
    assert rules_named("complete") is COMPLETE
    assert rules_named("reference") is REFERENCE
    with pytest.raises(RequestError, match=r"unknown rules 'published'\. Use one of complete, reference"):
        rules_named("published")


def test_each_difference_between_the_rule_sets_can_be_switched_alone() -> None:
    times = even_times(DIAMOND, PLATFORM, read=1.0, stage_in=100.0, stage_out=1000.0)
    on = {"a": "pfs", "b": "pfs", "c": "tmpfs", "d": "pfs"}
    no_barrier = REFERENCE._replace(level_barrier=False)
    paid_once = REFERENCE._replace(pays_both_ends=False)
    assert schedule_of(times, DIAMOND, PLATFORM, REFERENCE, **on).makespan_s.tolist() == [2103.0]
    assert schedule_of(times, DIAMOND, PLATFORM, no_barrier, **on).makespan_s.tolist() == [2103.0]
    assert schedule_of(times, DIAMOND, PLATFORM, paid_once, **on).makespan_s.tolist() == [1103.0]
