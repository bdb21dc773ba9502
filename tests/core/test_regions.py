from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.boxes import obeyed
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.policies import policy_qualities
from qosflow_airflow.core.region_fit import RegionOptions, fit_regions
from qosflow_airflow.core.regions import RegionSet, Rule
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.stage_roles import CRITICAL_SHARE
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import MeasurementError, RequestError, TierError
from tests.core.reference_space import SPACES, expected_concordances, reference_space
from tests.support.instances import chain, platform, random_catalog, random_times, random_workflow

WORKFLOW = chain(("one", 4), ("two", 4), ("three", 4))
CATALOG = platform(local=("tmpfs", "ssd"))
LAYOUTS = ConfigurationSpace(WORKFLOW, CATALOG, COMPLETE).layouts()
MODEL = MakespanModel(WORKFLOW, CATALOG, random_times(random.Random(1), WORKFLOW, CATALOG, 2), COMPLETE)
QUICK = RegionOptions(folds=3, repeats=1)


@dataclass(frozen=True)
class Evaluated:
    makespan_s: FloatArray
    on_critical_path: np.ndarray


def regions_of(
    makespan_s: FloatArray, layouts: Layouts = LAYOUTS, options: RegionOptions = QUICK
) -> RegionSet:
    on_path = np.ones(layouts.shape, dtype=bool)
    return fit_regions(MODEL, layouts, Evaluated(makespan_s, on_path), options=options)


def random_space(seed: int, rules: MakespanRules) -> tuple[MakespanModel, Layouts]:
    rng = random.Random(seed)
    workflow = random_workflow(rng, 5)
    catalog = random_catalog(rng, shared=2 if rules.moves_between_local_tiers else 1)
    model = MakespanModel(workflow, catalog, random_times(rng, workflow, catalog, 2, 0.05), rules)
    return model, ConfigurationSpace(workflow, catalog, rules).layouts()


def whole_product(found: RegionSet) -> Layouts:
    tiers = range(len(found.tier_names))
    return np.array(list(itertools.product(tiers, repeat=len(found.stage_names))), dtype=np.int8)


def obeying(found: RegionSet, rule: Rule, layouts: Layouts) -> np.ndarray:
    box = np.array([[tier in rule.within[s] for tier in found.tier_names] for s in found.stage_names])
    return obeyed(box, rule.asked, layouts, found.space)


# ---- what must hold for every space


@given(st.integers(0, 100_000), st.sampled_from([COMPLETE, REFERENCE]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_regions_partition_any_space(seed: int, rules: MakespanRules) -> None:
    model, layouts = random_space(seed, rules)
    schedule = model.schedule(layouts)
    measured = ~np.isnan(schedule.makespan_s)
    if not measured.any():
        with pytest.raises(MeasurementError, match="no configuration on 2 nodes"):
            fit_regions(model, layouts, schedule, options=QUICK)
        return
    found = fit_regions(model, layouts, schedule, options=QUICK)

    # Every layout, possible or not, obeys exactly one rule.
    everything = whole_product(found)
    rules = [(region.id, rule) for region in found.regions for rule in region.rules]
    inside = np.array([obeying(found, rule, everything) for _, rule in rules])
    assert (inside.sum(axis=0) == 1).all()
    assert (found.classify(everything) == np.array([r for r, _ in rules])[inside.argmax(axis=0)]).all()

    # A rule holds exactly its measured layouts, as it stands and as it is said.
    for region, rule in rules:
        mine = measured & obeying(found, rule, layouts)
        assert rule.size == mine.sum() > 0
        said = rule._replace(within=rule.tiers, asked=rule.needed)
        assert (obeying(found, said, layouts[measured]) == mine[measured]).all()
        for s, name in enumerate(found.stage_names):
            taken = {found.tier_names[t] for t in layouts[mine, s]}
            assert set(rule.tiers[name]) == taken
            assert (name in rule.anywhere) == (taken == {found.tier_names[t] for t in layouts[:, s]})
        assert (found.classify(layouts[mine]) == region).all()

    # What a region says of its configurations is what they are.
    where = found.classify(layouts)
    assert [region.id for region in found.regions] == list(range(found.count))
    medians = [region.median_s for region in found.regions]
    assert medians == sorted(medians)
    for region in found.regions:
        mine = measured & (where == region.id)
        times = schedule.makespan_s[mine]
        assert region.size == len(times) > 0
        assert (region.min_s, region.max_s) == (times.min(), times.max())
        assert region.median_s == pytest.approx(np.median(times))
        assert region.q10_s <= region.q25_s <= region.median_s <= region.q75_s <= region.q90_s
        for s, name in enumerate(found.stage_names):
            taken = {found.tier_names[t] for t in layouts[mine, s]}
            possible = {found.tier_names[t] for t in layouts[:, s]}
            rule = region.stages[name]
            assert set(rule.tiers) == taken <= set(rule.within)
            assert rule.anywhere == (taken == possible)
            assert rule.path_share == pytest.approx(schedule.on_critical_path[mine, s].mean())
            for t, tier in enumerate(found.tier_names):
                assert rule.share[tier] == pytest.approx((layouts[mine, s] == t).mean())
        split_s = np.median(schedule.split_s[mine], axis=0)
        assert list(region.bottleneck.split_s.values()) == pytest.approx(split_s.tolist())
    assert sum(region.size for region in found.regions) == found.measured == measured.sum()
    assert found.unmeasured == (~measured).sum()

    # Plain JSON, without NaN or infinity, and back.
    assert RegionSet.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@given(st.integers(0, 100_000), st.sampled_from([COMPLETE, REFERENCE]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_roles_hold_when_tiers_are_swapped(seed: int, rules: MakespanRules) -> None:
    model, layouts = random_space(seed, rules)
    schedule = model.schedule(layouts)
    if np.isnan(schedule.makespan_s).all():
        return
    options = RegionOptions(folds=3, repeats=1, tolerance=0.1)
    found = fit_regions(model, layouts, schedule, options=options)
    space = ConfigurationSpace(model.workflow, model.catalog, rules)
    where = found.classify(layouts)
    for region in found.regions:
        rows = np.flatnonzero((where == region.id) & ~np.isnan(schedule.makespan_s))
        for s, name in enumerate(found.stage_names):
            changes = []
            for row in rows:
                swapped = np.repeat(layouts[row : row + 1], len(found.tier_names), axis=0)
                swapped[:, s] = np.arange(len(swapped))
                swapped = swapped[(swapped[:, s] != layouts[row, s]) & space.valid(swapped)]
                own = schedule.makespan_s[row]
                changes.append(np.abs(model.makespan_s(swapped) - own) / own)
            largest = [np.nanmax(c) for c in changes if np.isfinite(c).any()]
            critical = (
                schedule.on_critical_path[rows, s].mean() >= CRITICAL_SHARE
                and len(largest) > 0
                and np.median(largest) > 0.1
            )
            flexible = len(largest) > 0 and all((c <= 0.1).all() for c in changes)
            wanted = "critical" if critical else "flexible" if flexible else "constrained"
            assert region.stages[name].role == wanted, (region.id, name)


# ---- spaces that one can think through


def test_a_makespan_that_one_stage_decides() -> None:
    found = regions_of(np.array([10.0, 20.0, 40.0])[LAYOUTS[:, 1]])
    assert [region.median_s for region in found.regions] == [10.0, 20.0, 40.0]
    assert [region.stages["two"].tiers for region in found.regions] == [("pfs",), ("tmpfs",), ("ssd",)]
    for region in found.regions:
        assert region.size == 9
        assert not region.stages["two"].anywhere
        assert region.stages["one"].anywhere
        assert region.stages["three"].tiers == CATALOG.names
        assert region.with_role("critical") == ("two",)
        assert region.with_role("flexible") == ("one", "three")
    assert (found.concordance_held_out, found.mae_held_out_s, found.separation) == (1.0, 0.0, 1.0)
    assert found.curve[-1] == (3, 1.0, 0.0)
    assert not found.structure
    assert found.regions[0].signature["two"] == {
        "role": "critical",
        "share": {"pfs": 1.0, "tmpfs": 0.0, "ssd": 0.0},
    }


def test_a_constant_makespan_is_one_region() -> None:
    found = regions_of(np.full(len(LAYOUTS), 12.5))
    assert found.count == 1
    assert found.regions[0].stages["one"].tiers == CATALOG.names
    assert (found.concordance_held_out, found.mae_held_out_s, found.separation) == (1.0, 0.0, None)


def test_rounding_is_no_reason_for_a_region() -> None:
    noise = np.random.default_rng(1).uniform(-1e-13, 1e-13, len(LAYOUTS))
    assert regions_of(12.5 + noise).count == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_layouts(count: int) -> None:
    found = regions_of(np.arange(1.0, count + 1), LAYOUTS[:count])
    assert found.measured == count
    assert (found.classify(LAYOUTS) < found.count).all()
    assert (found.concordance_held_out is None) == (count == 1)


def test_unmeasured_layouts_take_no_part() -> None:
    makespan_s = np.array([10.0, 20.0, 40.0])[LAYOUTS[:, 1]]
    makespan_s[LAYOUTS[:, 0] == 2] = np.nan
    found = regions_of(makespan_s)
    assert (found.measured, found.unmeasured) == (18, 9)
    for region in found.regions:
        # ssd is possible for the first stage, but nothing is known of it there.
        assert region.stages["one"].tiers == ("pfs", "tmpfs")
        assert not region.stages["one"].anywhere
        assert region.stages["one"].role == "constrained"
    with pytest.raises(MeasurementError, match="Measure"):
        regions_of(np.full(len(LAYOUTS), np.nan))


def test_copies_of_a_layout_are_never_foretold_from_each_other() -> None:
    # Makespans are noise: only a copy in the training folds could tell them.
    noise = np.random.default_rng(2).normal(10.0, 1.0, len(LAYOUTS))
    options = RegionOptions(folds=5, repeats=3)
    found = regions_of(np.tile(noise, 3), np.tile(LAYOUTS, (3, 1)), options)
    assert found.concordance_held_out is not None
    assert found.concordance_held_out < 0.7


def test_the_same_seed_gives_the_same_regions() -> None:
    makespan_s = np.random.default_rng(3).lognormal(size=len(LAYOUTS))
    assert regions_of(makespan_s) == regions_of(makespan_s)


def test_a_large_space_is_fitted_to_a_sample_and_described_whole() -> None:
    makespan_s = np.array([10.0, 20.0, 40.0])[LAYOUTS[:, 1]] + LAYOUTS[:, 0]
    found = regions_of(makespan_s, options=RegionOptions(folds=3, repeats=1, max_fitted=20))
    assert found.sampled
    assert (found.fitted, found.measured) == (20, 27)
    assert sum(region.size for region in found.regions) == 27
    assert not regions_of(makespan_s).sampled


def test_options_bound_the_regions() -> None:
    makespan_s = LAYOUTS @ np.array([100.0, 10.0, 1.0]) + 1
    assert regions_of(makespan_s, options=RegionOptions(folds=3, repeats=1, max_regions=4)).count <= 4
    found = regions_of(makespan_s, options=RegionOptions(folds=3, repeats=1, min_layouts=5))
    assert min(rule.size for region in found.regions for rule in region.rules) >= 5
    plain = regions_of(makespan_s, options=RegionOptions(regions=6, rules_per_region=1, folds=3, repeats=1))
    assert [len(region.rules) for region in plain.regions] == [1] * 6


@pytest.mark.parametrize("asked", [1, 2, 5, 9])
def test_as_many_regions_as_asked_for(asked: int) -> None:
    makespan_s = LAYOUTS @ np.array([100.0, 10.0, 1.0]) + 1
    found = regions_of(makespan_s, options=RegionOptions(folds=3, repeats=1, regions=asked))
    assert found.count == asked == found.curve[-1][0]
    assert found.concordance_held_out == found.curve[-1][1]
    assert all(len(region.rules) <= 3 for region in found.regions)


def test_a_sample_of_a_space_without_end() -> None:
    rng = random.Random(5)
    workflow = chain(*((f"stage{k:02}", 2) for k in range(45)))
    model = MakespanModel(workflow, CATALOG, random_times(rng, workflow, CATALOG, 2), COMPLETE)
    layouts = np.random.default_rng(5).integers(0, 3, (200, 45)).astype(np.int8)
    found = fit_regions(model, layouts, model.schedule(layouts), options=QUICK)
    assert found.measured == 200
    # No swap leads to another layout of the sample: all of them were evaluated.
    changes = [rule.swap_change for region in found.regions for rule in region.stages.values()]
    assert all(change is not None for change in changes)
    assert max(change or 0.0 for change in changes) > 0


def test_moves_are_named_where_they_are_what_counts() -> None:
    moved = (LAYOUTS[:, 0] != LAYOUTS[:, 1]) * 50.0
    found = regions_of(10.0 + moved + LAYOUTS[:, 2])
    assert found.structure
    fastest = found.regions[0]
    assert fastest.stages["one"].anywhere
    assert [one.holds for one in fastest.rules[0].needed] == [False]


def test_a_sample_of_a_space_is_enough_to_fit_and_to_verify_roles() -> None:
    schedule = MODEL.schedule(LAYOUTS)
    everything = fit_regions(MODEL, LAYOUTS, schedule, options=QUICK)
    chosen = np.sort(np.random.default_rng(1).choice(len(LAYOUTS), 20, replace=False))
    part = Evaluated(schedule.makespan_s[chosen], schedule.on_critical_path[chosen])
    found = fit_regions(MODEL, LAYOUTS[chosen], part, options=QUICK)
    assert found.measured == 20
    assert set(found.classify(LAYOUTS).tolist()) <= set(range(found.count))
    # A swap leads out of the sample, but not out of the space.
    assert all(rule.swap_change is not None for region in found.regions for rule in region.stages.values())
    assert everything.bottleneck.part == found.bottleneck.part


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_regions": 0},
        {"regions": 0},
        {"rules_per_region": 0},
        {"min_layouts": 0},
        {"folds": 1},
        {"repeats": 0},
        {"max_fitted": 0},
        {"tolerance": -0.1},
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        RegionOptions(**wrong)  # type: ignore[arg-type]


def test_layouts_of_another_workflow_or_platform() -> None:
    found = regions_of(np.array([10.0, 20.0, 40.0])[LAYOUTS[:, 1]])
    with pytest.raises(TierError, match="3 tiers"):
        found.classify(np.zeros((1, 2), dtype=np.int8))
    with pytest.raises(TierError, match="do not know"):
        found.classify(np.array([[0, 0, 3]], dtype=np.int8))
    assert found.classify(np.zeros((0, 3), dtype=np.int8)).tolist() == []


def test_reading_regions_needs_numpy_only() -> None:
    found = regions_of(np.array([10.0, 20.0, 40.0])[LAYOUTS[:, 1]])
    program = (
        "import json, sys, numpy as np\n"
        "from qosflow_airflow.core.regions import RegionSet\n"
        "found = RegionSet.from_json(json.load(sys.stdin))\n"
        "print(found.classify(np.array([[0, 2, 0], [0, 0, 0]], dtype=np.int8)).tolist())\n"
        "print([name for name in ('sklearn', 'scipy') if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(found.to_json()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == ["[2, 0]", "[]"]


# ---- the public workflows


@pytest.mark.reference
@pytest.mark.parametrize(("name", "nodes"), SPACES)
def test_regions_order_the_public_workflows_better_than_policies(name: str, nodes: int) -> None:
    model, layouts, schedule = reference_space(name, nodes)
    found = fit_regions(model, layouts, schedule)
    assert found.measured == len(layouts)
    assert found.concordance_held_out is not None
    policies = policy_qualities(model, layouts, schedule.makespan_s).values()
    assert found.concordance_held_out > max(quality.concordance or 0.0 for quality in policies) + 0.1
    # The artifact's own regions, held out by layout.
    theirs = expected_concordances(name, nodes)["QoSFlow_oof_grouped"]["pc_leakfree"]
    assert found.concordance_held_out > theirs - 0.005
    assert found.regions[0].median_s < np.median(schedule.makespan_s) / 1.25
