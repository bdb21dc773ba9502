from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg2
import pytest
from airflow_services import airflow_environment, managed_services
from bringup import choose_api_port, choose_databases
from console import SetupError
from databases import Databases, create_databases, parse_server_url
from processes import ManagedProcess, stop_processes
from state import StateFolder, exclusive, free_port, load_settings, open_state, port_is_free, save_settings


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return open_state({"QOSFLOW_HOME": str(tmp_path / "state")})


# Settings


def test_settings_stay_the_same_and_private(state: StateFolder) -> None:
    first = load_settings(state)
    save_settings(state, first)
    assert load_settings(state) == first
    assert state.settings.stat().st_mode & 0o777 == 0o600
    assert len(first.jwt_secret) >= 64
    assert first.jwt_secret != first.secret_key
    assert first.api_port != first.postgres_port


def test_damaged_settings_are_named(state: StateFolder) -> None:
    state.settings.write_text('{"unknown": 1}')
    with pytest.raises(SetupError, match=r"settings\.json"):
        load_settings(state)


def test_one_bring_up_at_a_time(state: StateFolder) -> None:
    with exclusive(state), pytest.raises(SetupError, match="Another"), exclusive(state):
        pass
    with exclusive(state):
        pass


def test_a_free_port_can_be_listened_on_and_is_not_free_then() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not port_is_free(port)


def test_a_remembered_port_that_is_taken_is_replaced_but_a_chosen_one_is_an_error(state: StateFolder) -> None:
    settings = load_settings(state)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        settings.api_port = taken
        choose_api_port(state, settings, {})
        assert settings.api_port != taken
        with pytest.raises(SetupError, match=f"Port {taken}"):
            choose_api_port(state, settings, {"QOSFLOW_PORT": str(taken)})


def test_ones_own_server_is_remembered_until_the_embedded_one_is_asked_for(state: StateFolder) -> None:
    settings = load_settings(state)
    choose_databases(
        settings, {"QOSFLOW_POSTGRES_URL": "postgresql://me@db:5433", "QOSFLOW_DATABASE_NAME": "tiers"}
    )
    choose_databases(settings, {})
    assert (settings.postgres_url, settings.qosflow_database) == ("postgresql://me@db:5433", "tiers")
    choose_databases(settings, {"QOSFLOW_POSTGRES_URL": "embedded"})
    assert settings.postgres_url == ""


# The environment of the services


def test_addresses_are_loopback_and_follow_the_port(state: StateFolder) -> None:
    settings = load_settings(state)
    databases = parse_server_url("postgresql://me:pw@db:5433", "airflow", "qosflow")
    hostile = {"PATH": "/bin", "AIRFLOW_HOME": "/elsewhere", "QOSFLOW_DATABASE_URL": "postgresql://other/db"}
    environment = airflow_environment(state, settings, databases, {**hostile, "NO_PROXY": "example.org"})
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert str(settings.api_port) in environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert environment["AIRFLOW_HOME"] == str(state.airflow)
    assert environment["QOSFLOW_DATABASE_URL"] == "postgresql://me:pw@db:5433/qosflow"
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert environment["PATH"].endswith(":/bin")


# Databases


def test_a_server_url_keeps_its_options_and_drops_its_database() -> None:
    databases = parse_server_url("postgres://me:p%40$s@db/start?sslmode=require", "airflow", "qosflow")
    assert databases.maintenance == "start"
    assert databases.server == "db:5432"
    assert databases.url("qosflow") == "postgresql://me:p%40%24s@db/qosflow?sslmode=require"
    assert databases.asyncpg_url("airflow") == "postgresql+asyncpg://me:p%40%24s@db/airflow?ssl=require"


@pytest.mark.parametrize(
    "text", ["", "db:5432", "mysql://db", "postgresql://", "postgresql://db:port", "postgresql://db:0"]
)
def test_what_is_no_server_url_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="QOSFLOW_POSTGRES_URL"):
        parse_server_url(text, "airflow", "qosflow")


def test_databases_are_created_once_and_an_airflow_of_others_is_left_alone(postgres_url: str) -> None:
    server = postgres_url.removesuffix("/postgres")
    databases = parse_server_url(server, 'odd "name"', "also odd")
    create_databases(databases, ours=())
    create_databases(databases, ours=())
    _execute(databases, databases.airflow, "CREATE TABLE dag (dag_id text)")
    with pytest.raises(SetupError, match="tables that are not ours") as failure:
        create_databases(databases, ours=())
    assert "QOSFLOW_AIRFLOW_DATABASE_NAME" in failure.value.cure
    create_databases(databases, ours=[databases.airflow])


def test_a_user_who_may_not_create_is_told_what_to_ask_for(postgres_url: str) -> None:
    server = postgres_url.removesuffix("/postgres")
    admin = parse_server_url(server, "a", "q")
    _execute(admin, "postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'")
    poor = parse_server_url(server.replace("qosflow:test", "poor:poor"), "denied", "q")
    with pytest.raises(SetupError, match="may not create the database 'denied'"):
        create_databases(poor, ours=())


def _execute(databases: Databases, name: str, statement: str) -> None:
    connection = psycopg2.connect(databases.url(name))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


# Processes

# Ignores the polite signal, and starts a child in a session of its own, as Airflow's tasks do.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def start(tmp_path: Path, code: str) -> ManagedProcess:
    managed = ManagedProcess("one", tmp_path / "one.json", tmp_path / "one.log")
    managed.start([sys.executable, "-c", code], dict(os.environ))
    return managed


def test_a_process_is_found_and_stopped_politely(tmp_path: Path) -> None:
    managed = start(tmp_path, "import time; time.sleep(600)")
    assert managed.find() is not None
    assert stop_processes([managed], grace_s=10) == ["one"]
    assert managed.find() is None
    assert stop_processes([managed], grace_s=10) == []


def test_a_stubborn_process_and_its_children_end_by_force(tmp_path: Path) -> None:
    managed = start(tmp_path, STUBBORN)
    while not managed.log.read_text():
        time.sleep(0.05)
    child = psutil.Process(int(managed.log.read_text()))
    assert stop_processes([managed], grace_s=0.5) == ["one"]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_outlives_its_parent_is_stopped_too(tmp_path: Path) -> None:
    orphan = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True)"
    managed = start(tmp_path, orphan)
    while not managed.log.read_text() or managed.find():
        time.sleep(0.05)
    child = psutil.Process(int(managed.log.read_text()))
    assert child.is_running()
    stop_processes([managed], grace_s=1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_reused_process_id_is_not_ours(tmp_path: Path) -> None:
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        managed = ManagedProcess("one", tmp_path / "one.json", tmp_path / "one.log")
        managed.pid_file.write_text(json.dumps({"pid": innocent.pid, "started": 1.0}))
        assert managed.find() is None
        assert stop_processes([managed], grace_s=1) == []
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_four_services_each_have_a_pid_file_and_a_log(state: StateFolder) -> None:
    services = managed_services(state)
    assert [one.name for one in services] == ["api-server", "scheduler", "dag-processor", "triggerer"]
    assert len({one.pid_file for one in services} | {one.log for one in services}) == 8
