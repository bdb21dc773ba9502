from __future__ import annotations

import itertools
import json
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.boxes import Space, leaves_of, obeyed, rule_of
from qosflow_airflow.core.conditions import (
    Moves,
    OnTier,
    condition_from_json,
    structure_of,
    tiers_of_stages,
    truths,
)
from qosflow_airflow.core.region_trees import grow_tree
from tests.support.instances import random_workflow

STAGES, TIERS = ("a", "b", "c"), ("pfs", "ssd", "tmpfs")
EVERYTHING = np.array(list(itertools.product(range(3), repeat=3)), dtype=np.int8)


def true_of(condition: OnTier | Moves) -> list[tuple[str, ...]]:
    holds = truths([condition], EVERYTHING, STAGES, TIERS)[:, 0]
    return [tuple(TIERS[tier] for tier in layout) for layout in EVERYTHING[holds].tolist()]


def test_stages_on_a_tier() -> None:
    assert set(true_of(OnTier(("b",), "ssd"))) == {
        x for x in map(tuple, true_of(OnTier(("b",), "ssd"))) if x[1] == "ssd"
    }
    assert len(true_of(OnTier(("b",), "ssd"))) == 9
    assert true_of(OnTier(("a", "b", "c"), "pfs")) == [("pfs", "pfs", "pfs")]
    some = true_of(OnTier(("a", "c"), "tmpfs", every=False))
    assert len(some) == 27 - 2 * 3 * 2
    assert all(a == "tmpfs" or c == "tmpfs" for a, _, c in some)


def test_moves_of_data() -> None:
    assert all(a != b for a, b, _ in true_of(Moves((("a", "b"),))))
    assert len(true_of(Moves((("a", "b"),)))) == 18
    both = Moves((("a", "c"), ("b", "c")))
    assert all(a != c and b != c for a, b, c in true_of(both))
    assert len(true_of(both)) == 12
    assert len(true_of(Moves(both.edges, every=False))) == 24


def test_conditions_are_plain_json() -> None:
    for condition in (OnTier(("a", "b"), "ssd", False), Moves((("a", "b"), ("a", "c")), True)):
        assert condition_from_json(json.loads(json.dumps(condition.to_json()))) == condition


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_workflow_suggests_what_to_ask(seed: int) -> None:
    workflow = random_workflow(random.Random(seed), 6)
    asked = structure_of(workflow, TIERS)
    assert len(set(asked)) == len(asked)
    edges = {
        (e.producer, e.consumer)
        for e in workflow.edges
        if {e.producer, e.consumer} <= set(workflow.stage_names)
    }
    moves = [condition for condition in asked if isinstance(condition, Moves)]
    assert {condition.edges[0] for condition in moves if len(condition.edges) == 1} == edges
    for condition in moves:
        assert set(condition.edges) <= edges
        # A sentence is told from the one stage that several edges have in common.
        assert len({a for a, _ in condition.edges}) == 1 or len({b for _, b in condition.edges}) == 1


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_leaves_of_a_tree_are_rules_that_share_nothing(seed: int, fewest: int) -> None:
    """A rule's layouts are exactly those that the tree leads to its leaf."""
    workflow = random_workflow(random.Random(seed), 4)
    space = Space(workflow.stage_names, TIERS)
    layouts = np.array(list(itertools.product(range(3), repeat=len(space.stage_names))), dtype=np.int8)
    questions = (*tiers_of_stages(*space), *structure_of(workflow, TIERS))
    features = truths(questions, layouts, *space).astype(np.float32)
    tree = grow_tree(features, np.random.default_rng(seed).normal(size=len(layouts)), fewest, 0)
    ends = tree.paths(features)[:, -1]
    rules = leaves_of(tree, set(ends.tolist()), questions, space)
    assert {rule.node for rule in rules} == set(ends.tolist())
    inside = np.array([obeyed(rule.box, rule.asked, layouts, space) for rule in rules])
    assert (inside.sum(axis=0) == 1).all()
    nodes = np.array([rule.node for rule in rules])
    assert (nodes[inside.argmax(axis=0)] == ends).all()
    found = rule_of([(rule.box, rule.asked) for rule in rules], layouts, space)
    assert (nodes[found] == ends).all()
