"""Words of a text counted in two stages, on the storage tiers that QoSFlow chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from qosflow_airflow.operators.copy import QoSStageInOperator, QoSStageOutOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator


@task
def count_words(index: int, count: int, inputs: dict[str, str], output: str, **row: Any) -> None:
    """Count the words of this task's share of the pages."""
    Path(output).mkdir(parents=True, exist_ok=True)
    pages = sorted(Path(inputs["initial_data"]).glob("page_*.txt"))
    for page in pages[index::count]:
        words = len(page.read_text(encoding="utf-8").split())
        Path(output, f"{page.stem}.count").write_text(f"{words}\n", encoding="utf-8")


@task
def add_up(inputs: dict[str, str], output: str, **row: Any) -> int:
    """Add the counts of all pages."""
    Path(output).mkdir(parents=True, exist_ok=True)
    counts = Path(inputs["words"]).glob("page_*.count")
    words = sum(int(path.read_text(encoding="utf-8")) for path in counts)
    Path(output, "total.txt").write_text(f"{words}\n", encoding="utf-8")
    return words


with DAG(
    dag_id="wordcount",
    schedule=None,
    params={"deadline_s": Param(60, type="number", exclusiveMinimum=0)},
) as dag:
    recommend = QoSRecommendOperator(
        task_id="recommend",
        workflow="wordcount",
        deadline_s="{{ params.deadline_s }}",
        on_infeasible="nearest",
    )

    words_in = QoSStageInOperator(task_id="words_in", recommend_task_id="recommend", stage="words")
    words = count_words.override(task_id="words").expand_kwargs(words_in.output)

    total_in = QoSStageInOperator(task_id="total_in", recommend_task_id="recommend", stage="total")
    total = add_up.override(task_id="total").expand_kwargs(total_in.output)
    total_out = QoSStageOutOperator(task_id="total_out", recommend_task_id="recommend", stage="total")

    recommend >> words_in
    words >> total_in
    total >> total_out
