"""`qosflow evaluate`: the table, its two figures of order, the regret of first choices, and the plot."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.concordance import concordance, published_concordance
from qosflow_airflow.core.evaluation import ORDERINGS, evaluate_model, first_choice
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.policies import POLICIES
from qosflow_airflow.core.space_costs import NO_REGION, space_costs
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.store.model_folder import read_model_folder, write_model_folder
from tests.support.bundles import write_bundle
from tests.support.small_model import small_catalog, small_workflow, stage_times

MOUNTS = {"disk": "/disk", "ram": "/ram"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the small bundle at 2 and 4 nodes, with regions."""
    there = tmp_path_factory.mktemp("evaluate")
    pipeline.build_folder(write_bundle(there / "line"), BuildOptions(), there / "model")
    return there / "model"


def small_model(times: StageTimes | None = None) -> Model:
    """Four configurations on one node, without regions."""
    workflow, catalog = small_workflow(), small_catalog(MOUNTS)
    scale = ScaleModel(1, times or stage_times(workflow, catalog, 1))
    return Model(workflow, catalog, COMPLETE, (scale,))


def unmeasured() -> StageTimes:
    times = stage_times(small_workflow(), small_catalog(MOUNTS), 1)
    times.read.seconds[0] = np.nan
    times.read.provenance[0] = 3
    return times


def evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["evaluate", "--model", str(folder), "--format", "json"]) == OK
    return json.loads(capsys.readouterr().out)


def test_concordances_are_those_of_the_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = read_model_folder(folder)
    for nodes, scale in evaluated(folder, capsys)["scales"].items():
        costs = space_costs(model, int(nodes))
        for name, score in POLICIES.items():
            scores = score(model.makespans(int(nodes)), costs.layouts)
            found = scale["policies"][name]
            assert found["concordance"] == concordance(scores, costs.makespan_s)
            assert found["concordance_published"] == published_concordance(scores, costs.makespan_s)
        regions = model.scale(int(nodes)).regions
        assert regions is not None
        assert scale["regions"]["concordance_held_out"] == regions.concordance_held_out
        # In-sample, and with the truth for ties: it cannot be worse.
        assert scale["regions"]["concordance_published"] >= regions.concordance_held_out


def test_the_first_choice_of_each_is_a_mean_over_its_ties(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_model_folder(folder)
    for nodes, scale in evaluated(folder, capsys)["scales"].items():
        costs = space_costs(model, int(nodes))
        best_s = np.nanmin(costs.makespan_s)
        assert scale["makespan_s"]["best"] == best_s
        regions = model.scale(int(nodes)).regions
        assert regions is not None
        medians = np.array([region.median_s for region in regions.regions])
        scores = {name: score(model.makespans(int(nodes)), costs.layouts) for name, score in POLICIES.items()}
        for name, score in {**scores, "regions": medians[costs.region]}.items():
            found = (scale["regions"] if name == "regions" else scale["policies"][name])["first_choice"]
            tied_s = costs.makespan_s[score == score.min()]
            assert found["tied"] == len(tied_s)
            assert found["makespan_s"] == pytest.approx(tied_s.mean())
            assert found["regret_s"] == pytest.approx(tied_s.mean() - best_s)
            assert found["ratio"] == pytest.approx(tied_s.mean() / best_s)
            assert found["worst_s"] == tied_s.max()
            first = model.space.layout(found["configuration"]["tiers"])
            assert model.makespans(int(nodes)).makespan_s(first)[0] in tied_s


def test_the_first_choice_of_regions_is_held_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scales = evaluated(folder, capsys)["scales"]
    assert main(["evaluate", "--model", str(folder)]) == OK
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for nodes, scale in scales.items():
        found = scale["regions"]["first_choice_held_out"]
        assert found["regret_s"] >= 0
        assert found["makespan_s"] == pytest.approx(scale["makespan_s"]["best"] + found["regret_s"])
        assert found["ratio"] == pytest.approx(found["makespan_s"] / scale["makespan_s"]["best"])
        (row,) = [row for row in rows if row[:2] == [nodes, "regions"]]
        assert [float(row[4]), float(row[6]), float(row[8])] == [
            pytest.approx(found[name], abs=5e-4) for name in ("makespan_s", "regret_s", "ratio")
        ]


def test_ties_are_not_broken_by_the_truth() -> None:
    model = small_model()
    costs = space_costs(model, 1)
    found = first_choice(model, costs, np.zeros(len(costs)))
    assert found is not None
    assert found["tied"] == 4
    assert found["makespan_s"] == pytest.approx(costs.makespan_s.mean())
    perfect = first_choice(model, costs, costs.makespan_s)
    assert perfect is not None
    assert perfect["regret_s"] == 0
    assert perfect["ratio"] == 1


def test_the_text_has_the_table_and_says_what_its_figures_mean(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", str(folder)]) == OK
    lines = capsys.readouterr().out.splitlines()
    heading = "nodes ordering concordance published first choice regret ratio tied"
    assert " ".join(lines[0].split()) == heading
    assert [line.split()[:2] for line in lines[1:9]] == [[n, name] for n in ("2", "4") for name in ORDERINGS]
    assert any(line.startswith("2 nodes: 27 configurations: best ") for line in lines)
    assert any(" regions (the knee of their curve: " in line for line in lines)
    assert any(line.startswith("published: for comparison only") for line in lines)


@pytest.mark.parametrize("asked", [None, 3])
def test_the_curve_of_regions_is_shown_and_its_knee_where_it_was_taken(
    asked: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BuildOptions(scales=(2,), regions=asked)
    pipeline.build_folder(write_bundle(tmp_path / "line"), options, tmp_path / "model")
    regions = evaluated(tmp_path / "model", capsys)["scales"]["2"]["regions"]
    sizes, concordances, _ = zip(*regions["curve"], strict=True)
    assert list(sizes) == sorted(sizes)
    assert regions["concordance_held_out"] in concordances
    assert regions["knee"] == (regions["count"] if asked is None else None)
    assert main(["evaluate", "--model", str(tmp_path / "model")]) == OK
    said = capsys.readouterr().out
    assert ("the knee of their curve" in said) == (asked is None)
    assert f"{sizes[-1]} reach {concordances[-1]:.3f}" in said
    assert (
        f"configurations wait most for {regions['bottleneck']['space']['part'].replace('_io', ' I/O')}"
        in said
    )


def test_where_nothing_is_measured_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model_folder(tmp_path / "model", small_model(unmeasured()), [])
    scale = evaluated(tmp_path / "model", capsys)["scales"]["1"]
    assert (scale["configurations"], scale["measured"]) == (4, 0)
    assert scale["makespan_s"] is scale["regions"] is None
    assert all(figures["first_choice"] is None for figures in scale["policies"].values())
    assert main(["evaluate", "--model", str(tmp_path / "model")]) == OK
    assert "1 node: none of 4 configurations is measured" in capsys.readouterr().out


def test_a_model_without_regions_still_compares_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model_folder(tmp_path / "model", small_model(), [])
    assert (space_costs(small_model(), 1).region == NO_REGION).all()
    assert main(["evaluate", "--model", str(tmp_path / "model")]) == OK
    said = capsys.readouterr().out
    assert "1 node: the model has no regions." in said
    assert [line.split()[1] for line in said.splitlines()[1:4]] == list(POLICIES)


def test_a_model_without_scales_is_named() -> None:
    model = small_model()
    with pytest.raises(QoSFlowError, match="'two' has no scales"):
        evaluate_model(Model(model.workflow, model.catalog, model.rules, ()))


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_plot_is_the_same_each_time(
    folder: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = [tmp_path / "new" / f"{name}.{ending}" for name in "ab"]
    for plot in plots:
        assert main(["evaluate", "--model", str(folder), "--plot", str(plot)]) == OK
        assert f"wrote {plot}" in capsys.readouterr().err
    assert plots[0].read_bytes() == plots[1].read_bytes()
    if ending == "svg":
        root = ElementTree.fromstring(plots[0].read_text(encoding="utf-8"))
        words = {text.strip() for text in root.itertext()}
        assert {*ORDERINGS, "nodes", "2", "4"} <= words
    else:
        assert plots[0].read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_another_format_is_refused_before_anything_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", str(folder), "--plot", str(tmp_path / "plot.pdf")]) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert "plot.pdf: is not a .svg or .png file. End its name in .svg or .png." in said.err
