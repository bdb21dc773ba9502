"""A tier that has become slow: the kernel limits its rate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qosflow_airflow.measure.throttled_tier import throttled_tier, why_not_throttled
from tests.faults.conftest import RECORD, RunWithFault, publish, recommendations
from tests.support.small_model import KeptStore
from tests.support.small_run import TASK, states

pytestmark = [pytest.mark.airflow, pytest.mark.system]

MORE = """
with open(output / ('more' + index), 'wb') as file:
    file.write(os.urandom(2 << 20))
    file.flush()
    os.fsync(file.fileno())
"""


def test_a_tier_that_is_slower_than_measured_is_used_and_the_deadline_is_said_to_be_at_risk(
    store: KeptStore,
    disk: Path,
    tmp_path: Path,
    run_with_fault: RunWithFault,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = why_not_throttled()
    if reason is not None:
        pytest.skip(reason)
    with throttled_tier(tmp_path, 40 << 20, rate_mib_s=1.0) as slow:
        publish(store, disk, slow)
        run = run_with_fault(asked="fallback=True, deadline_s=6", task=TASK + MORE + RECORD)
        (record,) = recommendations(store)
    assert states(run)["clean"] == ["success"]
    assert record.answer["makespan_s"] < 6
    logged = caplog.text + capsys.readouterr().out
    assert set(re.findall(r"merge begins .* and end [\d.]+ s (\w+) its deadline", logged)) == {"AFTER"}
    (outcome,) = store.outcomes(record.recommendation_id)
    assert outcome.outcome["met_deadline"] is False
