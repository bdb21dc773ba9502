"""The state folder (``QOSFLOW_HOME``): all that a running installation writes, and what it must remember."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from console import SetupError

ROOT = Path(__file__).resolve().parent.parent

# Below the range from which the kernel takes ports for outgoing connections: a remembered port stays free.
PORTS = range(20000, 30000)


@dataclass(frozen=True)
class StateFolder:
    """The parts of the state folder; nothing is created until :func:`open_state`."""

    path: Path

    @property
    def airflow(self) -> Path:
        """``AIRFLOW_HOME``: Airflow's configuration file, task logs and the login."""
        return self.path / "airflow"

    @property
    def passwords(self) -> Path:
        """User name to password, as Airflow's simple auth manager reads it."""
        return self.airflow / "passwords.json"

    @property
    def logs(self) -> Path:
        """One log per service and per bring-up step."""
        return self.path / "logs"

    @property
    def processes(self) -> Path:
        """One file per started service, with its process id."""
        return self.path / "run"

    @property
    def postgres(self) -> Path:
        """The embedded Postgres: data, log, and a copy of the binaries where the server's user needs one."""
        return self.path / "postgres"

    @property
    def bundles(self) -> Path:
        """The folder below which Airflow may read bundles."""
        return self.path / "bundles"

    @property
    def tiers(self) -> Path:
        """Mount points of the example's tiers that lie on disk."""
        return self.path / "tiers"

    @property
    def settings(self) -> Path:
        """What :class:`Settings` holds, as JSON, readable by its owner only."""
        return self.path / "settings.json"


@dataclass
class Settings:
    """What must be the same at the next start: ports, secrets, and which database server is used."""

    api_port: int = 0
    postgres_port: int = 0
    redis_port: int = 0
    redis_password: str = ""
    executor: str = "local"  # or "celery"
    postgres_password: str = ""
    jwt_secret: str = ""
    secret_key: str = ""
    fernet_key: str = ""
    postgres_url: str = ""  # the user's own server; empty: the embedded one
    airflow_database: str = "airflow"
    qosflow_database: str = "qosflow"
    airflow_schemas: dict[str, str] = field(default_factory=dict)  # our metadata databases and their schema


def locate_state(environ: Mapping[str, str]) -> StateFolder:
    """Return the state folder that ``QOSFLOW_HOME`` names, or ``.qosflow`` in the clone."""
    return StateFolder(Path(environ.get("QOSFLOW_HOME") or ROOT / ".qosflow").expanduser().absolute())


def open_state(environ: Mapping[str, str]) -> StateFolder:
    """Create the state folder where it is missing and check that it can be written.

    Raises :class:`SetupError` when the folder cannot be made or written.
    """
    state = locate_state(environ)
    try:
        for folder in (state.path, state.airflow, state.logs, state.processes, state.bundles, state.tiers):
            folder.mkdir(parents=True, exist_ok=True)
        for private in (state.airflow, state.logs, state.processes):
            private.chmod(0o700)
        probe = state.path / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SetupError(
            f"The state folder {state.path} cannot be written: {error.strerror or error}.",
            "Give a folder that you may write, for example: QOSFLOW_HOME=$HOME/qosflow ./setup.sh up",
        ) from error
    return state


def load_settings(state: StateFolder) -> Settings:
    """Return the remembered settings, with secrets and ports made where there are none yet."""
    settings = Settings()
    if state.settings.exists():
        try:
            settings = Settings(**json.loads(state.settings.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise SetupError(
                f"{state.settings} is not what setup.sh wrote: {error}.",
                "Restore it, or stop everything (./setup.sh down) and remove the state folder.",
            ) from error
    settings.postgres_password = settings.postgres_password or secrets.token_urlsafe(24)
    settings.jwt_secret = settings.jwt_secret or secrets.token_urlsafe(64)
    settings.secret_key = settings.secret_key or secrets.token_urlsafe(64)
    settings.fernet_key = settings.fernet_key or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    settings.api_port = settings.api_port or free_port()
    settings.postgres_port = settings.postgres_port or free_port(avoid={settings.api_port})
    settings.redis_password = settings.redis_password or secrets.token_urlsafe(24)
    settings.redis_port = settings.redis_port or free_port(avoid={settings.api_port, settings.postgres_port})
    return settings


def save_settings(state: StateFolder, settings: Settings) -> None:
    """Write the settings; a reader sees the old file or the new one, never half of one."""
    write_private(state.settings, json.dumps(asdict(settings), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(avoid: Collection[int] = ()) -> int:
    """Return a loopback port on which nothing listens."""
    # A random start keeps two installations that are brought up at the same time apart.
    start = secrets.randbelow(len(PORTS))
    for offset in range(len(PORTS)):
        port = PORTS[(start + offset) % len(PORTS)]
        if port not in avoid and port_is_free(port):
            return port
    raise SetupError(
        f"No port from {PORTS.start} to {PORTS.stop - 1} is free on 127.0.0.1.",
        "Stop some servers, or check that this machine lets a process listen on 127.0.0.1.",
    )


@contextmanager
def exclusive(state: StateFolder) -> Iterator[None]:
    """Hold the state folder for one bring-up at a time; a second one is told so."""
    with (state.path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(
                f"Another ./setup.sh is at work in {state.path}.",
                "Wait until it has finished, or use another state folder (QOSFLOW_HOME).",
            ) from error
        yield
