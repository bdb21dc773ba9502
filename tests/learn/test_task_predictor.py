"""Trees over features of stages: figures of what was held out, and nothing of it in what was fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qosflow_airflow.learn import task_predictor
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.cases import Case, stage_cases
from qosflow_airflow.learn.task_predictor import PREDICTORS, SPLITS, evaluated, predicted_s, quality, trained


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for run in generated_runs(60, 3) for case in stage_cases(run)]


def test_trees_learn_what_they_have_seen(cases: list[Case]) -> None:
    trees = trained(cases)
    truth = np.array([case.observed_s for case in cases])
    assert quality(truth, predicted_s(trees, cases)).r2_log > 0.95


def test_figures_are_what_they_are_called() -> None:
    truth, said = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0])
    found = quality(truth, said)
    assert found.mse_s2 == pytest.approx(4 / 3)
    assert found.mape == pytest.approx(0.5 / 3)
    assert found.r2 == pytest.approx(1 - 4 / np.var(truth) / 3)
    assert quality(truth, truth) == (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("split", "name"), [("by workflow", "workflow"), ("by platform", "platform"), ("random", "run")]
)
def test_groups_are_held_out_whole_and_each_case_once(cases: list[Case], split: str, name: str) -> None:
    seen = []
    for held, rest in task_predictor._folds(cases, split, 0):
        groups = [{getattr(cases[at], name) for at in part} for part in (held, rest)]
        assert groups[0].isdisjoint(groups[1])
        seen += held.tolist()
    assert sorted(seen) == list(range(len(cases)))


def test_the_table_is_the_same_for_the_same_seed_and_has_every_split(cases: list[Case]) -> None:
    few = [case for case in cases if case.run in {f"run{at}" for at in range(1, 16)}]
    once = evaluated([*few, replace(few[0], observed_s=-1.0)], seed=1)
    assert set(once) == set(SPLITS)
    assert all(set(found) == set(PREDICTORS) for found in once.values())
    assert once == evaluated(few, seed=1)
