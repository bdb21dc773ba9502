"""The four Airflow services on this machine: their environment, start, health and stop."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console import SetupError, say
from databases import Databases
from processes import ManagedProcess, stop_processes
from redis_server import listening_workers, redis_process, redis_url
from state import ROOT, Settings, StateFolder

# Without log servers (-s): they listen on every address, and here the web server reads the files itself.
COMMANDS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "-s"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "-s"),
}
# One slot each: a worker here is a node that runs one task after the other.
WORKERS = tuple(f"worker-{number}" for number in (1, 2))
EXECUTORS = {"local": "LocalExecutor", "celery": "CeleryExecutor"}
START_LIMIT_S = 300.0  # a busy machine takes minutes for what an idle one does in ten seconds
STOP_GRACE_S = 30.0

# What each part is called in Airflow's health report.
HEALTH_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")

# No proxy ever stands between us and 127.0.0.1, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class AirflowServices:
    """One Airflow: where its state lies, the environment it runs in, and the URL it answers on."""

    state: StateFolder
    environment: Mapping[str, str]
    url: str
    settings: Settings

    @property
    def password(self) -> str:
        """The administrator's password."""
        return str(json.loads(self.state.passwords.read_text(encoding="utf-8"))["admin"])

    def start(self) -> None:
        """Start the services that do not run, and wait until Airflow reports all four as healthy."""
        managed = managed_services(self.state, self.settings.executor)
        missing = [one for one in managed if not one.find()]
        mark = self.state.processes / "environment.sha256"
        same = mark.exists() and mark.read_text(encoding="utf-8") == self._fingerprint()
        if len(missing) < len(managed) and not same:
            say("Airflow: settings have changed, restarting all services")
            stop_processes(managed_services(self.state, "celery"), STOP_GRACE_S)
            missing = managed
        names = ", ".join(one.name for one in missing)
        say(f"Airflow: starting {names}" if missing else "Airflow: all services run already")
        mark.write_text(self._fingerprint(), encoding="utf-8")
        # What outlived a service that was killed may hold its locks in the database, and nobody waits for it.
        stop_processes(missing, STOP_GRACE_S)
        for one in missing:
            program = str(Path(sys.executable).with_name("airflow"))
            one.start([program, *command_of(one.name, self.state)], {**os.environ, **self.environment})
        self._wait_until_healthy(managed)

    def run_workers(self, count: int) -> None:
        """Let only the first ``count`` of Celery's workers run, and wait until they listen."""
        workers = [one for one in managed_services(self.state, "celery") if one.name in WORKERS]
        stop_processes(workers[count:], STOP_GRACE_S)
        program = str(Path(sys.executable).with_name("airflow"))
        for one in workers[:count]:
            if not one.find():
                one.start([program, *command_of(one.name, self.state)], {**os.environ, **self.environment})
        end = time.monotonic() + START_LIMIT_S
        while listening_workers(self.settings.redis_port, self.settings.redis_password) != count:
            if time.monotonic() > end:
                raise SetupError(f"Not {count} workers listen.", f"Look into the logs in {self.state.logs}.")
            time.sleep(0.5)

    def health(self) -> dict[str, str]:
        """Return Airflow's own report, part to status; empty while the web server does not answer."""
        try:
            with _DIRECT.open(f"{self.url}/api/v2/monitor/health", timeout=10) as answer:
                report = json.load(answer)
        except (OSError, ValueError):
            return {}
        return {part: report.get(part, {}).get("status") or "starting" for part in HEALTH_PARTS}

    def _fingerprint(self) -> str:
        # PATH and the like differ between terminals and make no other Airflow.
        ours = {
            name: value for name, value in self.environment.items() if name.startswith(("AIRFLOW", "QOSFLOW"))
        }
        return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()

    def _lacks_workers(self) -> bool:
        if self.settings.executor != "celery":
            return False
        return listening_workers(self.settings.redis_port, self.settings.redis_password) < len(WORKERS)

    def _wait_until_healthy(self, managed: list[ManagedProcess]) -> None:
        started = time.monotonic()
        shown = ""
        while True:
            health = self.health()
            missing = [part for part in HEALTH_PARTS if health.get(part) != "healthy"]
            waiting = ", ".join([*missing, *(["workers"] if self._lacks_workers() else [])])
            for one in managed:
                if not one.find():
                    raise SetupError(
                        f"The {one.name} has ended. The end of {one.log}:\n{one.log_tail()}",
                        "Cure what the log names, then try again: ./setup.sh down && ./setup.sh up",
                    )
            elapsed_s = time.monotonic() - started
            if not waiting:
                say(f"  {elapsed_s:3.0f} s  all healthy")
                return
            if elapsed_s > START_LIMIT_S:
                raise SetupError(
                    f"Airflow is not healthy after {START_LIMIT_S:.0f} s; missing: {waiting}.",
                    f"Look into the logs in {self.state.logs}; then: ./setup.sh down && ./setup.sh up",
                )
            if waiting != shown:
                say(f"  {elapsed_s:3.0f} s  waiting for {waiting}")
                shown = waiting
            time.sleep(1)


def managed_services(state: StateFolder, executor: str = "local") -> list[ManagedProcess]:
    """Return the services of a state folder, running or not: four, and Celery's workers where it is used."""
    run, logs = state.processes, state.logs
    names = [*COMMANDS, *(WORKERS if executor == "celery" else ())]
    return [ManagedProcess(name, run / f"{name}.json", logs / f"{name}.log") for name in names]


def command_of(name: str, state: StateFolder) -> tuple[str, ...]:
    """Return the arguments of ``airflow`` that start a service."""
    if name in COMMANDS:
        return COMMANDS[name]
    ours = ("--celery-hostname", f"{name}@%h", "--pid", str(state.processes / f"{name}.pid"))
    return ("celery", "worker", "--concurrency", "1", "-s", "--without-mingle", "--without-gossip", *ours)


def stop_services(state: StateFolder) -> list[str]:
    """Stop the services by process id, then Redis, and return the names of those that ran."""
    stopped = stop_processes(managed_services(state, "celery"), STOP_GRACE_S)
    return [*stopped, *stop_processes([redis_process(state)], STOP_GRACE_S)]


def airflow_environment(
    state: StateFolder, settings: Settings, databases: Databases, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that make any Airflow or ``qosflow`` command part of this installation.

    Addresses, secrets and folders are always ours; what only tunes is taken from ``environ`` where it is set.
    """
    url = f"http://127.0.0.1:{settings.api_port}"
    no_proxy = _with_loopback(environ.get("NO_PROXY") or environ.get("no_proxy") or "")
    tuning = {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(max(4, os.cpu_count() or 1)),
        "AIRFLOW__API__WORKERS": "1",
        # Where a task's process takes a moment to exit, its slot stays taken for so many seconds (default 5).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A new or changed Dag file is seen within seconds.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    }
    return {
        **{name: environ.get(name, value) for name, value in tuning.items()},
        "PATH": _with_programs(environ.get("PATH") or os.defpath),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "QOSFLOW_HOME": str(state.path),
        "AIRFLOW_HOME": str(state.airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": EXECUTORS[settings.executor],
        **(celery_environment(settings) if settings.executor == "celery" else {}),
        "AIRFLOW__CORE__FERNET_KEY": settings.fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(state.passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": databases.url(databases.airflow, "postgresql+psycopg2"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": databases.asyncpg_url(databases.airflow),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.api_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": settings.secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": settings.jwt_secret,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(state.airflow / "logs"),
        "AIRFLOW__QOSFLOW__BUNDLE_ROOTS": str(state.bundles),
        "AIRFLOW_CONN_QOSFLOW_DEFAULT": databases.url(databases.qosflow),
        "QOSFLOW_DATABASE_URL": databases.url(databases.qosflow),
    }


def celery_environment(settings: Settings) -> dict[str, str]:
    """Return where Celery hands tasks over, and where it keeps how they ended."""
    urls = [redis_url(settings.redis_port, settings.redis_password, database) for database in (0, 1)]
    return {
        "AIRFLOW__CELERY__BROKER_URL": urls[0],
        "AIRFLOW__CELERY__RESULT_BACKEND": urls[1],
        # Tasks go to whichever worker is free, none is handed more than it runs.
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
    }


def _with_programs(path: str) -> str:
    # Tasks that call python or qosflow get those of this environment.
    programs = str(Path(sys.executable).parent)
    return path if path.split(os.pathsep)[0] == programs else f"{programs}{os.pathsep}{path}"


def _with_loopback(no_proxy: str) -> str:
    names = [name.strip() for name in no_proxy.split(",") if name.strip()]
    return ",".join([*names, *(name for name in ("127.0.0.1", "localhost") if name not in names)])
