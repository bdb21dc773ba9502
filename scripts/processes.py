"""Long-running processes by pid file: start one detached, see if it lives, stop it and all it started."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from console import SetupError

# The same process id is the same process only with the same start, which is read with this error.
SAME_START_S = 1.0
KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class _Identity:
    pid: int
    started: float  # epoch seconds


@dataclass(frozen=True)
class ManagedProcess:
    """One process, its pid file and its log."""

    name: str
    pid_file: Path
    log: Path

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start the command detached from this terminal, in a session of its own, and remember it."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        identity = _Identity(process.pid, psutil.Process(process.pid).create_time())
        self.pid_file.write_text(json.dumps(asdict(identity)), encoding="utf-8")
        return process

    def find(self) -> psutil.Process | None:
        """Return the process if it lives; a pid that the system has given to another process is not it."""
        identity = self._identity()
        if identity is None:
            return None
        try:
            process = psutil.Process(identity.pid)
            same = abs(process.create_time() - identity.started) < SAME_START_S
            return process if same and _is_alive(process) else None
        except psutil.NoSuchProcess:
            return None

    def family(self) -> list[psutil.Process]:
        """Return the process and all it started that live, also those that outlived it in its session."""
        identity = self._identity()
        if identity is None:
            return []
        members = {process.pid: process for process in psutil.process_iter() if _is_member(process, identity)}
        for member in list(members.values()):
            members |= {child.pid: child for child in _children(member)}
        return _alive(members.values())

    def _identity(self) -> _Identity | None:
        try:
            return _Identity(**json.loads(self.pid_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def stop_processes(managed: Sequence[ManagedProcess], grace_s: float) -> list[str]:
    """Ask every process to end, wait ``grace_s`` seconds for all, then end what is left and its children.

    Return the names of those that were running.
    """
    running = {one.name: process for one in managed if (process := one.find())}
    # Before the request: once a parent is gone, its children in other sessions cannot be found through it.
    families = {process.pid: process for one in managed for process in one.family()}
    for process in running.values():
        _signal(process, force=False)
    _wait(families.values(), grace_s if running else 0)
    families |= {process.pid: process for one in managed for process in one.family()}
    for process in _alive(families.values()):
        _signal(process, force=True)
    if immortal := _wait(families.values(), KILL_WAIT_S):
        raise SetupError(
            f"Process {immortal[0].pid} does not end, not even by force.",
            "It waits inside the kernel, often for a disk or a network file system; look there.",
        )
    for one in managed:
        one.pid_file.unlink(missing_ok=True)
    return list(running)


def _is_member(process: psutil.Process, identity: _Identity) -> bool:
    try:
        in_session = os.getsid(process.pid) == identity.pid
        return in_session and process.create_time() > identity.started - SAME_START_S
    except (OSError, psutil.NoSuchProcess):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_alive(process: psutil.Process) -> bool:
    # A zombie has ended; when its parent will read the exit code is not ours to wait for.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if _is_alive(process)]


def _wait(processes: Iterable[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Wait until all have ended or the time is over, and return those that live."""
    end = time.monotonic() + limit_s
    while (alive := _alive(processes)) and time.monotonic() < end:
        time.sleep(0.1)
    return alive


def _signal(process: psutil.Process, *, force: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        if force:
            process.kill()
        else:
            process.terminate()
