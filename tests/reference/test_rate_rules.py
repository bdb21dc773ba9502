"""The rules on the platform's real benchmarks find as many rows as were counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.core.rate_checks import check_rates
from qosflow_airflow.readers.rates_csv import read_rates_csv

pytestmark = pytest.mark.reference

GIGABIT_MIB_S, DEVICE_MIB_S = 119.0, 7000.0
EXPECTED = {
    "empty line": 1,
    "inconsistent_tasks": 96,
    "moved_less": 1534,
    "fixed_volume": 1120,
    "faster_than_tier": 21,
    "not_timed": 2008,
    "fewer_tasks_than_nodes": 525,
    "repeated_row": 34,
}


def test_rules_find_the_known_defects(reference: Path) -> None:
    rates = read_rates_csv(reference / "profile" / "ior.csv")
    report = check_rates(rates, limits_mib_s={"nfs": GIGABIT_MIB_S, "ssd": DEVICE_MIB_S}).report
    found = {outcome.name: outcome.rows for outcome in report.outcomes}
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert found["cached_reads"] >= 2111 + 1900
    assert (report.measured, report.kept) == (21917, 21820)
    assert report.cells["read beegfs"] == (798, 1458)
    assert report.cells["write nfs"] == (725, 1296)
