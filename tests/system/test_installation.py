"""What ``setup.sh`` promises, on a real installation: services, tier decision, stop; in this order."""

from __future__ import annotations

import re
from collections.abc import Iterator

import demo
import psutil
import pytest
from airflow_services import managed_services
from console import SetupError
from state import StateFolder, load_settings

from tests.support.installation import bringup, own_state

pytestmark = [pytest.mark.system, pytest.mark.airflow]


@pytest.fixture(scope="module")
def state() -> Iterator[StateFolder]:
    with own_state() as state:
        yield state


def running(state: StateFolder) -> dict[str, psutil.Process]:
    return {one.name: process for one in managed_services(state) if (process := one.find())}


def test_nothing_is_said_of_what_is_not_set_up(state: StateFolder) -> None:
    result = bringup(state, "status")
    assert result.returncode == 3
    assert "./setup.sh up" in result.stdout
    assert not state.path.exists()


def test_up_makes_all_services_healthy(state: StateFolder) -> None:
    result = bringup(state, "up")
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(running(state)) == {"api-server", "scheduler", "dag-processor", "triggerer"}
    status = bringup(state, "status")
    assert status.returncode == 0, status.stdout
    assert status.stdout.count("healthy") == 4
    assert f"http://127.0.0.1:{load_settings(state).api_port}" in status.stdout


def listening_on(process: psutil.Process) -> list[str]:
    """The addresses that a process listens on; none of one that has ended since it was listed."""
    try:
        found = process.net_connections(kind="inet")
    except psutil.NoSuchProcess:
        return []
    return [connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN]


def test_everything_listens_on_loopback_only(state: StateFolder) -> None:
    family = [process for one in managed_services(state) for process in one.family()]
    listening = [ip for process in family for ip in listening_on(process)]
    assert listening, "at least the web server listens"
    assert set(listening) == {"127.0.0.1"}


def test_secrets_can_be_read_by_their_owner_only(state: StateFolder) -> None:
    assert state.passwords.stat().st_mode & 0o077 == 0
    assert state.settings.stat().st_mode & 0o077 == 0
    assert state.airflow.stat().st_mode & 0o077 == 0


def test_a_second_up_reuses_what_runs(state: StateFolder) -> None:
    before = {name: process.pid for name, process in running(state).items()}
    result = bringup(state, "up")
    assert result.returncode == 0, result.stderr
    assert "run already" in result.stdout
    assert {name: process.pid for name, process in running(state).items()} == before


def test_any_airflow_command_runs_inside(state: StateFolder) -> None:
    listed = bringup(state, "run", "airflow", "providers", "list")
    assert "airflow-provider-qosflow" in listed.stdout, listed.stderr
    errors = bringup(state, "run", "airflow", "dags", "list-import-errors")
    assert errors.returncode == 0, errors.stdout
    assert "No data found" in errors.stdout
    database = bringup(state, "run", "qosflow", "db", "status")
    assert database.returncode == 0, database.stderr


def test_what_has_ended_is_started_again(state: StateFolder) -> None:
    lost = running(state)["triggerer"]
    lost.kill()
    lost.wait(timeout=10)
    assert bringup(state, "status").returncode == 3
    assert bringup(state, "up").returncode == 0
    assert running(state)["triggerer"].pid != lost.pid


def test_the_demo_decides_runs_and_compares(state: StateFolder) -> None:
    try:
        demo.memory_tier(state, {})
    except SetupError as error:
        pytest.skip(str(error))
    result = bringup(state, "demo")
    assert result.returncode == 0, result.stdout + result.stderr
    answer = result.stdout[result.stdout.index("\nChoice: ") :]
    rows = {line.split()[0]: line.split() for line in answer.splitlines() if line.strip()}
    for stage in ("individuals", "individuals_merge", "sifting", "mutation_overlap", "frequency"):
        tier, predicted_s, busy_s, measured_s = rows[stage][1:5]
        assert tier in ("disk", "tmpfs")
        assert float(predicted_s) > 0
        assert 0 < float(busy_s) <= float(measured_s)
    assert "Why: " in answer
    assert re.search(r"/dags/genome_local/runs/manual__\S+/plugin/qosflow-run$", answer, flags=re.MULTILINE)
    assert re.search(
        r"prediction is (NOT )?closer\. Its reason, as in the log of `recommend`: Corrected by", answer
    )


def test_down_stops_everything_and_is_content_with_nothing(state: StateFolder) -> None:
    family = [process for one in managed_services(state) for process in one.family()]
    assert family
    result = bringup(state, "down")
    assert result.returncode == 0, result.stderr
    assert "postgres" in result.stdout
    assert [process.pid for process in family if is_alive(process)] == []
    assert not any((folder / demo.memory_name(state)).exists() for folder in demo.memory_folders())
    assert "nothing was running" in bringup(state, "down").stdout


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
