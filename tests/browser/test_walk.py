"""A walk through the pages, as a person takes it."""

from __future__ import annotations

import re
from urllib.parse import quote

import demo
import pytest
from browser import CHROMIUM, LIMIT_MS, log_in
from playwright.sync_api import Browser, FrameLocator, Page, expect

from tests.browser.conftest import DAG, DEADLINE_S, WORKFLOW, Installation, Visit, keep_picture

pytestmark = [
    pytest.mark.system,
    pytest.mark.airflow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium is installed; as root, ./setup.sh test installs it"
    ),
]

PHONE = {"width": 390, "height": 844}


def frame_of(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def open_model(page: Page) -> None:
    page.goto("/qosflow/")
    page.get_by_role("link", name=WORKFLOW, exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(WORKFLOW)


def test_the_navigation_leads_to_the_workflows_and_to_a_model(visit: Visit) -> None:
    page = visit()
    page.goto("/")
    page.get_by_role("link", name="QoSFlow").click()
    ours = frame_of(page)
    expect(ours.get_by_role("heading", name="Workflows")).to_be_visible()
    keep_picture(page, "workflows-in-airflow")
    ours.get_by_role("link", name=WORKFLOW, exact=True).first.click()
    expect(ours.get_by_role("heading", level=1)).to_contain_text(WORKFLOW)
    expect(ours.locator("figure")).not_to_have_count(0)
    keep_picture(page, "model-in-airflow")


def test_an_answer_appears_while_one_types(visit: Visit) -> None:
    page = visit()
    open_model(page)
    answer = page.locator("#answer")
    expect(answer.locator(".tag").first).to_have_text("feasible")
    keep_picture(page, "model")
    page.get_by_label("Deadline, s").press_sequentially("3600")
    expect(answer).to_contain_text("before the deadline")
    assert "deadline_s=3600" in page.url, "the question can be sent to others"
    page.reload()
    expect(page.get_by_label("Deadline, s")).to_have_value("3600")
    expect(answer).to_contain_text("before the deadline")


def test_an_infeasible_answer_has_repairs_that_are_asked_with_a_click(
    visit: Visit, installation: Installation
) -> None:
    page = visit()
    installation.finished()
    open_model(page)
    answer = page.locator("#answer")
    for _ in range(60):
        # What a run has taught is looked up now and then, and a repair must hold when it is clicked.
        if "in which Airflow starts" in answer.inner_text():
            break
        page.wait_for_timeout(1000)
        page.reload()
    page.get_by_label("Deadline, s").press_sequentially("0.001")
    expect(answer.locator(".tag").first).to_have_text("infeasible")
    keep_picture(page, "infeasible")
    repair = answer.get_by_role("link", name=re.compile("deadline of"))
    repair.first.click()
    expect(page.locator("#answer .tag").first).to_have_text("feasible")
    assert float(page.get_by_label("Deadline, s").input_value()) > 0.001


def test_the_button_of_a_task_leads_to_its_recommendation(visit: Visit, installation: Installation) -> None:
    page = visit()
    run_id = installation.finished()
    page.goto(f"/dags/{DAG}/runs/{run_id}/tasks/recommend/details")
    page.get_by_role("link", name="Recommendation").click()
    expect(page).to_have_url(re.compile("/qosflow/recommendations/"))
    expect(page.get_by_role("heading", level=1)).to_contain_text(WORKFLOW)
    expect(page.locator("body")).to_contain_text(run_id)
    keep_picture(page, "recommendation")


def test_the_addresses_that_the_demo_names_are_reached_through_the_login(
    browser: Browser, installation: Installation
) -> None:
    run = demo.Run(installation.finished(), {}, {})
    context = browser.new_context()
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    for (_, address), shown in zip(
        demo.pages(installation.url, run), ("What happened", "Workflows"), strict=True
    ):
        context.clear_cookies()
        page.goto(address)
        log_in(page, installation.password)
        expect(frame_of(page).get_by_role("heading", name=shown)).to_be_visible()
    context.close()


def test_two_node_counts_are_compared(visit: Visit) -> None:
    page = visit()
    open_model(page)
    page.get_by_text("Compare with").get_by_role("link", name="4 nodes").click()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    keep_picture(page, "compare")
    page.get_by_label("Right").select_option(index=0)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()


def test_a_phone_shows_the_pages_without_scrolling_sideways(visit: Visit, installation: Installation) -> None:
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True)
    installation.finished()
    for name, start, link in (
        ("workflows", "/qosflow/", None),
        ("recommendation", "/qosflow/", "recommendations/"),
        ("run", f"/qosflow/dag?dag_id={DAG}", "run?"),
        ("model", "/qosflow/", "models/"),
        ("compare", None, "compare?"),
    ):
        if start:
            page.goto(start)
        if link:
            page.goto(page.locator(f"a[href*='{link}']").first.evaluate("one => one.href"))
        keep_picture(page, f"phone-{name}")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], name


def open_tab(page: Page, address: str) -> FrameLocator:
    """Go to a page of Airflow and click its tab."""
    page.goto(address)
    page.locator("a[href*='/plugin/qosflow-']").click()
    return frame_of(page)


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
    expect(ours.get_by_label("Deadline, s")).to_have_value(str(DEADLINE_S))


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


def darkness(place: Page | FrameLocator) -> float:
    """From 0, white, to 1, black."""
    colour = place.locator("html").evaluate("one => getComputedStyle(one).backgroundColor")
    return 1 - sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_pages_are_as_dark_as_airflow_whatever_the_system_is(visit: Visit, system: str) -> None:
    page = visit(color_scheme=system)
    page.goto("/plugin/qosflow")
    ours = frame_of(page)
    expect(ours.get_by_role("heading", name="Workflows")).to_be_visible()
    for theme in ("light", "dark"):
        page.get_by_role("button", name="User").click()
        page.get_by_role("menuitem", name="Appearance").click()
        page.get_by_role("menuitemradio", name=theme.title()).click()
        page.keyboard.press("Escape")
        expect(ours.locator(f"html[data-theme={theme}]")).to_be_attached()
        assert (darkness(ours) > 0.8) == (theme == "dark")
        keep_picture(page, f"workflows-{theme}-in-airflow")
    open_model(page)
    assert darkness(page) > 0.8
    keep_picture(page, "model-dark")


def test_without_a_choice_the_pages_are_as_the_system(visit: Visit) -> None:
    page = visit(color_scheme="dark")
    page.goto("/qosflow/")
    page.evaluate("localStorage.removeItem('theme')")
    page.reload()
    assert darkness(page) > 0.8


def test_the_form_is_filled_and_sent_with_the_keyboard(visit: Visit) -> None:
    page = visit()
    open_model(page)
    wanted = set(
        page.locator("form [name]:not([type=hidden]):visible").evaluate_all("all => all.map(one => one.name)")
    )
    page.get_by_label("Deadline, s").focus()
    reached = set()
    for _ in range(30):
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.type"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "where one is must be seen"
        page.keyboard.press("Tab")
    assert wanted | {"submit"} <= reached
    page.get_by_label("Deadline, s").focus()
    page.keyboard.type("0.001")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .tag").first).to_have_text("infeasible")


def test_what_the_pages_forbid_is_heard(visit: Visit) -> None:
    page = visit()
    page.goto("/qosflow/")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))"
    )
    assert page.evaluate("window.ran") is None
    complaints = visit.complaints  # type: ignore[attr-defined]
    assert "Security Policy" in complaints.pop()


def test_a_run_is_started_with_what_was_asked_and_led_to_out_of_the_frame(visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 1600})
    page.goto("/plugin/qosflow")
    ours = frame_of(page)
    ours.get_by_role("link", name=WORKFLOW, exact=True).first.click()
    ours.get_by_label("Deadline, s").press_sequentially("0.001")
    expect(ours.locator("#answer .tag").first).to_have_text("infeasible")
    ours.get_by_text("Trigger a Dag with these params").click()
    ours.get_by_role("button", name=DAG).click()
    expect(ours.locator("#triggered")).to_contain_text("deadline_s = 0.001")
    keep_picture(page, "triggered")
    ours.locator("#triggered").get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/dags/{DAG}/runs/manual"))
    # Nothing is feasible, which the run says too; nothing of it is at work any more when all is stopped.
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
