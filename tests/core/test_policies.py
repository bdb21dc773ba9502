from __future__ import annotations

import random

import numpy as np
import pytest

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.policies import (
    POLICIES,
    fastest_storage_first,
    hybrid,
    low_transition_layout,
    policy_qualities,
    transitions,
)
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.core.reference_space import SPACES, expected_concordances, reference_space
from tests.support.instances import chain, platform, random_times

WORKFLOW = chain(("one", 4), ("two", 4), ("three", 4))


def model_of(local: tuple[str, ...], unknown: float = 0.0) -> MakespanModel:
    catalog = platform(local=local)
    return MakespanModel(
        WORKFLOW, catalog, random_times(random.Random(1), WORKFLOW, catalog, 2, unknown), COMPLETE
    )


@pytest.mark.reference
@pytest.mark.parametrize(("name", "nodes"), SPACES)
def test_policies_order_the_public_workflows_as_published(name: str, nodes: int) -> None:
    model, layouts, schedule = reference_space(name, nodes)
    expected = expected_concordances(name, nodes)
    for policy, quality in policy_qualities(model, layouts, schedule.makespan_s).items():
        wanted = expected[policy]
        assert quality.concordance == pytest.approx(wanted["pc_leakfree"], abs=1e-9)
        assert quality.concordance_published == pytest.approx(wanted["pc_published_metric"], abs=1e-9)


def test_fastest_storage_first_counts_the_fastest_tier_before_all_others() -> None:
    # Tiers: 0 shared, then 1, 2, 3 local from the fastest to the slowest.
    best_first = [[1, 1, 0], [1, 2, 2], [1, 2, 3], [1, 2, 0], [1, 0, 0], [2, 2, 2], [3, 3, 3], [0, 0, 0]]
    score = fastest_storage_first(model_of(("nvm", "tmpfs", "ssd")), np.array(best_first, dtype=np.int8))
    assert (np.diff(score) > 0).all()


def test_fastest_storage_first_does_not_care_which_stage() -> None:
    model = model_of(("tmpfs", "ssd"))
    score = fastest_storage_first(model, np.array([[1, 2, 0], [0, 1, 2], [2, 0, 1]], dtype=np.int8))
    assert len(set(score.tolist())) == 1


def test_without_local_tiers_every_layout_is_alike() -> None:
    model = model_of(())
    layouts = ConfigurationSpace(WORKFLOW, model.catalog, COMPLETE).layouts()
    assert fastest_storage_first(model, layouts).tolist() == [0.0]
    assert low_transition_layout(model, layouts).tolist() == [0.0]
    assert hybrid(model, layouts).tolist() == [-1.0]


def test_transitions_count_stages_and_levels_that_copy() -> None:
    model = model_of(("tmpfs",))
    layouts = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1]], dtype=np.int8)
    # Each stage is a level of its own, so that every copying stage counts twice. Local data is copied in by
    # the first stage and out by a stage before shared storage; between nodes it is copied to the same tier.
    assert transitions(model, layouts).tolist() == [0, 4, 4, 8]


def test_two_stages_on_one_level_share_its_transition() -> None:
    twins = Workflow("twins", tuple(Stage(name, 1, 4, {INITIAL_DATA: ()}) for name in ("left", "right")))
    catalog = platform(local=("tmpfs",))
    model = MakespanModel(twins, catalog, random_times(random.Random(2), twins, catalog, 2), REFERENCE)
    layouts = np.array([[0, 0], [1, 0], [1, 1]], dtype=np.int8)
    assert transitions(model, layouts).tolist() == [0, 4, 6]


def test_hybrid_weighs_speed_and_transitions_alike() -> None:
    model = model_of(("tmpfs", "ssd"))
    layouts = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]], dtype=np.int8)
    moved = transitions(model, layouts)
    assert moved[0] == 0
    assert moved[1] == moved[2] > 0
    # All shared: no speed, no transition. All on the fastest: 6 of 6. All on the second: 3 of 6.
    assert hybrid(model, layouts).tolist() == [-1.0, -1.0, -0.5]


def test_qualities_leave_unmeasured_configurations_out() -> None:
    model = model_of(("tmpfs",), unknown=0.0)
    layouts = ConfigurationSpace(WORKFLOW, model.catalog, COMPLETE).layouts()
    makespan_s = model.makespan_s(layouts)
    all_known = policy_qualities(model, layouts, makespan_s)
    assert set(all_known) == set(POLICIES)
    assert all(
        0 <= quality.concordance <= 1 for quality in all_known.values() if quality.concordance is not None
    )

    nothing_known = policy_qualities(model, layouts, np.full(len(layouts), np.nan))
    assert all(quality == (None, None) for quality in nothing_known.values())


def test_unknown_copies_are_scored_all_the_same() -> None:
    model = model_of(("tmpfs", "ssd"), unknown=0.5)
    layouts = ConfigurationSpace(WORKFLOW, model.catalog, COMPLETE).layouts()
    for score in POLICIES.values():
        assert np.isfinite(score(model, layouts)).all()
