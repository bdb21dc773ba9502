"""The pages in a real Chromium, logged in to a real Airflow that has run the genome example."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow_api import AirflowApi
from airflow_services import AirflowServices
from browser import LIMIT_MS, chromium, log_in
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect
from state import ROOT, StateFolder, load_settings

from tests.support.installation import bringup, own_state

DAG = "genome_local"
WORKFLOW = "genome"
DEADLINE_S = 300  # kept many times over, however busy the machine is
SCREENSHOTS = Path(os.environ.get("QOSFLOW_SCREENSHOTS") or ROOT / ".qosflow" / "screenshots")


@dataclass(frozen=True)
class Installation:
    """A running Airflow whose store holds a model of the genome example, and the run that it is at."""

    url: str
    password: str
    finished: Callable[[], str]
    """Waits for the run and returns its id."""


def prepare_bundle(state: StateFolder, tmpfs: Path) -> subprocess.Popen[bytes]:
    """Start measuring and tracing the smallest example."""
    program = ROOT / "examples" / WORKFLOW / "prepare.py"
    bundle, disk = state.bundles / WORKFLOW, state.tiers / "disk"
    tiers = ["--tier", f"disk={disk}", "--tier", f"tmpfs={tmpfs}"]
    command = [sys.executable, program, "--output", bundle, *tiers, "--size", "tests", "--budget-s", "1"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with own_state() as state, ThreadPoolExecutor(1) as beside:
        preparing = prepare_bundle(state, tmp_path_factory.mktemp("tmpfs"))
        up = bringup(state, "up")
        assert up.returncode == 0, up.stdout + up.stderr
        assert preparing.wait(timeout=300) == 0
        build = ["qosflow", "build", "--store", "--scales", "1,2,4", str(state.bundles / WORKFLOW)]
        built = bringup(state, "run", *build)
        assert built.returncode == 0, built.stderr
        settings = load_settings(state)
        services = AirflowServices(state, {}, f"http://127.0.0.1:{settings.api_port}", settings)
        api = AirflowApi(services.url, "admin", services.password)
        # What needs no finished run is looked at while it runs.
        run = beside.submit(api.run_dag, DAG, {"deadline_s": DEADLINE_S, "max_nodes": 1}, 600)
        yield Installation(services.url, services.password, run.result)
        run.result()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def login(browser: Browser, installation: Installation) -> Any:
    """What a browser keeps of a login through the form."""
    context = browser.new_context()
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    page.goto(f"{installation.url}/auth/login")
    log_in(page, installation.password)
    page.get_by_role("link", name="QoSFlow").wait_for()
    state = context.storage_state()
    context.close()
    return state


Visit = Callable[..., Page]
"""Opens a page of a browser that is logged in; takes options of a browser's context, as ``color_scheme``."""


@pytest.fixture
def visit(browser: Browser, login: Any, installation: Installation) -> Iterator[Visit]:
    """What our pages complain of in the console is a failure: errors, and what their policy forbids."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def heard(said: ConsoleMessage) -> None:
        if said.type == "error" and ("/qosflow/" in said.location["url"] or "Security Policy" in said.text):
            complaints.append(f"{said.location['url']}: {said.text}")

    def thrown(error: Error) -> None:
        if "/qosflow/" in (error.stack or ""):
            complaints.append(error.stack or error.message)

    def open_page(**options: Any) -> Page:
        context = browser.new_context(base_url=installation.url, storage_state=login, **options)
        context.set_default_timeout(LIMIT_MS)
        context.on("console", heard)
        context.on("weberror", lambda found: thrown(found.error))
        contexts.append(context)
        return context.new_page()

    open_page.complaints = complaints  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


expect.set_options(timeout=LIMIT_MS)


def keep_picture(page: Page, name: str) -> None:
    """Keep what is seen, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")
