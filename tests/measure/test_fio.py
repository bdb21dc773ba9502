from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.measure import tiers
from qosflow_airflow.measure.fio import find_fio, parse_fio, run_fio
from qosflow_airflow.measure.points import MIB, Point
from qosflow_airflow.measure.tiers import measure_tiers

POINT = Point("write", "disk", "disk", 65536, 4 * MIB, 2, direct=True)
ANSWER = {"jobs": [{"error": 0, "write": {"io_bytes": 4 * MIB, "runtime": 250}, "read": {"io_bytes": 0}}]}


def test_seconds_are_those_of_the_operation() -> None:
    warned = "fio: a warning before the answer\n" + json.dumps(ANSWER)
    assert parse_fio(warned, POINT) == 0.25


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "cannot read fio's answer"),
        ('{"jobs": []}', "cannot read fio's answer"),
        (json.dumps(ANSWER).replace(str(4 * MIB), "4096"), "fio moved 4096 of 4194304 bytes"),
        (json.dumps(ANSWER).replace("250", "0"), "in 0.0 s"),
        (json.dumps(ANSWER).replace('"error": 0', '"error": 5'), "error 5"),
    ],
)
def test_an_answer_without_a_rate_is_said(answer: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        parse_fio(answer, POINT)


def _program(folder: Path, script: str) -> str:
    program = folder / "fio"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_a_failing_fio_leaves_out_direct_rates_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _program(tmp_path, "echo 'filesystem does not support direct io' >&2; exit 1")
    monkeypatch.setattr(tiers, "find_fio", lambda: program)
    monkeypatch.setattr(tiers, "is_memory", lambda folder: False)
    (tmp_path / "disk").mkdir()
    said: list[str] = []
    rows = measure_tiers({"disk": tmp_path / "disk"}, budget_s=1, volumes_bytes=(4096,), progress=said.append)
    assert rows
    assert not [row for row in rows if row.point.direct]
    assert any("filesystem does not support direct io" in line for line in said)


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_fio_writes_and_reads_back(tmp_path: Path) -> None:
    program = find_fio()
    assert program is not None
    for operation in ("write", "read"):
        try:
            seconds = run_fio(
                program, Point(operation, "disk", "disk", 65536, 4 * MIB, 2, direct=True), tmp_path
            )
        except MeasurementError as error:
            pytest.skip(f"no direct I/O here: {error}")
        assert 0 < seconds < 60
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 4 * MIB


def test_without_fio_direct_rates_come_from_our_own_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "find_fio", lambda: None)
    monkeypatch.setattr(tiers, "is_memory", lambda folder: False)
    said: list[str] = []
    rows = measure_tiers(
        {"disk": tmp_path}, budget_s=5, jobs=(1,), volumes_bytes=(MIB,), progress=said.append
    )
    direct = [row for row in rows if row.point.direct]
    if not direct:
        assert any("direct: none for disk" in line for line in said)
        pytest.skip("no direct I/O here")
    assert {row.point.operation for row in direct} == {"write", "read"}
    assert not any(row.cached for row in direct)
