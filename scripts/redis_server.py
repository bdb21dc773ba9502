"""The Redis through which the scheduler hands tasks to Celery's workers: on 127.0.0.1, with a password."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

from console import SetupError, say
from processes import ManagedProcess
from state import StateFolder, write_private

PROGRAM = "redis-server"
START_LIMIT_S = 30.0


def redis_process(state: StateFolder) -> ManagedProcess:
    """Return the server of a state folder, running or not."""
    return ManagedProcess("redis", state.processes / "redis.json", state.logs / "redis.log")


def redis_url(port: int, password: str, database: int) -> str:
    """Return the URL of one of the server's databases."""
    return f"redis://:{password}@127.0.0.1:{port}/{database}"


def find_redis() -> str:
    """Return the path of the server's program, or raise :class:`SetupError` where it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise SetupError(
            f"{PROGRAM} is not installed; Celery hands tasks to its workers through it.",
            "Debian, Ubuntu: apt-get install redis-server. Without workers: QOSFLOW_EXECUTOR=local",
        )
    return program


def start_redis(state: StateFolder, port: int, password: str) -> None:
    """Start the server where it does not run, and wait until it answers.

    Nothing is kept on disk: what tasks wait for is in Airflow's own database, and sent again.
    """
    process = redis_process(state)
    if process.find():
        say(f"Redis: the server runs already on 127.0.0.1:{port}")
        return
    say(f"Redis: starting the server on 127.0.0.1:{port}")
    # In a file of ours alone: arguments can be seen by everybody on the machine.
    configuration = state.processes / "redis.conf"
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "daemonize": "no",
        "save": '""',
        "appendonly": "no",
        "dir": str(state.processes),
    }
    write_private(configuration, "".join(f"{name} {value}\n" for name, value in options.items()))
    process.start([find_redis(), configuration], {"PATH": str(Path(find_redis()).parent)})
    end = time.monotonic() + START_LIMIT_S
    while not answer(port, password, "PING").startswith("+PONG"):
        if not process.find() or time.monotonic() > end:
            raise SetupError(
                f"Redis did not start. The end of {process.log}:\n{process.log_tail()}",
                "Cure what the log names, then run ./setup.sh up again.",
            )
        time.sleep(0.1)


def answer(port: int, password: str, command: str) -> str:
    """Return what the server says to a command, empty where it says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
            found = connection.makefile("r", encoding="utf-8")
            return found.readline() and found.readline()
    except OSError:
        return ""


def listening_workers(port: int, password: str) -> int:
    """Return how many workers wait for orders at the server."""
    found = answer(port, password, "SCARD _kombu.binding.celery.pidbox")
    return int(found[1:]) if found.startswith(":") else 0
