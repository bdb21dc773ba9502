"""The operator that asks for a configuration and lays it out as work for mapped tasks."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator

from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.answered_run import AnsweredRun
from qosflow_airflow.operators.link import QoSRecommendationLink
from qosflow_airflow.operators.run_rows import (
    CATALOG,
    RETURN_VALUE,
    ROWS,
    Part,
    fallback_folders,
    records_folder,
    temporary_folders,
    xcom_key,
)
from qosflow_airflow.operators.session import lean, task_store
from qosflow_airflow.operators.stage import QoSStageOperator
from qosflow_airflow.operators.summary import Status, summarise

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from qosflow_airflow.answers import LoadedModel
    from qosflow_airflow.core.qos import QoSRequest
    from qosflow_airflow.core.recommend import Infeasible, Recommendation
    from qosflow_airflow.store.base import RecommendationRecord, Store

__all__ = ["QoSRecommendOperator", "QoSRecommendationLink"]

OnInfeasible = Literal["fail", "skip", "nearest"]

_WHEN_INFEASIBLE: dict[str, Status] = {"fail": "infeasible", "skip": "skipped", "nearest": "nearest"}


class QoSRecommendOperator(BaseOperator):
    """Recommends a node count and a storage tier per stage, from the newest model of a workflow.

    The answer is kept in the store with its request and model. Pushed to XCom, all plain JSON:

    - ``rows``: lists of rows, under these keys:
    - ``<stage>``: one row per task of the stage, with folders, tier and the ``QOSFLOW_*`` variables; only
      the first one where ``rows`` is ``stage``;
    - ``stage_in.<stage>`` and ``stage_out.<stage>``: one row per copy that must be done before and after;
    - ``return_value``: ``status`` (``feasible``, ``nearest``, ``infeasible``, ``skipped``),
      ``recommendation_id``, ``model_id``, ``workflow``, ``configuration``, ``makespan_s``, ``explanation``,
      ``critical_stages``, ``flexible_stages``, ``region`` (with its rule), ``binding``; where there is a run,
      also ``tasks`` (how many per stage), ``records`` (the folder in which they leave what they measured)
      and ``temporary`` (folders that nobody needs afterwards).

    :meth:`stage`, :meth:`stage_in` and :meth:`stage_out` give these rows in a form that Airflow maps over.

    :param workflow: the workflow, as the store knows it (templated).
    :param deadline_s: the makespan may not be longer, seconds (templated).
    :param max_nodes: at most so many nodes (templated).
    :param allow: only these tiers: a list, or names separated by commas (templated).
    :param exclude: none of these tiers (templated).
    :param pin: stage to tier: a mapping, or ``stage=tier`` separated by commas (templated).
    :param objective: ``makespan`` (the default), ``node_hours``, ``cost`` or ``balanced`` (templated).
    :param confidence: keep the deadline with at least this probability (templated).
    :param max_node_hours: at most so many node-hours (templated).
    :param max_cost: at most so much money, in the currency of ``tiers.yaml`` (templated).
    :param initial_data: the folder of the outside input; by default ``initial_data`` on the home tier
        (templated).
    :param max_model_age_s: fail where the newest model is older, seconds (templated).
    :param on_infeasible: where no configuration meets the request: ``fail`` without a retry, ``skip`` what
        comes after, or take the ``nearest``, the best one once what stands in the way is left out.
    :param rows: one row per ``task`` of a stage, to map over; or one per ``stage``, for a task that divides
        stages itself, as :class:`~qosflow_airflow.operators.pods.QoSPodsOperator` does. A stage may then have
        more tasks than Airflow maps over.
    :param fallback: where a stage begins and its tier is down, full, read-only or hangs, plan what has not
        begun once more without that tier; otherwise the stage fails. It takes ``stage_group``.
    :param probe_timeout_s: a tier hangs when it does not take and give back a small file in so many seconds.
    :param max_chunks: the stages whose work divides into any number of tasks, each with the most that are
        allowed: a mapping, its JSON, or ``stage=number`` separated by commas (templated). Their finished runs
        tell how many are best, and the I/O model until there are any; the answer's times are those in the
        numbers that were chosen. For all other stages the workflow's number stays.
    :param chunk_objective: what that number makes small: ``time``, ``node_hours``, ``cost``, ``knee`` or
        ``published`` (time multiplied by the square root of the number); by default what ``objective`` says
        (templated).
    :param qosflow_conn_id: the connection to the store; ``[qosflow] conn_id`` where it is not given.
    """

    template_fields = (
        "workflow",
        "deadline_s",
        "max_nodes",
        "allow",
        "exclude",
        "pin",
        "objective",
        "confidence",
        "max_node_hours",
        "max_cost",
        "initial_data",
        "max_model_age_s",
        "max_chunks",
        "chunk_objective",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"pin": "json", "max_chunks": "json"}
    operator_extra_links = (QoSRecommendationLink(),)
    ui_color = "#dcebf5"

    def __init__(
        self,
        *,
        workflow: str,
        deadline_s: float | str | None = None,
        max_nodes: int | str | None = None,
        allow: list[str] | str | None = None,
        exclude: list[str] | str | None = None,
        pin: dict[str, str] | str | None = None,
        objective: str | None = None,
        confidence: float | str | None = None,
        max_node_hours: float | str | None = None,
        max_cost: float | str | None = None,
        initial_data: str | None = None,
        max_model_age_s: float | str | None = None,
        on_infeasible: OnInfeasible = "fail",
        rows: Literal["task", "stage"] = "task",
        fallback: bool = False,
        probe_timeout_s: float = 10.0,
        max_chunks: dict[str, int] | str | None = None,
        chunk_objective: str | None = None,
        qosflow_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # A rendered `None` or list must stay what it is. Airflow before 3.3 ignores this and renders text,
        # which the request understands as well.
        self.render_template_as_native_obj = True
        self.workflow = workflow
        self.deadline_s = deadline_s
        self.max_nodes = max_nodes
        self.allow = allow
        self.exclude = exclude
        self.pin = pin
        self.objective = objective
        self.confidence = confidence
        self.max_node_hours = max_node_hours
        self.max_cost = max_cost
        self.initial_data = initial_data
        self.max_model_age_s = max_model_age_s
        self.on_infeasible = on_infeasible
        self.rows = rows
        self.fallback = fallback
        self.probe_timeout_s = probe_timeout_s
        self.max_chunks = max_chunks
        self.chunk_objective = chunk_objective
        self.qosflow_conn_id = qosflow_conn_id
        # What was recommended, once it was: for the link, which Airflow makes in the same process.
        self.recommendation_id: str | None = None
        self._selectors: dict[str, QoSStageOperator] = {}

    def stage(self, stage: str) -> XComArg:
        """Return the rows of a stage's tasks, to map over: one more task, made at the first call."""
        return self._select("stage", stage)

    def stage_in(self, stage: str) -> XComArg:
        """Return the copies that must be done before a stage, to map over; there may be none."""
        return self._select("stage_in", stage)

    def stage_out(self, stage: str) -> XComArg:
        """Return the copies of a stage's final outputs to the home tier, to map over; there may be none."""
        return self._select("stage_out", stage)

    def _select(self, part: Part, stage: str) -> XComArg:
        key = xcom_key(part, stage)
        if self.fallback:
            raise RequestError(
                "fallback=True, and the rows of the first plan are asked for",
                stage=stage,
                cure="Build the stage with stage_group.",
            )
        if key not in self._selectors:
            name = f"{self.task_id.rpartition('.')[2]}_{stage}"
            selector = QoSStageOperator(
                task_id=name if part == "stage" else f"{name}_{part}",
                recommend_task_id=self.task_id,
                stage=stage,
                part=part,
            )
            self.set_downstream(selector)
            self._selectors[key] = selector
        return self._selectors[key].output

    def execute(self, context: Context) -> dict[str, Any]:
        """Recommend, push the rows of every stage, and return the summary.

        Raises
        ------
        AirflowFailException
            When the request, the workflow or the model is wrong, or nothing is feasible under ``fail``.
        AirflowSkipException
            When nothing is feasible under ``skip``.
        AirflowException
            When the store cannot be reached; the next try may do.
        """
        ti = context["ti"]
        with lean(), task_store(self.qosflow_conn_id) as store:
            record, answer, loaded = self._answer(store, context)
            self.recommendation_id = record.recommendation_id
            summary = summarise(record, self._status(record))
            try:
                if summary["status"] in ("infeasible", "skipped"):
                    _stop(summary)
                run = AnsweredRun(record, answer, loaded)
                run.say(self.log, summary)
                placement = run.place(self._initial_data, self._max_rows)
                plan = run.plan(self.probe_timeout_s, self._when_planned_again())
                rows = run.rows(placement, plan, first_only=self.rows == "stage")
                ti.xcom_push(key=ROWS, value=rows)
                if any(tier.volume is not None for tier in loaded.model.catalog.tiers):
                    ti.xcom_push(key=CATALOG, value=loaded.model.catalog.to_json())
            except Exception:
                # A task that fails returns nothing, and yet has its link and its page.
                ti.xcom_push(key=RETURN_VALUE, value=summary)
                raise
        return {
            **summary,
            "tasks": {stage: rows[0]["count"] for stage, rows in placement.stages.items()},
            "records": records_folder(placement),
            "temporary": fallback_folders(plan)
            if self.fallback
            else temporary_folders(placement, loaded.model.catalog.home),
            "fallback": self.fallback,
            **({"chunks": run.chunks} if run.chunks else {}),
        }

    def _answer(
        self, store: Store, context: Context
    ) -> tuple[RecommendationRecord, Recommendation | Infeasible, LoadedModel]:
        # Imported here: the model's libraries would slow down every parse of every Dag file.
        from qosflow_airflow.answers import answer_request
        from qosflow_airflow.hooks.load import measured_load
        from qosflow_airflow.learn.chunk_request import ChunkRequest

        ti = context["ti"]
        request = self._request()
        workflow = str(self.workflow)
        self._refuse_old_model(store, workflow)
        return answer_request(
            store,
            workflow,
            request,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            try_number=ti.try_number,
            chunks=ChunkRequest.parse(self.max_chunks, self.chunk_objective, self._max_rows),
            layers=settings.layers(),
            load=measured_load(socket.gethostname(), is_here=True),
        )

    def _request(self) -> QoSRequest:
        from qosflow_airflow.core.qos import QoSRequest

        if self.on_infeasible not in _WHEN_INFEASIBLE:
            raise RequestError(
                f"on_infeasible is {self.on_infeasible!r}", cure=f"Use one of {', '.join(_WHEN_INFEASIBLE)}."
            )
        return QoSRequest.parse({field.name: getattr(self, field.name) for field in fields(QoSRequest)})

    def _refuse_old_model(self, store: Store, workflow: str) -> None:
        if self.max_model_age_s in (None, "", "None"):
            return
        try:
            limit_s = float(self.max_model_age_s)
        except (TypeError, ValueError):
            raise RequestError(
                f"max_model_age_s is {self.max_model_age_s!r}, not a number", cure="Give seconds."
            ) from None
        version = store.newest_model(workflow)
        age_s = (datetime.now(UTC) - version.created_at).total_seconds()
        if age_s > limit_s:
            raise RequestError(
                f"version {version.version} of the model of {workflow!r} is {age_s:,.0f} s old, "
                f"more than {limit_s:,.0f} s",
                cure="Measure again and run the pipeline Dag, or raise max_model_age_s.",
            )

    def _status(self, record: RecommendationRecord) -> Status:
        if record.status == "feasible":
            return "feasible"
        status = _WHEN_INFEASIBLE[self.on_infeasible]
        return "infeasible" if status == "nearest" and record.answer["nearest"] is None else status

    @property
    def _initial_data(self) -> str | None:
        return None if self.initial_data is None else str(self.initial_data)

    @property
    def _max_rows(self) -> int | None:
        return settings.max_map_length() if self.rows == "task" else None

    def _when_planned_again(self) -> dict[str, Any] | None:
        """Return what a stage's first task needs to plan again, ``None`` where it must not."""
        if not self.fallback:
            return None
        return {
            "initial_data": self._initial_data,
            "on_infeasible": self.on_infeasible,
            "first_only": self.rows == "stage",
            "qosflow_conn_id": self.qosflow_conn_id,
        }


def _stop(summary: Mapping[str, Any]) -> NoReturn:
    kind = AirflowSkipException if summary["status"] == "skipped" else AirflowFailException
    raise kind(f"{summary['explanation']} (recommendation {summary['recommendation_id']})")
