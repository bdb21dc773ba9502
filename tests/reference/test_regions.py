"""Regions of the public workflows: how well they order layouts held out, and in how few regions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import rules_named
from qosflow_airflow.core.region_fit import RegionOptions, fit_regions
from qosflow_airflow.core.regions import RegionSet
from qosflow_airflow.core.schedule import Schedule
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.transfer_table import stage_times
from qosflow_airflow.readers.bundle import read_bundle

pytestmark = pytest.mark.reference

SCALES = {"1kgenome": (2, 5, 10), "ddmd": (1, 2, 4), "pyflex_s9_48f": (2, 4, 8)}
SMALL = [(name, nodes) for name in ("1kgenome", "ddmd") for nodes in SCALES[name]]
MARGIN = 0.01
"""Held-out figures are gates with this margin: another version of a library may move them a little."""


def space(reference: Path, name: str, nodes: int, rules: str) -> tuple[MakespanModel, Layouts, Schedule]:
    return _space(reference, name, nodes, rules)


@cache
def _space(reference: Path, name: str, nodes: int, rules: str) -> tuple[MakespanModel, Layouts, Schedule]:
    bundle = read_bundle(reference / name)
    assert bundle.catalog is not None
    assert bundle.transfer_table is not None
    asked = rules_named(rules)
    times = stage_times(bundle.transfer_table, bundle.workflow, bundle.catalog, nodes, asked)
    model = MakespanModel(bundle.workflow, bundle.catalog, times, asked)
    layouts = ConfigurationSpace(bundle.workflow, bundle.catalog, asked).layouts()
    return model, layouts, model.schedule(layouts)


@cache
def regions(reference: Path, name: str, nodes: int, rules: str) -> RegionSet:
    return fit_regions(*_space(reference, name, nodes, rules))


def at(found: RegionSet, most: int) -> float:
    """The best concordance with at most so many regions."""
    return max(concordance for size, concordance, _ in found.curve if size <= most)


def published(reference: Path, name: str, nodes: int) -> dict[str, Any]:
    summary = json.loads((reference / name / "expected_summary.json").read_text(encoding="utf-8"))
    scale = summary["scales"][str(nodes)]["pc"]
    return {
        "regions": summary["regions"]["n_regions"],
        "at_scale": scale["n_regions_at_scale"],
        "concordance": scale["QoSFlow_oof_grouped"]["pc_leakfree"],
        "forest": scale["RF_oof_grouped"]["pc_leakfree"],
    }


@pytest.mark.parametrize(
    ("name", "nodes"), [(name, nodes) for name in ("1kgenome", "pyflex_s9_48f") for nodes in SCALES[name]]
)
def test_no_more_regions_than_published_order_better(name: str, nodes: int, reference: Path) -> None:
    """Also with no more than were published for one scale, which is fewer than for all of them."""
    theirs = published(reference, name, nodes)
    found = regions(reference, name, nodes, "reference")
    assert at(found, theirs["at_scale"]) > theirs["concordance"]
    assert at(found, theirs["regions"]) > theirs["concordance"] + MARGIN
    assert found.count <= max(theirs["regions"], 10)
    assert found.concordance_held_out is not None
    assert found.concordance_held_out > theirs["concordance"] + MARGIN
    assert at(found, 40) > theirs["forest"] - 0.03


@pytest.mark.parametrize("nodes", SCALES["ddmd"])
def test_a_tiny_space_needs_more_regions_than_published(nodes: int, reference: Path) -> None:
    """Of 37 layouts, four regions reach .82 to .84; as good as published takes five to seven."""
    found = regions(reference, "ddmd", nodes, "reference")
    assert at(found, 4) > 0.80
    assert at(found, 10) > published(reference, "ddmd", nodes)["concordance"]


@pytest.mark.parametrize(
    ("name", "nodes", "regions_at_most", "concordance"),
    [
        ("1kgenome", 2, 8, 0.93),
        ("1kgenome", 5, 8, 0.93),
        ("1kgenome", 10, 8, 0.93),
        ("ddmd", 1, 8, 0.93),
        ("ddmd", 2, 8, 0.90),
        ("ddmd", 4, 8, 0.90),
        ("pyflex_s9_48f", 8, 9, 0.93),
    ],
)
def test_under_the_complete_rules_few_regions_order_nearly_everything(
    name: str, nodes: int, regions_at_most: int, concordance: float, reference: Path
) -> None:
    found = regions(reference, name, nodes, "complete")
    assert at(found, regions_at_most) > concordance - MARGIN
    assert at(found, 40) > 0.97
    assert found.count <= 14


@pytest.mark.parametrize(("name", "nodes"), SMALL)
@pytest.mark.parametrize("rules", ["complete", "reference"])
def test_another_draw_of_folds_changes_little(name: str, nodes: int, rules: str, reference: Path) -> None:
    found = [fit_regions(*space(reference, name, nodes, rules), seed=seed) for seed in (1, 2)]
    found.append(regions(reference, name, nodes, rules))
    counts = [one.count for one in found]
    assert max(counts) - min(counts) <= 4
    qualities = [at(one, 14) for one in found]
    # Of 37 layouts each fold holds out three or four: one that is hard to foretell shows.
    assert max(qualities) - min(qualities) < (0.07 if (name, rules) == ("ddmd", "reference") else 0.03)


@pytest.mark.parametrize("nodes", SCALES["pyflex_s9_48f"])
def test_regions_are_apart_and_narrow(nodes: int, reference: Path) -> None:
    found = regions(reference, "pyflex_s9_48f", nodes, "reference")
    assert found.separation is not None
    assert found.separation > 0.85
    spread = [(region.q75_s - region.q25_s) / region.median_s for region in found.regions]
    assert np.median(spread) < 0.2


def test_a_number_may_be_asked_for(reference: Path) -> None:
    options = RegionOptions(regions=18)
    found = fit_regions(*space(reference, "1kgenome", 10, "reference"), options=options)
    assert found.count == 18
    assert all(len(region.rules) <= 3 for region in found.regions)
    assert sum(len(region.rules) for region in found.regions) <= 36
