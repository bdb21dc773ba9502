"""An installation as ``setup.sh`` makes it, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from state import ROOT, StateFolder


@contextmanager
def own_state() -> Iterator[StateFolder]:
    """Where an installation may come to lie; what runs of it afterwards is stopped, and all is removed."""
    # Not pytest's own temporary folder: that one is private, and root's server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-system-"))
    folder.chmod(0o755)
    state = StateFolder(folder / "state")
    try:
        yield state
    finally:
        bringup(state, "down")
        shutil.rmtree(folder)


def bringup(state: StateFolder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/bringup.py`` as a user's shell would, without the variables of these tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bringup.py"), *arguments],
        env={**kept, "QOSFLOW_HOME": str(state.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
