from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from html import unescape
from importlib.resources import files
from io import StringIO
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest

from qosflow_airflow.core.evaluation import evaluate_model
from qosflow_airflow.core.figure_data import cost_shift, region_costs, regions_scatter, signature, totals
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.region_fit import fit_regions
from qosflow_airflow.core.space_costs import space_costs
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.store.base import ModelVersion
from qosflow_airflow.web.charts import (
    draw_costs,
    draw_regions,
    draw_shift,
    draw_signature,
    draw_totals,
    element,
)
from qosflow_airflow.web.figure_tables import TABLES, Column, Table, configurations_of, table_of
from qosflow_airflow.web.what_if import as_code, form_query, parse_form
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow, stage_times
from tests.web.conftest import Client
from tests.web.test_pages import Page

pytestmark = pytest.mark.airflow

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; drop table qosflow.models; --",
    "{{ conn.db.password }}",
    "{% raw %}",
    "</title></svg><script>1</script>",
    "a=b,c&d#e?f/../g",
)


def with_regions(workflow: Workflow, catalog: TierCatalog) -> Model:
    scales = []
    for nodes in (1, 2):
        times = stage_times(workflow, catalog, nodes)
        model = Model(workflow, catalog, COMPLETE, (ScaleModel(nodes, times),))
        makespans = model.makespans(nodes)
        layouts = np.concatenate(list(model.space.representatives()))
        regions = fit_regions(makespans, layouts, makespans.schedule(layouts))
        scales.append(ScaleModel(nodes, times, regions))
    return Model(workflow, catalog, COMPLETE, tuple(scales))


def publish(store: KeptStore, model: Model) -> ModelVersion:
    name = model.workflow.name
    store.register_workflow(name, "/bundle")
    build_id = store.create_build(name, {}, {})
    store.put_part(build_id, "model", None, json.dumps(model.to_json()).encode())
    store.put_part(build_id, "regions", None, json.dumps(model.regions_to_json()).encode())
    kinds: list[tuple[str, str | None]] = [("model", None), ("regions", None)]
    return store.publish(build_id, {"rules": "complete"}, kinds, qosflow_version="test")


@pytest.fixture
def model(mounts: dict[str, str]) -> Model:
    return with_regions(small_workflow(), small_catalog(mounts))


@pytest.fixture
def version(store: KeptStore, model: Model) -> ModelVersion:
    return publish(store, model)


def test_the_page_of_a_model_shows_regions_orderings_and_figures_with_their_numbers(
    client: Client, version: ModelVersion
) -> None:
    answer = client("viewer").get(f"/models/{version.model_id}?nodes=2&region=1")
    assert answer.status_code == 200
    page = Page(answer.text)
    for words in ("On 2 nodes", "FSF", "regions", "Use 2 nodes, every stage on ram", "measured", "100.0%"):
        assert words in page.text, words
    assert page.tags.count("figure") == 5
    assert page.handlers == []
    assert "style" not in page.tags
    scripts = [link for link in page.links if link.endswith(".js")]
    assert scripts == ["../static/theme.js", "../static/what-if.js"]


@pytest.mark.parametrize(
    "query", ["nodes=7&region=99", "nodes=x", "nodes=%00&region=-1", "region=9999999999"]
)
def test_a_scale_that_there_is_not_is_as_none(client: Client, version: ModelVersion, query: str) -> None:
    answer = client("viewer").get(f"/models/{version.model_id}?{query}")
    assert answer.status_code == 200
    assert "On 1 node" in Page(answer.text).text


@pytest.mark.parametrize("path", ["", "/answer"])
def test_a_repair_is_a_link_that_asks_the_changed_request(
    client: Client, version: ModelVersion, path: str
) -> None:
    viewer = client("viewer")
    address = f"/models/{version.model_id}"
    refused = viewer.get(f"{address}{path}?deadline_s=0.5&allow=disk&allow=ram&ask=1")
    assert "infeasible" in refused.text
    (repair,) = [link for link in Page(refused.text).links if link.startswith("?deadline_s")]
    assert dict(parse_qsl(repair[1:].partition("#")[0]))["deadline_s"] == "3.5"
    repaired = viewer.get(f"{address}{path}{repair.partition('#')[0]}")
    assert '<span class="tag feasible">' in repaired.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("deadline_s=soon", "deadline_s is 'soon', not a number."),
        ("deadline_s=-3", "greater than 0"),
        ("ask=1", "allow is empty"),
        ("pin-0=tape", "tape"),
        ("objective=fun", "unknown objective 'fun'"),
        ("max_nodes=1e400", "max_nodes"),
        ("deadline_s=9&confidence=0.9", "spread"),
    ],
)
def test_what_cannot_be_asked_is_said_beside_the_form(
    client: Client, version: ModelVersion, query: str, words: str
) -> None:
    for path in ("", "/answer"):
        answer = client("viewer").get(f"/models/{version.model_id}{path}?{query}")
        assert answer.status_code == 200
        assert words in unescape(answer.text)
        assert 'role="alert"' in answer.text


@pytest.mark.parametrize("path", ["", "/answer"])
def test_a_model_that_there_is_not_is_not_found(client: Client, path: str) -> None:
    answer = client("viewer").get(f"/models/none{path}")
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]


@pytest.mark.parametrize("evil", EVIL)
def test_names_of_workflows_stages_and_tiers_stay_text(
    client: Client, store: KeptStore, mounts: dict[str, str], evil: str
) -> None:
    tiers = TierCatalog((StorageTier(f"disk{evil}", True, mounts["disk"]), StorageTier("ram", False, "/ram")))
    stages = (
        Stage(f"one{evil}", 1, 3, {INITIAL_DATA: ()}, ("x",)),
        Stage(f"two{evil}", 2, 1, {f"one{evil}": ("x",)}),
    )
    version = publish(store, with_regions(Workflow(evil, stages), tiers))
    viewer = client("viewer")
    pages = [f"/models/{version.model_id}", f"/models/{version.model_id}?deadline_s={evil}&pin-0={evil}", "/"]
    for path in pages:
        answer = viewer.get(path)
        assert answer.status_code == 200
        page = Page(answer.text)
        assert evil in page.text
        assert page.handlers == []
        assert "img" not in page.tags
        assert page.tags.count("script") == (1 if path == "/" else 2)
    listed = viewer.get("/api/v1/workflows")
    assert listed.headers["content-type"] == "application/json"
    assert listed.json()["workflows"][0]["name"] == evil
    found = viewer.get(f"/models/{version.model_id}/answer?pin-0=ram")
    assert ("QoSRecommendOperator(" in found.text) == ("{" not in evil)


def test_a_form_and_its_address_ask_the_same(model: Model) -> None:
    for request in (
        QoSRequest(),
        QoSRequest(deadline_s=12.5, confidence=0.9, max_nodes=2, max_node_hours=3.0, max_cost=0.1),
        QoSRequest(allow=("ram",), pin={"merge": "ram"}, objective="cost"),
    ):
        assert parse_form(parse_qsl(form_query(request, model)), model) == request


def test_operator_code_is_python_that_asks_the_same() -> None:
    request = QoSRequest(deadline_s=12.5, allow=("a'b",), pin={"x": 'y"\n'}, objective="cost")
    given: dict[str, Any] = {}
    eval(as_code(request, "w'"), {"QoSRecommendOperator": lambda **named: given.update(named)})
    assert (given.pop("task_id"), given.pop("workflow")) == ("recommend", "w'")
    assert QoSRequest.parse(given) == request
    assert as_code(request, "{{ var.value.secret }}") == ""


def test_every_figure_is_well_formed_and_can_be_read_out(model: Model) -> None:
    costs = space_costs(model, 1)
    scatter = regions_scatter(model, costs)
    drawn = {
        "regions": draw_regions(scatter, configurations_of(scatter)),
        "costs": draw_costs(region_costs(model, costs)),
        "signature": draw_signature(signature(model, 1)),
        "totals": draw_totals(totals(evaluate_model(model))),
    }
    for name, svg in drawn.items():
        root = ElementTree.fromstring(svg)
        assert [child.tag for child in root][:2] == ["title", "desc"], name
        assert root.find("desc").text  # type: ignore[union-attr]
        assert not root.findall(".//*[@style]")
    points = ElementTree.fromstring(drawn["regions"]).findall("circle")
    assert len(points) == int(np.count_nonzero(costs.measured))
    bars = ElementTree.fromstring(drawn["costs"]).findall("rect")
    found = region_costs(model, costs)
    assert len(bars) == 4 * len(found["regions"])


def test_an_element_escapes_what_it_holds() -> None:
    assert element("text", "<b>", klass='"x"') == '<text class="&#34;x&#34;">&lt;b&gt;</text>'


def test_statics_need_a_login_and_there_are_no_others(client: Client) -> None:
    kinds = {
        "qosflow.css": "text/css",
        "theme.js": "text/javascript",
        "what-if.js": "text/javascript",
        "trigger.js": "text/javascript",
    }
    folder = files("qosflow_airflow.web").joinpath("static")
    assert {path.name for path in folder.iterdir()} == set(kinds)
    for name, kind in kinds.items():
        assert client(None).get(f"/static/{name}").status_code == 401
        answer = client("viewer").get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
    for name in ("app.py", "..%2Fapp.py", "%00", ""):
        assert client("viewer").get(f"/static/{name}").status_code == 404


def test_the_pages_of_a_model_without_regions_say_so(
    client: Client, store: KeptStore, mounts: dict[str, str]
) -> None:
    version = publish_model(store, small_workflow(), small_catalog(mounts))
    page = Page(client("viewer").get(f"/models/{version.model_id}").text)
    assert "The model has none on this number of nodes." in page.text
    assert page.tags.count("figure") == 1


@pytest.mark.parametrize("path", ["/models/{}", "/models/{}/answer"])
def test_a_model_needs_a_login(client: Client, version: ModelVersion, path: str) -> None:
    answer = client(None).get(path.format(version.model_id))
    assert answer.status_code == 401
    assert "split" not in answer.text


def test_what_runs_said_of_the_model_is_shown(
    client: Client, store: KeptStore, version: ModelVersion
) -> None:
    viewer, address = client("viewer"), f"/models/{version.model_id}"
    assert "qosflow validate" in Page(viewer.get(address).text).text
    card = {
        "concordance": 0.934,
        "median_error": 0.125,
        "p90_error": 0.31,
        "coverage_90": None,
        "runs": 24,
        "configurations": 8,
        "makespan_s": {"least": 3.0, "most": 41.5},
    }
    kept = store.add_report_card(version.model_id, card)
    text = " ".join(Page(viewer.get(address).text).text.split())
    for words in (
        "Pairs put in the right order 93% at least 95%",
        "Median error 12% at most 15%",
        "Error that 9 of 10 stay below 31%",
        "Runs within their 90% interval – 85% to 95%",
        "Runs 24",
        "Configurations that were run 8",
        "Measured makespans 3.00 s to 41.50 s",
        f"Tried {kept.created_at:%Y-%m-%d}",
    ):
        assert words in text, words
    found = viewer.get(f"/api/v1{address}").json()
    assert found["report_card"] == card
    assert found["report_card_at"] == kept.created_at.isoformat().replace("+00:00", "Z")


def test_a_report_card_of_another_version_shows_what_it_has(
    client: Client, store: KeptStore, version: ModelVersion
) -> None:
    store.add_report_card(version.model_id, {"median_error": None})
    text = " ".join(Page(client("viewer").get(f"/models/{version.model_id}").text).text.split())
    assert "Median error – at most 15%" in text


def figures_of(model: Model) -> list[dict[str, Any]]:
    costs = {nodes: space_costs(model, nodes) for nodes in model.nodes}
    of_regions = [region_costs(model, one) for one in costs.values()]
    return [
        regions_scatter(model, costs[1]),
        of_regions[0],
        cost_shift(model.workflow.name, of_regions),
        signature(model, 1),
        totals(evaluate_model(model)),
    ]


def test_every_figure_has_its_numbers_as_rows(model: Model) -> None:
    for data in figures_of(model):
        table = table_of(data)
        lines = list(csv.reader(StringIO(table.to_csv())))
        assert lines[0] == [column.name for column in table.columns]
        assert len(lines) == len(table.rows) + 1
        assert len(table.shown(2)) == min(2, len(table.rows))
        assert all(len(line) == len(table.columns) for line in lines)
    assert {data["figure"] for data in figures_of(model)} == set(TABLES)
    shift = table_of(figures_of(model)[2])
    for nodes, _, _, *parts, makespan_s in shift.rows:
        assert nodes in (1, 2)
        assert sum(parts) == pytest.approx(makespan_s)  # type: ignore[arg-type]


def test_a_point_says_its_configuration(model: Model) -> None:
    data = figures_of(model)[0]
    drawn = ElementTree.fromstring(draw_regions(data, configurations_of(data)))
    said = [one.findtext("title") for one in drawn.findall("circle")]
    assert said[0] == "region 0: 5 s, every stage on ram"
    assert len(set(said)) == 4
    makespans, layouts = model.makespans(1), np.array(data["layouts"], dtype=np.int8)
    assert makespans.makespan_s(layouts).tolist() == data["makespan_s"]


def test_bars_of_all_node_counts_stand_side_by_side(model: Model) -> None:
    data = figures_of(model)[2]
    drawn = ElementTree.fromstring(draw_shift(data))
    bars = drawn.findall("rect")
    assert len(bars) == 4 * sum(len(one["regions"]) for one in data["scales"])
    groups = [
        [float(bar.attrib["x"]) for bar in bars if f"{n} node" in bar.findtext("title", "")] for n in (1, 2)
    ]
    assert max(groups[0]) < min(groups[1])


@pytest.mark.parametrize("figure", ["regions", "costs", "shift", "signature", "totals"])
def test_the_numbers_of_a_figure_are_a_file(client: Client, version: ModelVersion, figure: str) -> None:
    viewer = client("viewer")
    page = Page(viewer.get(f"/models/{version.model_id}?nodes=2").text)
    (link,) = [one for one in page.links if f"figures.csv?figure={figure}&" in one]
    answer = viewer.get(f"/models/{link}".replace("/models/../", "/"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{figure}-2.csv"'
    data = viewer.get(f"/api/v1/models/{version.model_id}/figures?nodes=2").json()[figure]
    assert answer.text == table_of(data).to_csv()
    assert client(None).get(f"/models/{link}".replace("/models/../", "/")).status_code == 401


def test_a_figure_that_there_is_not_is_not_found(
    client: Client, store: KeptStore, mounts: dict[str, str]
) -> None:
    version = publish_model(store, small_workflow(), small_catalog(mounts))
    address = f"/api/v1/models/{version.model_id}/figures.csv"
    for figure, status in (("regions", 404), ("shift", 404), ("totals", 200), ("pie", 422)):
        assert client("viewer").get(f"{address}?nodes=1&figure={figure}").status_code == status


def test_a_spreadsheet_computes_nothing_of_a_name() -> None:
    table = Table((Column("=1+1", "x"), Column("n", "n", "seconds")), (("@sum(a)", -1.5), ("fine", None)))
    assert table.to_csv() == "'=1+1,n\n'@sum(a),-1.5\nfine,\n"
