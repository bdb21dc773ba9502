"""Airflow's scheduler is killed in the middle of a run and started again, on a real installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from airflow_api import AirflowApi
from airflow_services import managed_services
from state import ROOT, StateFolder, load_settings

pytestmark = [pytest.mark.system, pytest.mark.airflow]

EXAMPLE = ROOT / "examples" / "genome"
SLOW = """\
import os, runpy, sys, time
with open({log!r}, "a", encoding="utf-8") as log:
    log.write(os.environ["QOSFLOW_STAGE"] + " " + os.environ["QOSFLOW_INDEX"] + "\\n")
time.sleep(3)
sys.path.insert(0, {folder!r})
runpy.run_path({folder!r} + "/genome.py", run_name="__main__")
"""
SOON = {
    # What a run waits for once a scheduler is gone; by default these take minutes.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


class Installed:
    """A state folder of its own, in which tasks of the example take three seconds more."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder / "state")
        self.begun = folder / "begun"
        self.tiers = {"disk": folder / "disk", "tmpfs": folder / "memory"}
        program = folder / "slow.py"
        program.write_text(SLOW.format(log=str(self.begun), folder=str(EXAMPLE)), encoding="utf-8")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        own = {"QOSFLOW_HOME": str(self.state.path), "QOSFLOW_GENOME": str(program)}
        self.environment: Mapping[str, str] = {**kept, **own, **SOON}

    def bringup(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "bringup.py"), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def prepare(self) -> Path:
        bundle = self.state.bundles / "genome"
        tiers = [word for name, folder in self.tiers.items() for word in ("--tier", f"{name}={folder}")]
        program = str(EXAMPLE / "prepare.py")
        size = ("--size", "tests", "--budget-s", "2")
        self.bringup("run", "python", program, "--output", str(bundle), *size, *tiers)
        return bundle

    def api(self) -> AirflowApi:
        password = json.loads(self.state.passwords.read_text(encoding="utf-8"))["admin"]
        return AirflowApi(f"http://127.0.0.1:{load_settings(self.state).api_port}", "admin", password)

    def tasks_begun(self) -> list[str]:
        return self.begun.read_text(encoding="utf-8").splitlines() if self.begun.exists() else []


@pytest.fixture
def installed() -> Iterator[Installed]:
    # Not pytest's own temporary folder: that one is private, and root's server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-killed-"))
    folder.chmod(0o755)
    made = Installed(folder)
    made.bringup("up")
    try:
        yield made
    finally:
        # Shown where the test has failed, and gone with the folder after it.
        for service in managed_services(made.state):
            if service.name == "scheduler":
                print(service.log_tail(60))
        made.bringup("down")
        shutil.rmtree(folder)


def wait_for(what: str, condition: object, limit_s: float) -> None:
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not in {limit_s:g} s: {what}"
        time.sleep(0.2)


def test_a_run_goes_on_when_the_scheduler_was_killed_and_started_again(installed: Installed) -> None:
    api = installed.api()
    api.run_dag("qosflow_pipeline", {"bundle": str(installed.prepare())}, 300)
    ended: list[str] = []
    run = threading.Thread(
        target=lambda: ended.append(api.run_dag("genome_local", {"deadline_s": 3600}, 600)), daemon=True
    )
    run.start()
    wait_for("a task in the middle of the run", lambda: len(installed.tasks_begun()) >= 4, 180)
    (scheduler,) = [one for one in managed_services(installed.state) if one.name == "scheduler"]
    killed = scheduler.find()
    assert killed is not None
    family = scheduler.family()
    killed.kill()
    killed.wait(timeout=10)
    time.sleep(2)
    assert not ended
    installed.bringup("up")
    assert not [one for one in family if one.is_running() and one.status() != "zombie"]
    run.join(timeout=600)
    assert ended, "the run did not end well; its states are printed above"
    begun = installed.tasks_begun()
    # Every task ran; one that was lost with the scheduler may have run twice.
    assert len(set(begun)) == 18
    compared = api.returned("genome_local", ended[0], "compare")
    assert {name: stage["tasks"] for name, stage in compared["stages"].items()} == {
        "individuals": 10,
        "sifting": 2,
        "individuals_merge": 2,
        "mutation_overlap": 2,
        "frequency": 2,
    }
    summary = api.returned("genome_local", ended[0], "recommend")
    home = installed.tiers["disk"] / summary["recommendation_id"]
    for stage in ("mutation_overlap", "frequency"):
        on_home = summary["configuration"]["tiers"][stage] == "disk"
        folder = home / "output" / stage if on_home else home / "final" / stage
        subprocess.run([sys.executable, str(EXAMPLE / "genome.py"), "verify", str(folder)], check=True)
    assert list(home.rglob(".*.part")) == []
