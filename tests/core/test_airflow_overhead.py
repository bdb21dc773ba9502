from __future__ import annotations

import pytest

from qosflow_airflow.core.airflow_overhead import AirflowOverhead, fitted
from tests.support.small_model import small_workflow


def test_a_task_costs_what_more_of_them_add() -> None:
    assert fitted(1.0, 3.0, 9.0, 8) == AirflowOverhead(0.25, 1.0)
    assert fitted(1.0, 0.9, 1.0, 8) == AirflowOverhead(0.0, 0.0), "noise is no gain"


@pytest.mark.parametrize(
    ("slots", "expected"),
    # recommend; split: inputs, three mapped tasks in rounds; merge: inputs, one task
    [(None, 1 + (1 + 10) + (1 + 10)), (2, 1 + (1 + 20) + (1 + 10)), (1, 1 + (1 + 30) + (1 + 10))],
)
def test_the_longest_chain_of_tasks_counts(slots: int | None, expected: float) -> None:
    assert AirflowOverhead(1.0, 10.0).run_s(small_workflow(), slots) == expected
