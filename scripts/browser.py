"""A Chromium that logs in to an installation: the tests walk with it, and pictures of pages are taken.

    python scripts/browser.py PATH PICTURE.png [HEIGHT]

takes a picture of a page of the installation that QOSFLOW_HOME names: /plugin/qosflow, or another that
the demo names at its end.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_services import AirflowServices
from playwright.sync_api import Browser, Page, sync_playwright
from state import load_settings, locate_state

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The system's own, ``None`` where there is none: playwright's would have to be downloaded."""
ARGUMENTS = (
    "--no-sandbox",  # Chromium refuses to run as root with it, and loads nothing here but our own pages
    "--disable-dev-shm-usage",  # in a container, it is small
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
LIMIT_MS = 60_000  # a busy machine takes many times what an idle one does
WIDTH, HEIGHT = 1280, 900


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, and end it afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


def log_in(page: Page, password: str) -> None:
    """Fill the form in which Airflow asks who one is."""
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(password)
    page.locator("button[type=submit]").click()


def main(path: str, picture: str, height: str = str(HEIGHT)) -> None:
    """Take a picture of a page of ours in Airflow's frame, ``height`` pixels high."""
    state = locate_state(os.environ)
    settings = load_settings(state)
    services = AirflowServices(state, {}, f"http://127.0.0.1:{settings.api_port}", settings)
    with chromium() as browser:
        page = browser.new_page(base_url=services.url, viewport={"width": WIDTH, "height": int(height)})
        page.set_default_timeout(LIMIT_MS)
        page.goto(path)
        log_in(page, services.password)
        page.frame_locator("iframe").locator("h1").wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=picture, animations="disabled")


if __name__ == "__main__":
    main(*sys.argv[1:])
