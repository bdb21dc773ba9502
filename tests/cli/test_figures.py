"""`qosflow figures`: what is drawn is what the model holds, and the files are the same each time."""

from __future__ import annotations

import importlib.util
import json
import random
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from qosflow_airflow import pipeline
from qosflow_airflow.cli import BAD_INPUT, OK, main
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.configurations import evaluate_space
from qosflow_airflow.core.dag_layout import STAGE_ROWS, DagLayout, lay_out
from qosflow_airflow.core.evaluation import evaluate_model
from qosflow_airflow.core.figure_data import region_costs, regions_scatter, signature, totals
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.space_costs import space_costs
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.figures.drawings import DRAWINGS, draw
from qosflow_airflow.figures.files import save
from qosflow_airflow.figures.style import PARTS
from qosflow_airflow.store.model_folder import read_model_folder, write_model_folder
from tests.support.bundles import write_bundle
from tests.support.instances import random_workflow
from tests.support.small_model import small_catalog, small_workflow, stage_times

FILES = [f"{kind}-{nodes}" for nodes in (2, 4) for kind in ("regions", "costs", "signature")] + ["totals"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the small bundle at 2 and 4 nodes, with regions."""
    there = tmp_path_factory.mktemp("figures")
    pipeline.build_folder(write_bundle(there / "line"), BuildOptions(), there / "model")
    return there / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return read_model_folder(folder)


def small_model(*, measured: bool = True) -> Model:
    """Four configurations on one node, without regions."""
    workflow, catalog = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
    times = stage_times(workflow, catalog, 1)
    if not measured:
        times.read.seconds[:] = np.nan
        times.read.provenance[:] = Provenance.UNKNOWN
    return Model(workflow, catalog, COMPLETE, (ScaleModel(1, times),))


def words_of(svg: Path) -> set[str]:
    root = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    return {text.strip() for text in root.itertext() if text.strip()}


class TestCommand:
    @pytest.mark.parametrize("ending", ["svg", "png", "json"])
    def test_all_kinds_are_drawn_and_the_same_each_time(
        self, folder: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in "ab":
            arguments = ["figures", str(folder), "--output", str(tmp_path / name), "--format", ending]
            assert main(arguments) == OK
        printed = capsys.readouterr().out.splitlines()
        assert printed[: len(FILES)] == [str(tmp_path / "a" / f"{name}.{ending}") for name in FILES]
        for name in FILES:
            first, second = ((tmp_path / where / f"{name}.{ending}").read_bytes() for where in "ab")
            assert first == second
            assert first

    def test_an_svg_can_be_read_out_and_holds_text(self, folder: Path, tmp_path: Path) -> None:
        assert main(["figures", str(folder), "--output", str(tmp_path)]) == OK
        for name in FILES:
            root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
            told = [child.text for child in root if child.tag.endswith(("}title", "}desc"))]
            assert len(told) == 2
            assert all(told)
        assert {"FSF's first choice", "regions' first choice", "best", "median", "worst"} <= words_of(
            tmp_path / "totals.svg"
        )
        assert {"split", "merge", "report"} <= words_of(tmp_path / "signature-2.svg")

    def test_the_pictures_do_not_hang_on_the_users_settings(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import matplotlib

        assert main(["figures", str(folder), "--output", str(tmp_path / "a")]) == OK
        monkeypatch.setitem(matplotlib.rcParams, "font.size", 31)
        monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
        assert main(["figures", str(folder), "--output", str(tmp_path / "b")]) == OK
        for name in FILES:
            assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (
                tmp_path / "b" / f"{name}.svg"
            ).read_bytes()

    def test_another_region_and_none(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [
            "figures",
            str(folder),
            "--output",
            str(tmp_path / "new"),
            "--format",
            "json",
            "--region",
        ]
        assert main([*arguments, "99"]) == BAD_INPUT
        assert "there is no region 99 on 2 nodes. Use 0 to " in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
        assert main([*arguments, "-1"]) == BAD_INPUT
        assert main([*arguments, "1"]) == OK
        assert json.loads((tmp_path / "new" / "signature-2.json").read_text())["region"] == 1

    def test_what_cannot_be_drawn_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name, measured in (("plain", True), ("unmeasured", False)):
            write_model_folder(tmp_path / name, small_model(measured=measured), [])
            arguments = ["figures", str(tmp_path / name), "--output", str(tmp_path / f"{name}-figures")]
            assert main(arguments) == OK
        said = capsys.readouterr()
        assert "1 node: the model has no regions" in said.err
        assert "1 node: none of 4 configurations is measured: nothing to draw" in said.err
        assert said.out.splitlines() == [str(tmp_path / "plain-figures" / "totals.svg")]

    def test_without_matplotlib_the_extra_is_named(
        self,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        real = importlib.util.find_spec
        monkeypatch.setattr(
            "qosflow_airflow.figures.files.find_spec",
            lambda name: None if name == "matplotlib" else real(name),
        )
        assert main(["figures", str(folder), "--output", str(tmp_path)]) == BAD_INPUT
        assert "pip install 'airflow-provider-qosflow[figures]'" in capsys.readouterr().err
        assert main(["figures", str(folder), "--output", str(tmp_path), "--format", "json"]) == OK

    def test_a_folder_that_cannot_be_written(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        for ending in ("svg", "json"):
            arguments = ["figures", str(folder), "--output", str(tmp_path / "file"), "--format", ending]
            assert main(arguments) == BAD_INPUT
            assert f"regions-2.{ending}: cannot be written" in capsys.readouterr().err


class TestScatter:
    def test_every_configuration_is_a_point_of_its_region(self, model: Model) -> None:
        costs = space_costs(model, 2)
        data = regions_scatter(model, costs)
        assert data["shown"] == data["measured"] == len(costs) == 27
        assert sorted(data["makespan_s"]) == sorted(costs.makespan_s.tolist())
        for region in data["regions"]:
            inside = [m for m, r in zip(data["makespan_s"], data["region"], strict=True) if r == region["id"]]
            assert inside == sorted(inside)
            assert len(inside) == region["last"] - region["first"] + 1
            assert np.median(inside) == pytest.approx(region["median_s"])
        assert all(before["last"] + 1 == after["first"] for before, after in pairwise(data["regions"]))

    def test_of_many_points_some_are_shown_with_the_ends_of_each_region(self, model: Model) -> None:
        costs = space_costs(model, 2)
        every, some = regions_scatter(model, costs), regions_scatter(model, costs, max_points=16)
        assert some["shown"] == len(some["position"]) < every["shown"]
        assert some["measured"] == every["measured"]
        assert some["regions"] == every["regions"]
        at = dict(zip(every["position"], every["makespan_s"], strict=True))
        assert [at[position] for position in some["position"]] == some["makespan_s"]
        ends = {end for region in some["regions"] for end in (region["first"], region["last"])}
        assert ends <= set(some["position"])

    def test_many_points_are_an_image_and_the_file_stays_small(self, tmp_path: Path) -> None:
        points, regions = 4000, 40
        region = np.sort(np.random.default_rng(1).integers(0, regions, points))
        first = np.searchsorted(region, np.arange(regions)).tolist()
        ends = [*first[1:], points]
        data = {
            "figure": "regions",
            "title": "many",
            "measured": points,
            "shown": points,
            "position": list(range(points)),
            "makespan_s": np.random.default_rng(2).uniform(1, 9, points).tolist(),
            "region": region.tolist(),
            "regions": [
                {"id": k, "first": first[k], "last": ends[k] - 1, "median_s": 5.0} for k in range(regions)
            ],
        }
        save(draw(data), tmp_path / "many.svg")
        text = (tmp_path / "many.svg").read_text(encoding="utf-8")
        assert "<image" in text
        assert len(text) < 450_000


class TestCosts:
    def test_parts_are_means_and_add_up_to_the_makespan(self, model: Model) -> None:
        costs = space_costs(model, 4)
        data = region_costs(model, costs)
        assert set(data["split_s"]) == set(PARTS)
        assert sum(data["sizes"]) == 27
        for region in data["regions"]:
            mean_s = costs.makespan_s[costs.region == region].mean()
            assert data["makespan_s"][region] == pytest.approx(mean_s)
            parts = {name: seconds[region] for name, seconds in data["split_s"].items()}
            assert data["largest"][region] == max(parts, key=lambda name: parts[name])

    def test_space_costs_are_those_of_a_build(self, model: Model) -> None:
        costs, built = space_costs(model, 2), evaluate_space(model.makespans(2))
        assert (costs.layouts == built.layouts).all()
        assert (costs.makespan_s == built.makespan_s).all()
        assert costs.split_s.sum(axis=1) == pytest.approx(costs.makespan_s)


def test_totals_are_those_of_the_evaluation(model: Model) -> None:
    evaluation = evaluate_model(model)
    data = totals(evaluation)
    assert data["nodes"] == [2, 4]
    for at, nodes in enumerate(("2", "4")):
        scale = evaluation["scales"][nodes]
        for name in ("best", "median", "worst"):
            assert data[f"{name}_s"][at] == scale["makespan_s"][name]
        for policy, figures in scale["policies"].items():
            assert data["first_choice_s"][policy][at] == figures["first_choice"]["makespan_s"]
        held_out = scale["regions"]["first_choice_held_out"]
        assert data["first_choice_s"]["regions"][at] == held_out["makespan_s"]


class TestSignature:
    def test_it_has_the_tiers_and_roles_of_the_region(self, model: Model) -> None:
        regions = model.scale(2).regions
        assert regions is not None
        for region in regions.regions:
            data = signature(model, 2, region.id)
            assert [stage["name"] for stage in data["stages"]] == list(model.workflow.stage_names)
            for stage in data["stages"]:
                rule = region.stages[stage["name"]]
                assert (stage["share"], stage["role"]) == (dict(rule.share), rule.role)
                assert sum(stage["share"].values()) == pytest.approx(1)
            assert [(edge["producer"], edge["consumer"]) for edge in data["edges"]] == [
                ("split", "merge"),
                ("merge", "report"),
            ]

    def test_without_regions_it_is_an_error(self) -> None:
        with pytest.raises(RequestError, match="no region 0 on 1 node"):
            signature(small_model(), 1)


def overlaps(layout: DagLayout) -> list[tuple[str, str]]:
    by_column: dict[int, list[tuple[float, str]]] = {}
    for name, place in layout.places.items():
        by_column.setdefault(place.column, []).append((place.row, name))
    return [
        (a[1], b[1])
        for members in by_column.values()
        for a, b in pairwise(sorted(members))
        if b[0] - a[0] < STAGE_ROWS - 1e-9
    ]


class TestLayout:
    @pytest.mark.parametrize("seed", range(40))
    def test_no_two_stages_overlap_and_edges_go_right(self, seed: int) -> None:
        workflow = random_workflow(random.Random(seed), 12)
        layout = lay_out(workflow)
        assert overlaps(layout) == []
        for edge, via in layout.edges.items():
            start, end = layout.places[edge.producer], layout.places[edge.consumer]
            columns = [start.column, *(place.column for place in via), end.column]
            assert columns == list(range(start.column, end.column + 1))
            # An edge that passes a column does not run behind a stage of it.
            for passed in via:
                beside = [place.row for place in layout.places.values() if place.column == passed.column]
                assert min(abs(row - passed.row) for row in beside) > 0.5

    def test_a_chain_is_straight(self) -> None:
        names = ["a", "b", "c"]
        before = {"a": INITIAL_DATA, "b": "a", "c": "b"}
        workflow = Workflow("chain", tuple(Stage(n, i + 1, 1, {before[n]: ()}) for i, n in enumerate(names)))
        layout = lay_out(workflow)
        assert [layout.places[name] for name in names] == [(0, 0.0), (1, 0.0), (2, 0.0)]


@pytest.mark.parametrize("kind", DRAWINGS)
def test_all_words_stand_inside_the_picture(kind: str, model: Model) -> None:
    data = {
        "regions": lambda: regions_scatter(model, space_costs(model, 2)),
        "costs": lambda: region_costs(model, space_costs(model, 2)),
        "totals": lambda: totals(evaluate_model(model)),
        "signature": lambda: signature(model, 2),
    }[kind]()
    figure = draw(data)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn_in = figure.get_tightbbox(canvas.get_renderer())
    assert min(drawn_in.x0, drawn_in.y0) >= 0
    assert drawn_in.x1 <= figure.get_figwidth()
    assert drawn_in.y1 <= figure.get_figheight()
