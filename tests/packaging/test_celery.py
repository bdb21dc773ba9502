"""What ``QOSFLOW_EXECUTOR=celery`` starts, without Airflow: settings, Redis, and the workers' commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow_services import WORKERS, airflow_environment, command_of, managed_services
from bringup import choose_executor
from console import SetupError
from databases import Databases
from processes import stop_processes
from redis_server import PROGRAM, answer, find_redis, listening_workers, redis_process, start_redis
from state import Settings, StateFolder, free_port, load_settings, open_state


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return open_state({"QOSFLOW_HOME": str(tmp_path / "state")})


def test_the_executor_is_remembered_and_can_be_taken_back() -> None:
    settings = Settings()
    choose_executor(settings, {})
    assert settings.executor == "local"
    choose_executor(settings, {"QOSFLOW_EXECUTOR": "celery"})
    choose_executor(settings, {})
    assert settings.executor == "celery"
    choose_executor(settings, {"QOSFLOW_EXECUTOR": "local"})
    assert settings.executor == "local"
    with pytest.raises(SetupError, match="QOSFLOW_EXECUTOR"):
        choose_executor(settings, {"QOSFLOW_EXECUTOR": "kubernetes"})


def test_tasks_go_through_redis_on_loopback_only_where_there_are_workers(state: StateFolder) -> None:
    databases = Databases("postgresql://u:p@127.0.0.1:5432", "airflow", "qosflow")
    settings = load_settings(state)
    local = airflow_environment(state, settings, databases, {})
    assert local["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert not any(name.startswith("AIRFLOW__CELERY") for name in local)
    settings.executor = "celery"
    celery = airflow_environment(state, settings, databases, {})
    assert celery["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    place = f"redis://:{settings.redis_password}@127.0.0.1:{settings.redis_port}"
    assert celery["AIRFLOW__CELERY__BROKER_URL"] == f"{place}/0"
    assert celery["AIRFLOW__CELERY__RESULT_BACKEND"] == f"{place}/1"


def test_each_worker_has_a_name_and_a_pid_file_of_its_own(state: StateFolder) -> None:
    assert {one.name for one in managed_services(state, "celery")} > set(WORKERS)
    assert not {one.name for one in managed_services(state)} & set(WORKERS)
    commands = [command_of(name, state) for name in WORKERS]
    for option in ("--celery-hostname", "--pid"):
        assert len({command[command.index(option) + 1] for command in commands}) == len(WORKERS)


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed")
def test_redis_asks_for_its_password_listens_on_loopback_and_is_stopped_by_process_id(
    state: StateFolder,
) -> None:
    port = free_port()
    start_redis(state, port, "secret")
    try:
        process = redis_process(state).find()
        assert process is not None
        assert {one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"} == {"127.0.0.1"}
        assert "secret" not in " ".join(process.cmdline())
        assert answer(port, "wrong", "PING").startswith("-NOAUTH")
        assert answer(port, "secret", "PING").startswith("+PONG")
        assert listening_workers(port, "secret") == 0
        start_redis(state, port, "secret")
        assert redis_process(state).find() == process
    finally:
        assert stop_processes([redis_process(state)], 10) == ["redis"]
    assert answer(port, "secret", "PING") == ""


def test_without_the_program_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match=PROGRAM):
        find_redis()
