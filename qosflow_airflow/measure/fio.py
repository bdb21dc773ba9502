"""Direct rates by fio (https://fio.readthedocs.io), where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure.points import Point

TIMEOUT_S = 120.0


def find_fio() -> str | None:
    """Return the path of the program, ``None`` where it is not installed."""
    return shutil.which("fio")


def run_fio(program: str, point: Point, folder: Path) -> float:
    """Run one direct write or read in ``folder``; return its seconds.

    A read reads the files that the write of the same volume and jobs left behind.

    Raises
    ------
    MeasurementError
        When fio fails, as it does where the filesystem has no direct I/O, or does not move the volume.
    """
    command = [
        program,
        f"--name={point.stem}",
        f"--directory={folder}",
        f"--rw={point.operation}",
        f"--bs={point.access_bytes}",
        f"--size={point.job_bytes}",
        f"--numjobs={point.jobs}",
        "--direct=1",
        "--ioengine=psync",
        "--fallocate=none",  # space taken in advance would spare the writes what an application's pay
        "--end_fsync=1",
        "--group_reporting",
        "--output-format=json",
    ]
    # fio has its job processes in its own group: ended with it, should this wait be interrupted.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise MeasurementError(
            f"fio took more than {TIMEOUT_S:g} s",
            source=folder,
            cure="Measure a faster tier or by other means.",
        ) from None
    finally:
        if process.poll() is None:
            process.terminate()  # its handler ends the job processes
            process.communicate()
    if process.returncode != 0:
        reason = (errors.strip() or output.strip()).splitlines()[-1:] or ["no message"]
        raise MeasurementError(f"fio ended with code {process.returncode}: {reason[0]}", source=folder)
    return parse_fio(output, point)


def parse_fio(output: str, point: Point) -> float:
    """Return the seconds of ``point`` from fio's JSON."""
    try:
        # Warnings may stand before the JSON.
        job: dict[str, Any] = json.loads(output[output.index("{") :])["jobs"][0]
        done = job[point.operation]
        moved, runtime_s = int(done["io_bytes"]), float(done["runtime"]) / 1000
    except (ValueError, LookupError, TypeError) as error:
        raise MeasurementError(f"cannot read fio's answer: {error}", cure="Try a fio from 3.0 on.") from error
    if job.get("error") or moved != point.job_bytes * point.jobs or runtime_s <= 0:
        raise MeasurementError(
            f"fio moved {moved} of {point.volume_bytes} bytes in {runtime_s} s, error {job.get('error')}",
            cure="Check the tier's free space and health.",
        )
    return runtime_s
