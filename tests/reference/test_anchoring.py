"""Anchoring on the public traces: each run predicted from the others of its workflow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.rate_checks import check_rates
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.readers.bundle import read_bundle
from qosflow_airflow.readers.rates_csv import read_rates_csv

Errors = list[Any]
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "anchoring.py"


def script() -> ModuleType:
    """The benchmark, whose figures the pages quote."""
    spec = importlib.util.spec_from_file_location("anchoring_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def errors(reference: Path) -> Errors:
    # Interpolated rates: the law takes a minute to fit, and anchoring is about what rates cannot know.
    rates = StorageProfile(check_rates(read_rates_csv(reference / "profile" / "ior.csv")).rates)
    catalog = TierCatalog((StorageTier("beegfs", True),))
    paths = sorted((reference / "scale-runs").glob("*.csv"))
    benchmark = script()
    runs = [benchmark.traced_run(f"{path}@tier=beegfs", catalog, rates) for path in paths]
    return list(benchmark.left_out(runs))


def error(errors: Errors, method: str, **only: object) -> tuple[float, float]:
    chosen = [e.error for e in errors if e.method == method and only.items() <= e._asdict().items()]
    return float(np.median(chosen)), float(np.quantile(chosen, 0.9))


def test_anchored_times_are_nearer_than_rates_alone(errors: Errors) -> None:
    assert error(errors, "rates alone")[0] > 1.0
    assert error(errors, "anchored")[0] <= 0.15
    for quantile in (0, 1):
        assert error(errors, "anchored")[quantile] < error(errors, "rates alone")[quantile] / 4


def test_they_are_nearer_than_as_long_as_the_other_run(errors: Errors) -> None:
    for only in ({}, {"large": True}):
        alike, anchored = error(errors, "as long as the other", **only), error(errors, "anchored", **only)
        assert anchored[0] < alike[0]
        assert anchored[1] < alike[1]


def test_intervals_hold_where_the_tier_and_the_node_count_were_traced(errors: Errors) -> None:
    inside = [e.inside for e in errors if e.method == "anchored" and e.kind == "same tier, nodes"]
    assert len(inside) == 46
    assert np.mean(inside) >= 0.88


def test_a_trace_that_repeats_its_lines_for_node_counts_does_not_say_where_it_ran(reference: Path) -> None:
    found = read_bundle(reference / "1kgenome", tiers=["beegfs", "tmpfs", "ssd"]).observations
    assert found is not None
    assert not found.nodes_known
