"""Corrections by similar cases: used where they help workflows that are left out, cited in any case."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.learn.case_correction import (
    Judgement,
    cite,
    judge,
    log_correction,
    share_of_cases,
)
from qosflow_airflow.learn.case_features import FEATURES
from qosflow_airflow.learn.case_generator import generated_runs
from qosflow_airflow.learn.cases import Case, CaseBase, CaseSettings, Neighbour, Neighbourhood, run_case


def case(seed: int, workflow: str, log_ratio: float) -> Case:
    features = np.random.default_rng(seed).normal(0, 1, len(FEATURES))
    return Case(
        f"r{seed}",
        workflow,
        "here",
        None,
        2,
        ("pfs",),
        tuple(features.tolist()),
        10.0,
        10.0 * math.exp(log_ratio),
    )


def neighbourhood(ratios: list[float]) -> Neighbourhood:
    found = tuple(Neighbour(case(at, "w", ratio), 0.9) for at, ratio in enumerate(ratios))
    return Neighbourhood(found, ())


WIDE = CaseSettings(neighbours=10, min_similarity=0.0)


def test_a_correction_goes_towards_what_neighbours_took_and_not_beyond() -> None:
    found = [log_correction(neighbourhood([0.5] * n)) for n in (1, 3, 10)]
    assert found == sorted(found)
    assert 0.2 < found[0] < found[-1] < 0.5
    assert log_correction(neighbourhood([])) == 0.0


@given(st.lists(st.floats(-4.0, 4.0), min_size=1, max_size=12))
def test_a_correction_stays_among_what_neighbours_took(ratios: list[float]) -> None:
    assert min(0.0, *ratios) - 1e-9 <= log_correction(neighbourhood(ratios)) <= max(0.0, *ratios) + 1e-9


def test_one_odd_neighbour_does_not_decide() -> None:
    without = log_correction(neighbourhood([0.1] * 6))
    odd = log_correction(neighbourhood([0.1] * 6 + [4.0]))
    assert abs(odd - without) < 0.12


def test_what_workflows_share_is_used_and_makes_errors_smaller() -> None:
    rng = np.random.default_rng(1)
    cases = [case(at, f"w{at % 6}", 0.4 + 0.05 * rng.normal()) for at in range(120)]
    judgement = judge(CaseBase(cases, WIDE))
    assert judgement.helps
    assert judgement.workflows == 6
    assert judgement.error_with < 0.5 * judgement.error_without
    citation = cite(CaseBase(cases, WIDE), np.array(cases[0].features), "here", judgement=judgement)
    assert citation.used
    assert 1.2 < citation.factor < 1.5


def test_what_is_a_workflow_s_own_is_cited_and_not_used() -> None:
    # Half of the workflows take longer, half are quicker: others say nothing of the one left out.
    cases = [case(at, f"w{at % 8}", 0.5 if at % 2 else -0.5) for at in range(160)]
    base = CaseBase(cases, WIDE)
    citation = cite(base, np.array(cases[1].features), "here")
    assert not citation.judgement.helps
    assert citation.factor == 1.0
    assert len(citation.to_json()["similar"]) == 10
    assert "cited only" in citation.words


def test_noise_is_not_taken_for_help() -> None:
    helped = 0
    for world in range(20):
        rng = np.random.default_rng(world)
        cases = [case(1000 * world + at, f"w{at % 5}", float(rng.normal(0, 0.3))) for at in range(80)]
        helped += judge(CaseBase(cases, WIDE)).helps
    assert helped <= 3


@pytest.mark.parametrize("workflows", [0, 1, 2])
def test_few_workflows_do_not_tell(workflows: int) -> None:
    cases = [case(at, f"w{at % max(workflows, 1)}", 0.4) for at in range(20 * workflows)]
    judgement = judge(CaseBase(cases, WIDE))
    assert not judgement.helps
    assert "runs of 3 workflows" in judgement.words


def test_cases_fade_as_a_workflow_s_own_runs_teach() -> None:
    assert share_of_cases(0) == 1.0
    assert share_of_cases(1) == 0.5
    cases = [case(at, f"w{at % 6}", 0.4) for at in range(60)]
    base, asked = CaseBase(cases, WIDE), np.array(cases[0].features)
    factors = [cite(base, asked, "here", calibrated_runs=n).factor for n in (0, 5, 50)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1.0, abs=0.05)


def test_a_poisoned_run_changes_nothing() -> None:
    runs = list(generated_runs(80, 7))
    good = [run_case(run) for run in runs]
    bad = run_case(replace(runs[0], run="poisoned", observed_s=1000 * runs[0].observed_s))
    clean, poisoned = CaseBase(good), CaseBase([*good, bad])
    assert "poisoned" in poisoned.rejected
    asked = np.array(good[0].features)
    one, other = (cite(base, asked, good[0].platform) for base in (clean, poisoned))
    assert one.to_json() == other.to_json()


def test_an_answer_cites_its_cases() -> None:
    runs = list(generated_runs(80, 7))
    base = CaseBase([run_case(run) for run in runs], CaseSettings(neighbours=5))
    citation = cite(base, np.array(base.cases[3].features), base.cases[3].platform)
    assert citation.words.startswith(f"{len(citation.neighbourhood.found)} similar run")
    assert base.cases[3].workflow in citation.words
    kept = citation.to_json()
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["similar"][0]["run"] == base.cases[3].run
    nobody = cite(CaseBase([]), np.array(base.cases[3].features))
    assert nobody.words == "No similar runs."
    assert json.loads(json.dumps(nobody.to_json(), allow_nan=False))["factor"] == 1.0


def test_a_judgement_says_why() -> None:
    assert Judgement(4, 80, 0.2, 0.1, 0.01).words.startswith("that helps: errors are 20.0%")
    assert not Judgement(4, 80, 0.2, 0.19, 0.02).helps
