from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.system]


def test_tasks_that_do_nothing_take_airflow_time() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qosflow_airflow.operators.task_overhead"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.keys() == {"task_s", "mapped_task_s"}
    assert 0 < found["mapped_task_s"] < 30
    assert 0 <= found["task_s"] < 30
