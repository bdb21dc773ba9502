"""Copies that are killed in the middle: nothing half is taken for whole, and the next try cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qosflow_airflow.measure.folder_copy import copy_folder

COPY = """\
import sys, time
from pathlib import Path
from qosflow_airflow.measure import folder_copy

def slowly(reading, writing, length):
    while piece := reading.read(1 << 16):
        writing.write(piece)
        writing.flush()
        time.sleep(0.05)

folder_copy.shutil.copyfileobj = slowly
folder_copy.copy_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def kill_in_the_middle(source: Path, destination: Path) -> Path:
    """Kill a process that copies once it has begun to write a file; return what it was writing to."""
    process = subprocess.Popen([sys.executable, "-c", COPY, str(source), str(destination)])
    try:
        end = time.monotonic() + 30
        while not (found := [path for path in destination.parent.glob(".*.part/big") if path.stat().st_size]):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return found[0].parent


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_copy_leaves_its_destination_as_it_was(there: bool, tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "tier" / "staged"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(1 << 20))
    destination.parent.mkdir()
    if there:
        destination.mkdir()
        (destination / "big").write_bytes(b"of an earlier run")
    left = kill_in_the_middle(source, destination)
    assert 0 < (left / "big").stat().st_size < 1 << 20
    assert destination.exists() == there
    assert not there or (destination / "big").read_bytes() == b"of an earlier run"
    assert copy_folder(source, destination).copy_s is not None
    assert (destination / "big").read_bytes() == (source / "big").read_bytes()
    assert [path.name for path in destination.parent.iterdir()] == ["staged"]
    assert copy_folder(source, destination).copy_s is None


def test_what_a_process_at_work_writes_to_is_left_alone(tmp_path: Path) -> None:
    import socket

    source, destination = tmp_path / "source", tmp_path / "staged"
    source.mkdir()
    other = tmp_path / f".staged.{socket.gethostname()}-{os.getpid()}-abc.part"
    other.mkdir()
    copy_folder(source, destination)
    assert other.is_dir()
