"""The tabs that Airflow shows of a Dag, a run and a task instance, and the light in them."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.conftest import DAG, WORKFLOW, Installation, Visit, keep_picture

pytestmark = [pytest.mark.system, pytest.mark.airflow]


def open_tab(page: Page, address: str) -> FrameLocator:
    """Go to a page of Airflow and click its tab."""
    page.goto(address)
    page.locator("a[href*='/plugin/qosflow-']").click()
    return page.frame_locator("iframe")


def background(ours: FrameLocator) -> int:
    """Return the brightest of the three parts of a page's background."""
    colour = ours.locator("html").evaluate("one => getComputedStyle(one).backgroundColor")
    return max(map(int, re.findall(r"\d+", colour)[:3]))


def test_the_tab_of_a_dag_lists_its_recommendations(visit: Visit, installation: Installation) -> None:
    page = visit()
    run_id = installation.finished()
    ours = open_tab(page, f"/dags/{DAG}")
    expect(ours.get_by_role("heading", level=1)).to_contain_text(DAG)
    expect(ours.get_by_role("link", name=run_id)).to_be_visible()
    expect(ours.locator("body")).to_contain_text("Deadlines: 1 met")
    keep_picture(page, "tab-dag")
    ours.get_by_role("link", name=run_id).click()
    expect(ours.locator("svg.gantt")).to_be_visible()


def test_the_tab_of_a_run_shows_what_happened(visit: Visit, installation: Installation) -> None:
    page = visit(viewport={"width": 1280, "height": 2400})
    ours = open_tab(page, f"/dags/{DAG}/runs/{quote(installation.finished(), safe='')}")
    expect(ours.get_by_role("heading", name="What happened")).to_be_visible()
    expect(ours.locator("svg.gantt rect.observed.work")).to_have_count(5)
    expect(ours.locator("svg.gantt rect.planned.work")).to_have_count(5)
    keep_picture(page, "tab-run")
    ours.get_by_role("link", name="What if something else were asked?").click()
    expect(ours.get_by_label("Deadline, s")).to_have_value("60")


def test_the_tab_of_a_task_instance_shows_its_stage(visit: Visit, installation: Installation) -> None:
    page = visit()
    run = f"/dags/{DAG}/runs/{quote(installation.finished(), safe='')}"
    ours = open_tab(page, f"{run}/tasks/individuals.run/mapped/0")
    expect(ours.locator("body")).to_contain_text(f"Stage individuals of {WORKFLOW}")
    expect(ours.get_by_role("heading", level=1)).to_contain_text("individuals.run [0]")
    expect(ours.get_by_role("cell", name="success")).to_have_count(1)
    keep_picture(page, "tab-task-instance")
    ours = open_tab(page, f"{run}/tasks/recommend")
    expect(ours.locator("body")).to_contain_text("This task made the recommendation.")
    ours = open_tab(page, f"{run}/tasks/clean")
    expect(ours.locator("body")).to_contain_text("no part of a recommended run")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_a_page_in_airflow_is_as_light_as_airflow_whatever_the_system_is(visit: Visit, system: str) -> None:
    page = visit(color_scheme=system)
    for theme, other in (("dark", "light"), ("light", "dark")):
        page.goto("/")
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        page.goto("/plugin/qosflow")
        ours = page.frame_locator("iframe")
        expect(ours.get_by_role("heading", name="Workflows")).to_be_visible()
        assert (background(ours) > 127) == (theme == "light")
        keep_picture(page, f"airflow-{theme}-on-{system}")
        # As when somebody changes it while the page is open.
        page.evaluate("([from, to]) => document.documentElement.classList.replace(from, to)", [theme, other])
        expect(ours.locator(f"html[data-theme={other}]")).to_be_attached()
        assert (background(ours) > 127) == (other == "light")
