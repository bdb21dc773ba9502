"""``QOSFLOW_EXECUTOR=celery`` on a real installation: workers and Redis come up, are seen, are stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_services import WORKERS, managed_services
from redis_server import PROGRAM, listening_workers, redis_process
from state import ROOT, StateFolder, load_settings

pytestmark = [
    pytest.mark.system,
    pytest.mark.airflow,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="celery is not installed"),
]


def bringup(state: StateFolder, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bringup.py"), *arguments],
        env={**kept, "QOSFLOW_HOME": str(state.path), "QOSFLOW_EXECUTOR": "celery"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def state() -> Iterator[StateFolder]:
    # Not pytest's own temporary folder: that one is private, and root's server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-celery-"))
    folder.chmod(0o755)
    state = StateFolder(folder / "state")
    yield state
    bringup(state, "down")
    shutil.rmtree(folder)


def test_workers_come_up_listen_and_leave_nothing_behind(state: StateFolder) -> None:
    up = bringup(state, "up")
    assert up.returncode == 0, up.stdout + up.stderr
    settings = load_settings(state)
    assert listening_workers(settings.redis_port, settings.redis_password) == len(WORKERS)
    status = bringup(state, "status")
    assert status.returncode == 0, status.stdout
    assert all(f"{name}" in status.stdout for name in ("redis", *WORKERS))
    families = [*managed_services(state, "celery"), redis_process(state)]
    processes = [process for one in families for process in one.family()]
    down = bringup(state, "down")
    assert "redis" in down.stdout
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
