"""The operator at the end of a run: what was predicted, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator

from qosflow_airflow.operators.boundary import first_tasks, newest_run
from qosflow_airflow.operators.copy import RECORDS_OF_COPIES
from qosflow_airflow.operators.outcome import Record, compare, comparison_table, read_records
from qosflow_airflow.operators.refit import STALE, say_whether_it_holds
from qosflow_airflow.operators.run_rows import PLAN
from qosflow_airflow.operators.session import task_store
from qosflow_airflow.operators.summary import described, foretold_tasks

if TYPE_CHECKING:
    from airflow.sdk import Context


class QoSCompareOperator(BaseOperator):
    """Compares what a recommendation predicted with what its run measured, and keeps both in the store.

    It reads the records that the run's tasks left. Give it ``trigger_rule="all_done"``: it then says which
    stages did not finish, and fails, so that a failed run never passes for a measured one. A run that was
    planned again is compared with the recommendation that it followed in the end.

    Returns, as plain JSON, ``recommendation_id``, ``predicted_s``, ``measured_s``, ``busy_s``,
    ``deadline_s``, ``met_deadline`` (``None`` without a deadline), ``run_s`` (since the start of the Dag
    run), ``airflow_s`` (the part of it in which no task and no copy was at work) and ``stages``.

    :param recommendation: what the recommending task returned (templated).
    :param records: what a task returned that read the records (templated); by default they are read from the
        run's folder on the home tier, which this task's worker must see.
    :param qosflow_conn_id: the connection to the store; ``[qosflow] conn_id`` where it is not given.
    :param outlets: assets as for any task; the alias of stale models is added.
    """

    template_fields = ("recommendation", "records")
    ui_color = "#f3eee3"

    def __init__(
        self,
        *,
        recommendation: Any,
        records: Any = None,
        qosflow_conn_id: str | None = None,
        outlets: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(outlets=[*(outlets or ()), STALE], **kwargs)
        self.recommendation = recommendation
        self.records = records
        self.qosflow_conn_id = qosflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, keep and return.

        Raises
        ------
        AirflowFailException
            When there was nothing to run, or the run is not complete.
        AirflowSkipException
            When the run was skipped because its request could not be met.
        """
        summary = self._summary()
        with task_store(self.qosflow_conn_id) as store:
            record = store.recommendation(self._followed(context, summary))
            outcome = {
                **compare(
                    described(record),
                    record.request["deadline_s"],
                    summary["tasks"],
                    *self._records(summary),
                    foretold=foretold_tasks(record),
                ),
                "dag_id": context["ti"].dag_id,
                "run_id": context["ti"].run_id,
            }
            outcome |= _around(context, outcome["busy_s"])
            store.add_outcome(record.recommendation_id, outcome)
            say_whether_it_holds(context, store, record.workflow)
        self.log.info("%s\n%s", sentence(outcome), comparison_table(outcome))
        return {"recommendation_id": record.recommendation_id, **outcome}

    def _followed(self, context: Context, summary: Mapping[str, Any]) -> str:
        """Return the recommendation that the run followed in the end."""
        first: str = summary["recommendation_id"]
        if not summary.get("fallback"):
            return first
        newest = newest_run(context, [task.task_id for task in first_tasks(self.get_dag())], first)
        return first if newest is None else str(newest[PLAN]["recommendation_id"])

    def _records(self, summary: Mapping[str, Any]) -> tuple[Sequence[Record], Sequence[Record]]:
        """Return the records of tasks and those of copies."""
        if isinstance(self.records, Mapping):
            return self.records["tasks"], self.records["copies"]
        folder = Path(summary["records"])
        return read_records(folder), read_records(folder / RECORDS_OF_COPIES)

    def _summary(self) -> Mapping[str, Any]:
        summary = self.recommendation
        if not isinstance(summary, Mapping):
            raise AirflowFailException(
                "There is no recommendation to compare with; see the task that makes it."
            )
        if summary["status"] == "skipped":
            raise AirflowSkipException(f"Nothing ran: {summary['explanation']}")
        if "records" not in summary:
            raise AirflowFailException(f"Nothing ran: {summary['explanation']}")
        return summary


def sentence(outcome: Mapping[str, Any]) -> str:
    """Say an outcome in a few sentences."""
    predicted_s, measured_s = outcome["predicted_s"], outcome["measured_s"]
    said = f"Predicted {predicted_s:.1f} s, measured {measured_s:.1f} s"
    said += f" ({measured_s / predicted_s - 1:+.0%})." if predicted_s else "."
    if outcome["met_deadline"] is not None:
        met = "met" if outcome["met_deadline"] else "NOT met"
        said += f" The deadline of {outcome['deadline_s']:g} s was {met}."
    if outcome["airflow_s"] is not None:
        said += (
            f" Of the {outcome['run_s']:.1f} s since the run began, no task and no copy was at work for "
            f"{outcome['airflow_s']:.1f} s: that is Airflow starting and scheduling tasks."
        )
    return said


def _around(context: Context, busy_s: float) -> dict[str, float | None]:
    """Return the seconds since the Dag run began, and those of them that no record accounts for."""
    began = context["dag_run"].start_date
    if began is None:
        return {"run_s": None, "airflow_s": None}
    run_s = (datetime.now(UTC) - began).total_seconds()
    return {"run_s": run_s, "airflow_s": max(0.0, run_s - busy_s)}
