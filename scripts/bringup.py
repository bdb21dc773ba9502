"""What setup.sh does once the Python environment stands.

``python scripts/bringup.py up | down | status | demo | run PROGRAM [ARGUMENT ...]``
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from airflow_services import (
    EXECUTORS,
    AirflowServices,
    airflow_environment,
    managed_services,
    stop_services,
)
from console import SetupError, report, say
from databases import Databases, airflow_revision, create_databases, parse_server_url
from demo import remove_memory_tier, run_demo
from embedded_postgres import EmbeddedPostgres, prepare_postgres, server_url
from redis_server import redis_process, start_redis
from state import (
    Settings,
    StateFolder,
    exclusive,
    free_port,
    load_settings,
    locate_state,
    open_state,
    port_is_free,
    save_settings,
    write_private,
)

EMBEDDED = "embedded"  # the value of QOSFLOW_POSTGRES_URL that goes back to the embedded server


def up(environ: Mapping[str, str]) -> AirflowServices:
    """Bring everything up, reusing what runs, and return the running Airflow."""
    state = open_state(environ)
    with exclusive(state):
        settings = load_settings(state)
        choose_databases(settings, environ)
        choose_api_port(state, settings, environ)
        choose_executor(settings, environ)
        if not settings.postgres_url:
            start_postgres(state, settings, environ)
        save_settings(state, settings)
        databases = locate_databases(settings)
        create_databases(databases, our_metadata(settings, databases))
        keep_login(state)
        if settings.executor == "celery":
            prepare_redis(state, settings)
        services = describe_services(state, settings, environ)
        migrate_airflow(services, settings, databases)
        migrate("QoSFlow's store", ("qosflow", "db", "upgrade"), services)
        services.start()
    say_login(services)
    return services


def down(environ: Mapping[str, str]) -> None:
    """Stop all that runs; the data stay."""
    state = locate_state(environ)
    if not state.settings.exists():
        say(f"Nothing to stop: {state.path} holds no installation")
        return
    with exclusive(state):
        stopped = stop_services(state)
        server = find_server(state, environ)
        if server and server.stop():
            stopped.append("postgres")
    remove_memory_tier(state)
    say(f"Stopped: {', '.join(stopped) or 'nothing was running'}")
    if load_settings(state).postgres_url:
        say("Your own Postgres server is left as it is")


def status(environ: Mapping[str, str]) -> bool:
    """Print what runs and return whether all of it does and is healthy."""
    state = locate_state(environ)
    if not state.settings.exists():
        say(f"Nothing is set up in {state.path}; run: ./setup.sh up")
        return False
    settings = load_settings(state)
    choose_databases(settings, environ)
    ready = report_postgres(state, settings, environ)
    broker = [redis_process(state)] if settings.executor == "celery" else []
    for one in [*broker, *managed_services(state, settings.executor)]:
        process = one.find()
        say(f"{one.name:<14} {f'running, process {process.pid}' if process else 'stopped'}")
        ready = ready and process is not None
    if not ready:
        say("Start what is stopped with: ./setup.sh up")
        return False
    services = describe_services(state, settings, environ)
    health = services.health()
    say(f"{'health':<14} {', '.join(f'{part} {value}' for part, value in health.items()) or 'no answer'}")
    say_login(services)
    return set(health.values()) == {"healthy"}


def run(command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Become a program of the Python environment, with the variables of this installation."""
    state = open_state(environ)
    settings = load_settings(state)
    choose_databases(settings, environ)
    save_settings(state, settings)
    keep_login(state)
    if not settings.postgres_url:
        server = find_server(state, environ)
        if server is None or not server.is_running():
            # Not on standard output: that belongs to the command, and may be read by a program.
            print(
                "note: the embedded Postgres does not run; ./setup.sh up starts it",
                file=sys.stderr,
                flush=True,
            )
    program = Path(sys.executable).with_name(command[0])
    environment = airflow_environment(state, settings, locate_databases(settings), environ)
    os.execve(program, command, {**environ, **environment})  # noqa: S606 - no shell is wanted here


def choose_databases(settings: Settings, environ: Mapping[str, str]) -> None:
    """Take the server and the databases' names from the environment; without them, those of the last time."""
    if wanted := environ.get("QOSFLOW_POSTGRES_URL"):
        settings.postgres_url = "" if wanted == EMBEDDED else wanted
    settings.airflow_database = environ.get("QOSFLOW_AIRFLOW_DATABASE_NAME") or settings.airflow_database
    settings.qosflow_database = environ.get("QOSFLOW_DATABASE_NAME") or settings.qosflow_database


def choose_api_port(state: StateFolder, settings: Settings, environ: Mapping[str, str]) -> None:
    """Keep the port of the last time while it is ours or free; ``QOSFLOW_PORT`` names another."""
    running = any(one.name == "api-server" and one.find() for one in managed_services(state))
    wanted = environ.get("QOSFLOW_PORT")
    if not wanted:
        if not running and not port_is_free(settings.api_port):
            settings.api_port = free_port(avoid={settings.postgres_port})
        return
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise SetupError(f"QOSFLOW_PORT is {wanted!r}.", "Give the number of a port, for example 8080.")
    ours = running and int(wanted) == settings.api_port
    if not ours and not port_is_free(int(wanted)):
        raise SetupError(
            f"Port {wanted} on 127.0.0.1 is in use (QOSFLOW_PORT).",
            "Give another, stop what listens there, or leave QOSFLOW_PORT out for a free one.",
        )
    settings.api_port = int(wanted)


def choose_executor(settings: Settings, environ: Mapping[str, str]) -> None:
    """Take who runs tasks from ``QOSFLOW_EXECUTOR``; without it, as the last time."""
    wanted = environ.get("QOSFLOW_EXECUTOR") or settings.executor
    if wanted not in EXECUTORS:
        raise SetupError(f"QOSFLOW_EXECUTOR is {wanted!r}.", f"Use one of {', '.join(EXECUTORS)}.")
    settings.executor = wanted


def prepare_redis(state: StateFolder, settings: Settings) -> None:
    """Start the server between scheduler and workers, on the port of the last time or on a free one."""
    if not redis_process(state).find() and not port_is_free(settings.redis_port):
        settings.redis_port = free_port(avoid={settings.api_port, settings.postgres_port})
    start_redis(state, settings.redis_port, settings.redis_password)
    save_settings(state, settings)


def start_postgres(state: StateFolder, settings: Settings, environ: Mapping[str, str]) -> None:
    """Start the embedded server where it does not run, on the port of the last time or on a free one."""
    server = prepare_postgres(state.postgres, environ)
    if server.is_running():
        settings.postgres_port = server.running_port()
        say(f"Postgres: the embedded server runs already on 127.0.0.1:{settings.postgres_port}")
        return
    if not port_is_free(settings.postgres_port):
        settings.postgres_port = free_port(avoid={settings.api_port})
    # Before the first start: the password is in the data from then on.
    save_settings(state, settings)
    say(f"Postgres: starting the embedded server on 127.0.0.1:{settings.postgres_port}")
    server.start(settings.postgres_port, settings.postgres_password)


def find_server(state: StateFolder, environ: Mapping[str, str]) -> EmbeddedPostgres | None:
    """Return the embedded server of a state folder, running or not; None before its first start."""
    return prepare_postgres(state.postgres, environ) if (state.postgres / "data").exists() else None


def report_postgres(state: StateFolder, settings: Settings, environ: Mapping[str, str]) -> bool:
    """Print which server is used and return whether it should answer."""
    place = locate_databases(settings).server
    if settings.postgres_url:
        say(f"{'postgres':<14} your own server at {place}")
        return True
    server = find_server(state, environ)
    running = server is not None and server.is_running()
    say(f"{'postgres':<14} {f'running at {place}' if running else 'stopped'}")
    return running


def locate_databases(settings: Settings) -> Databases:
    """Return where the databases are; nothing is started."""
    url = settings.postgres_url or server_url(settings.postgres_port, settings.postgres_password)
    return parse_server_url(url, settings.airflow_database, settings.qosflow_database)


def our_metadata(settings: Settings, databases: Databases) -> list[str]:
    """Return the names of the metadata databases that this state folder has used on that server."""
    prefix = f"{server_key(settings, databases)}/"
    return [key.removeprefix(prefix) for key in settings.airflow_schemas if key.startswith(prefix)]


def server_key(settings: Settings, databases: Databases) -> str:
    """Name the server in the settings; the embedded one stays itself when its port changes."""
    return databases.server if settings.postgres_url else EMBEDDED


def describe_services(state: StateFolder, settings: Settings, environ: Mapping[str, str]) -> AirflowServices:
    """Return Airflow as it is, or would be, run by these settings."""
    environment = airflow_environment(state, settings, locate_databases(settings), environ)
    return AirflowServices(state, environment, environment["AIRFLOW__API__BASE_URL"], settings)


def keep_login(state: StateFolder) -> None:
    """Make the administrator's password at the first start; Airflow reads it from the same file."""
    if not state.passwords.exists():
        write_private(state.passwords, json.dumps({"admin": secrets.token_urlsafe(12)}))


def say_login(services: AirflowServices) -> None:
    """Print where to go and how to get in."""
    say(f"{'address':<14} {services.url}   user admin, password {services.password}")


def migrate_airflow(services: AirflowServices, settings: Settings, databases: Databases) -> None:
    """Migrate Airflow's metadata, unless this very schema came out of the last migration by this Airflow."""
    key = f"{server_key(settings, databases)}/{databases.airflow}"
    revision = airflow_revision(databases)
    if revision and settings.airflow_schemas.get(key) == f"{version('apache-airflow-core')} {revision}":
        return
    # Ours from here on, also when the migration is interrupted.
    settings.airflow_schemas[key] = ""
    save_settings(services.state, settings)
    migrate("Airflow's metadata", ("airflow", "db", "migrate"), services)
    settings.airflow_schemas[key] = f"{version('apache-airflow-core')} {airflow_revision(databases)}"
    save_settings(services.state, settings)


def migrate(what: str, command: tuple[str, ...], services: AirflowServices) -> None:
    """Run a command that brings a database to its newest schema."""
    started = time.monotonic()
    log = services.state.logs / f"migrate-{command[0]}.log"
    with log.open("wb") as output:
        program = str(Path(sys.executable).with_name(command[0]))
        result = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, **services.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if result.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        raise SetupError(
            f"{' '.join(command)} failed. The end of {log}:\n{tail}",
            "Cure what it names, then run ./setup.sh up again; nothing is lost.",
        )
    say(f"Database: {what} is up to date ({time.monotonic() - started:.0f} s)")


def dispatch(command: str, arguments: list[str]) -> int:
    """Run one command and return its exit code: 3 when ``status`` finds less than all, else 0."""
    if command == "up":
        up(os.environ)
    elif command == "down":
        down(os.environ)
    elif command == "status":
        return 0 if status(os.environ) else 3
    elif command == "demo":
        run_demo(up(os.environ))
    elif command == "run" and arguments:
        run(arguments, os.environ)
    else:
        raise SetupError(f"There is no command {command!r}.", "Use up, down, status, demo or run.")
    return 0


def main(arguments: list[str]) -> int:
    """Run one command; an error is printed with its cure and gives exit code 1."""
    command, *rest = arguments or ["up"]
    try:
        return dispatch(command, rest)
    except SetupError as error:
        report(error)
    except OSError as error:
        report(SetupError(f"{error}.", "Check its owner, its rights and the free space on its disk."))
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
