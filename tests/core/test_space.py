"""The configuration space: its order, its blocks, and what the rules allow."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.space import MAX_LAYOUTS, Configuration, ConfigurationSpace
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import SpaceTooLargeError, TierError
from tests.support.instances import chain, platform, random_catalog, random_workflow, tiers_of

TWO = chain(("a", 1), ("b", 1))
PLATFORM = platform(("pfs",), ("tmpfs", "ssd"))


def words(space: ConfigurationSpace) -> list[tuple[str, ...]]:
    return [tuple(tiers_of(space, row).values()) for row in space.layouts()]


def test_the_first_stage_varies_slowest_and_tiers_stand_in_catalog_order() -> None:
    assert words(ConfigurationSpace(TWO, PLATFORM, COMPLETE)) == [
        ("pfs", "pfs"),
        ("pfs", "tmpfs"),
        ("pfs", "ssd"),
        ("tmpfs", "pfs"),
        ("tmpfs", "tmpfs"),
        ("tmpfs", "ssd"),
        ("ssd", "pfs"),
        ("ssd", "tmpfs"),
        ("ssd", "ssd"),
    ]


def test_the_reference_allows_no_edge_between_two_different_local_tiers() -> None:
    found = words(ConfigurationSpace(TWO, PLATFORM, REFERENCE))
    assert ("tmpfs", "ssd") not in found
    assert ("ssd", "tmpfs") not in found
    assert ("tmpfs", "tmpfs") in found
    assert len(found) == 7


def test_under_the_reference_edges_inside_a_level_count_too() -> None:
    same_level = Workflow("w", (Stage("a", 1, 1), Stage("b", 1, 1, {"a": ()})))
    assert len(ConfigurationSpace(same_level, PLATFORM, REFERENCE).layouts()) == 7


def test_stages_without_an_edge_choose_independently() -> None:
    apart = Workflow("w", (Stage("a", 1, 1, {INITIAL_DATA: ()}), Stage("b", 2, 1, {INITIAL_DATA: ()})))
    assert len(ConfigurationSpace(apart, PLATFORM, REFERENCE).layouts()) == 9


@settings(max_examples=40)
@given(st.integers(0, 2**32).map(random.Random), st.sampled_from([COMPLETE, REFERENCE]))
def test_layouts_are_all_that_the_rules_allow(rng: random.Random, rules: MakespanRules) -> None:
    workflow, catalog = random_workflow(rng), random_catalog(rng)
    local = {tier.name for tier in catalog.tiers if not tier.shared}
    expected = []
    for tiers in product(catalog.names, repeat=len(workflow.stages)):
        on = dict(zip(workflow.stage_names, tiers, strict=True))
        clashes = [
            (p, s.name)
            for s in workflow.stages
            for p in s.stage_predecessors
            if {on[p], on[s.name]} <= local and on[p] != on[s.name]
        ]
        if not clashes or rules is COMPLETE:
            expected.append(tiers)
    assert words(ConfigurationSpace(workflow, catalog, rules)) == expected


@settings(max_examples=40)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 40))
def test_blocks_are_the_layouts_whatever_their_size(rng: random.Random, size: int) -> None:
    space = ConfigurationSpace(random_workflow(rng, 4), random_catalog(rng), REFERENCE)
    blocks = list(space.blocks(size))
    assert all(0 < len(block) <= size for block in blocks)
    assert np.array_equal(np.concatenate(blocks), space.layouts())


def test_a_space_that_is_too_large_is_refused_before_anything_is_enumerated() -> None:
    deep = chain(*((f"s{i}", 1) for i in range(40)))
    space = ConfigurationSpace(deep, PLATFORM, COMPLETE)
    assert space.size == 3**40 > MAX_LAYOUTS
    with pytest.raises(SpaceTooLargeError, match=r"3 tiers on 40 stages make 12,157,665,459,056,928,801 "):
        next(space.blocks())
    with pytest.raises(SpaceTooLargeError, match="Allow fewer tiers"):
        space.layouts()


@pytest.mark.parametrize("rules", [COMPLETE, REFERENCE])
def test_a_sample_is_drawn_from_what_is_valid_and_always_the_same(rules: MakespanRules) -> None:
    space = ConfigurationSpace(chain(*((f"s{i}", 1) for i in range(40))), PLATFORM, rules)
    assert space.is_sampled
    layouts = space.sample(500)
    assert space.valid(layouts).all()
    assert len(layouts) == 500
    assert np.array_equal(layouts, space.sample(500))
    assert np.array_equal(
        np.concatenate(list(space.representatives()))[:, 0], np.sort(space.sample(20_000)[:, 0])
    )
    # Every tier is about as likely for the first stage, which nothing restricts.
    assert (np.bincount(layouts[:, 0], minlength=3) > 100).all()
    small = ConfigurationSpace(TWO, PLATFORM, rules)
    assert np.array_equal(np.concatenate(list(small.representatives())), small.layouts())
    assert {tuple(row) for row in small.sample(500)} == {tuple(row) for row in small.layouts()}


def test_a_layout_in_words_and_back() -> None:
    space = ConfigurationSpace(TWO, PLATFORM, COMPLETE)
    layout = space.layout({"b": "ssd", "a": "pfs"})
    assert layout.tolist() == [[0, 2]]
    configuration = space.configuration(4, layout[0])
    assert configuration == Configuration(4, {"a": "pfs", "b": "ssd"})
    assert configuration.to_json() == {"nodes": 4, "tiers": {"a": "pfs", "b": "ssd"}}
    with pytest.raises(TierError, match="unknown tier 'nvme'"):
        space.layout({"a": "pfs", "b": "nvme"})
