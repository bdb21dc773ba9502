"""Rules for measured rates: each finds what it is about, and nothing when switched off."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from qosflow_airflow.core.rate_checks import RULES, Action, CheckedRates, check_rates
from qosflow_airflow.core.rates import COLUMNS, StorageRates
from qosflow_airflow.exceptions import MeasurementError
from tests.support.traces import MIB, rate

GIB = 1024.0 * MIB
SOUND = [
    rate("read", "hot", 100.0, duration_s=1.0),
    rate("write", "hot", 90.0, duration_s=100 / 90),
    rate("read", "cold", 50.0, duration_s=2.0),
    rate("write", "cold", 60.0, duration_s=100 / 60),
]


def check(*rows: dict[str, Any], **options: Any) -> CheckedRates:
    frame = pd.DataFrame([*SOUND, *rows], columns=list(COLUMNS))
    return check_rates(StorageRates(frame), **options)


def found(checked: CheckedRates, name: str) -> tuple[int, float]:
    outcome = next(outcome for outcome in checked.report.outcomes if outcome.name == name)
    return outcome.rows, outcome.factor


COPIES = {name: rate("copy", "hot-cold", 20.0, volume_bytes=GIB, **more) for name, more in {
    "timed": {"duration_s": 51.2}, "untimed": {},
}.items()}  # fmt: skip
CASES = {
    "inconsistent_tasks": [rate("read", "hot", 10.0, duration_s=10.0, nodes=2, tasks_per_node=4.0, tasks=4)],
    "moved_less": [rate("read", "hot", 80.0, duration_s=1.0)],
    "fixed_volume": [
        rate("copy", "hot-cold", 20.0 / gib, volume_bytes=gib * GIB, duration_s=9.0) for gib in (1, 5, 50)
    ],
    "cached_reads": [rate("read", "hot", 900.0, duration_s=100 / 900)],
    "faster_than_tier": [rate("copy", "hot-cold", 61.0, duration_s=100 / 61)],
    "node_step": [
        *(rate("copy", "hot-cold", 20.0, nodes=nodes, tasks=nodes, duration_s=5.0) for nodes in (1, 4, 16)),
        rate("copy", "hot-cold", 4.0, nodes=2, tasks=2, duration_s=25.0),
    ],
    "per_node_rate": [
        rate("copy", "hot-cold", 20.0 + nodes, nodes=nodes, tasks=nodes, duration_s=5.0) for nodes in (1, 4)
    ],
    "not_timed": [COPIES["untimed"]],
    "short_run": [rate("read", "hot", 100.0, volume_bytes=MIB, duration_s=0.01)],
    "fewer_tasks_than_nodes": [rate("copy", "hot-cold", 20.0, nodes=4, tasks_per_node=0.5, duration_s=5.0)],
    "repeated_row": [COPIES["timed"], COPIES["timed"]],
}  # fmt: skip


def test_sound_rates_are_left_as_they_are() -> None:
    checked = check()
    assert [outcome.rows for outcome in checked.report.outcomes] == [0] * len(RULES)
    pd.testing.assert_frame_equal(checked.rates.frame, pd.DataFrame(SOUND, columns=list(COLUMNS)))
    assert checked.report.few_points == ("read cold", "read hot", "write cold", "write hot")


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_each_rule_finds_what_it_is_about(name: str) -> None:
    rows, _ = found(check(*CASES[name]), name)
    assert rows >= 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_that_is_switched_off_changes_nothing_but_still_counts(rule) -> None:
    others = [other.name for other in RULES]
    untouched = check(*CASES[rule.name], without=others)
    frame = pd.DataFrame([*SOUND, *CASES[rule.name]], columns=list(COLUMNS))
    pd.testing.assert_frame_equal(untouched.rates.frame, frame)
    assert found(untouched, rule.name)[0] >= 1
    only = check(*CASES[rule.name], without=[name for name in others if name != rule.name])
    changed = not only.rates.frame.equals(frame)
    assert changed == (rule.action is not Action.FLAG or rule.name == "cached_reads")


def test_corrections_say_by_how_much() -> None:
    moved = check(*CASES["moved_less"])
    assert found(moved, "moved_less") == (1, pytest.approx(0.8))
    assert moved.rates.frame["volume_bytes"].iloc[-1] == pytest.approx(80 * MIB)
    copied = check(*CASES["fixed_volume"])
    assert found(copied, "fixed_volume") == (3, pytest.approx(5.0))
    assert copied.rates.frame["rate_mib_s"].tolist()[-3:] == pytest.approx([20.0] * 3)


def test_copies_whose_rate_falls_less_steeply_are_not_corrected() -> None:
    rows = [rate("copy", "hot-cold", 20.0 / volume**0.5, volume_bytes=volume * GIB) for volume in (1, 5, 50)]
    assert found(check(*rows), "fixed_volume")[0] == 0


def test_a_limit_that_is_given_counts_instead_of_the_inferred_one() -> None:
    fast = rate("read", "hot", 400.0, duration_s=0.25)
    assert found(check(fast), "cached_reads")[0] == 0
    limited = check(fast, limits_mib_s={"hot": 119.0})
    assert found(limited, "cached_reads")[0] == 1
    assert limited.rates.frame["cached"].tolist() == [False] * 4 + [True]


def test_missing_cells_of_the_grid_are_counted() -> None:
    rows = [rate("read", "hot", 100.0, nodes=2, tasks=2, duration_s=1.0),
            rate("read", "hot", 50.0, volume_bytes=50.0 * MIB, duration_s=1.0)]  # fmt: skip
    assert check(*rows).report.cells["read hot"] == (3, 4)


def test_a_wrong_rule_and_an_empty_rest_are_errors() -> None:
    with pytest.raises(MeasurementError, match="there is no rule cached_read"):
        check(without=["cached_read"])
    frame = pd.DataFrame(CASES["inconsistent_tasks"], columns=list(COLUMNS))
    with pytest.raises(MeasurementError, match="leave no rates"):
        check_rates(StorageRates(frame))
