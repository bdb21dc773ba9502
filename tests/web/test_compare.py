from __future__ import annotations

from dataclasses import replace
from html import unescape
from urllib.parse import quote

import pytest

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow, stage_times
from tests.web.conftest import Client
from tests.web.test_model_page import EVIL, publish, with_regions
from tests.web.test_pages import Page

pytestmark = pytest.mark.airflow

API = "/api/v1/compare"


@pytest.fixture
def versions(store: KeptStore, mounts: dict[str, str]) -> tuple[ModelVersion, ModelVersion]:
    """The small model, and it again with a split that reads from ram in 60 s."""
    workflow, catalog = small_workflow(), small_catalog(mounts)
    slow = {nodes: stage_times(workflow, catalog, nodes) for nodes in (1, 2)}
    for times in slow.values():
        times.read.seconds[0, 1] = 60.0
    return publish_model(store, workflow, catalog), publish_model(store, workflow, catalog, slow)


def query(*versions: ModelVersion, **more: object) -> str:
    left, right = versions
    asked = {"left": left.model_id, "right": right.model_id, **more}
    return "?" + "&".join(f"{name}={value}" for name, value in asked.items())


def test_two_versions_differ_in_a_stage_and_the_page_says_why(
    client: Client, versions: tuple[ModelVersion, ModelVersion]
) -> None:
    answer = client("viewer").get(f"/compare{query(*versions)}")
    assert answer.status_code == 200
    text = " ".join(Page(answer.text).text.split())
    assert "1 of the 2 stages in both has another best tier." in text
    assert (
        "split moves from ram to disk, mostly because of reading: that takes 1.5 s more on disk than on ram "
        "in version 1, and 58 s less in version 2."
    ) in text
    assert "In version 2, the tiers chosen in version 1 take 63.00 s" in text
    assert "read 0.50 s 2.00 s 60.00 s 2.00 s" in text
    assert "Makespan 3.50 s" in text


def test_the_numbers_are_the_same_as_json(
    client: Client, versions: tuple[ModelVersion, ModelVersion]
) -> None:
    found = client("viewer").get(f"{API}{query(*versions)}").json()
    assert (found["left_model"]["version"], found["right_model"]["version"]) == (1, 2)
    split, merge = found["comparison"]["stages"]
    assert (split["state"], split["cause"], merge["state"]) == ("changed", "read", "same")
    assert found["comparison"]["left"]["makespan_s"] == 3.5
    assert found["comparison"]["right"]["other_makespan_s"] == 63.0
    (said,) = found["words"]
    assert said.startswith("split moves from ram to disk, mostly because of reading")


def test_two_node_counts_of_a_model_are_compared(
    client: Client, versions: tuple[ModelVersion, ModelVersion]
) -> None:
    same = (versions[0], versions[0])
    found = client("viewer").get(f"{API}{query(*same, nodes=1, right_nodes=2)}").json()["comparison"]
    assert [found[side]["makespan_s"] for side in ("left", "right")] == [5.0, 3.5]
    text = Page(client("viewer").get(f"/compare{query(*same, nodes=1, right_nodes=2)}").text).text
    assert "On 1 node" in text
    assert "None of the 2 stages in both has another best tier." in text
    both = client("viewer").get(f"{API}{query(*same, nodes=2)}").json()["comparison"]
    assert [both[side]["nodes"] for side in ("left", "right")] == [2, 2]


def test_both_are_asked_the_same_request(client: Client, versions: tuple[ModelVersion, ModelVersion]) -> None:
    viewer = client("viewer")
    asked = query(*versions, deadline_s=4, allow="ram", objective="node_hours")
    found = viewer.get(f"{API}{asked}").json()["comparison"]
    assert found["left"]["makespan_s"] == 3.5
    assert found["right"]["makespan_s"] is None
    page = Page(viewer.get(f"/compare{asked}").text)
    assert "Nothing that is known meets the request" in page.text
    # The form asks the same constraints of whatever it is sent with.
    hidden = [tag for tag in page.tags if tag == "input"]
    assert len(hidden) == 3
    assert viewer.get(f"{API}{asked.replace('ram', 'tape')}").status_code == 422


def test_a_what_if_answer_leads_to_what_another_version_would_have_answered(
    client: Client, versions: tuple[ModelVersion, ModelVersion]
) -> None:
    viewer = client("viewer")
    address = f"/models/{versions[1].model_id}"
    shown = viewer.get(f"{address}?deadline_s=90&allow=disk&ask=1")
    links = [link for link in Page(shown.text).links if link.startswith("../compare?right=")]
    assert links == [f"../compare?right={versions[1].model_id}&deadline_s=90.0&allow=disk"]
    found = viewer.get(f"/api/v1/{unescape(links[0]).removeprefix('../')}").json()
    assert found["left_model"]["version"] == 1


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("nodes=7", 404),
        ("nodes=x", 422),
        ("nodes=&right_nodes=", 200),
        ("colour=red", 422),
        ("deadline_s=-1", 422),
        ("deadline_s=soon", 422),
    ],
)
def test_what_cannot_be_compared_is_said(
    client: Client, versions: tuple[ModelVersion, ModelVersion], more: str, status: int
) -> None:
    for path, kind in ((API, "application/json"), ("/compare", "text/html")):
        answer = client("viewer").get(f"{path}{query(*versions)}&{more}")
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith(kind)


def test_models_of_two_workflows_are_not_compared(
    client: Client, store: KeptStore, versions: tuple[ModelVersion, ModelVersion], mounts: dict[str, str]
) -> None:
    other = publish_model(store, replace(small_workflow(), name="other"), small_catalog(mounts))
    answer = client("viewer").get(f"{API}{query(versions[0], other)}")
    assert answer.status_code == 422
    assert "two workflows" in answer.json()["error"]["message"]
    absent = query(versions[0], other).replace(other.model_id, "no")
    assert client("viewer").get(f"{API}{absent}").status_code == 404


@pytest.mark.parametrize("evil", EVIL)
def test_names_stay_text(client: Client, store: KeptStore, mounts: dict[str, str], evil: str) -> None:
    tiers = TierCatalog((StorageTier(f"disk{evil}", True, mounts["disk"]), StorageTier("ram", False, "/ram")))
    stages = (Stage(f"one{evil}", 1, 3, {INITIAL_DATA: ()}, ("x",)),)
    version = publish(store, with_regions(Workflow(evil, stages), tiers))
    address = f"/compare?right={version.model_id}&exclude={quote(f'disk{evil}')}"
    answer = client("viewer").get(address)
    assert answer.status_code == 200
    page = Page(answer.text)
    assert f"one{evil}" in page.text
    assert page.handlers == []
    assert "img" not in page.tags


def test_a_comparison_needs_a_login(client: Client, versions: tuple[ModelVersion, ModelVersion]) -> None:
    for path in (API, "/compare"):
        answer = client(None).get(f"{path}{query(*versions)}")
        assert answer.status_code == 401
        assert "split" not in answer.text


def test_a_model_s_page_leads_to_its_comparisons(
    client: Client, versions: tuple[ModelVersion, ModelVersion]
) -> None:
    first, second = (version.model_id for version in versions)
    links = Page(client("viewer").get(f"/models/{first}").text).links
    assert f"../compare?left={first}&right={second}" in links
    assert f"../compare?left={first}&right={first}&nodes=1&right_nodes=2" in links
