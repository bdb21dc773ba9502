"""Where a stage begins: whether its tier can be used, and what takes its place where it cannot.

Every stage's first task tries the tier that was planned for it. Where that one is down, full, read-only or
hangs, the task fails and says so; in a run that may fall back, it plans what has not begun once more, without
the tier, and its stage and all later ones follow the new plan.

What the tasks of a run tell each other is in XCom: the recommending task leaves the first plan, a boundary
that planned again leaves the next one under the same key, and each boundary leaves where its stage is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.run_rows import (
    PLAN,
    PROMISE,
    ROWS,
    Part,
    Rows,
    pull_rows,
    pull_run,
    records_folder,
    xcom_key,
    xcom_rows,
)
from qosflow_airflow.operators.session import lean, task_store
from qosflow_airflow.operators.site import Run, Site, ThisMachine
from qosflow_airflow.operators.slack import promise
from qosflow_airflow.operators.summary import described

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.answers import LoadedModel
    from qosflow_airflow.core.placement import Placement
    from qosflow_airflow.core.recommend import Infeasible, Recommendation
    from qosflow_airflow.core.space import Configuration
    from qosflow_airflow.core.workflow import Workflow
    from qosflow_airflow.store.base import RecommendationRecord

BEGUN = "begun"
"""The XCom key under which a stage's first task says where the stage is."""

Plan = Mapping[str, Any]

log = logging.getLogger(__name__)


class BeginsStage:
    """What the first task of a stage is, whoever runs the stage's tasks."""

    recommend_task_id: str
    stage: str


def first_tasks(dag: Any) -> list[Any]:
    """Return the first tasks of all stages that a Dag runs by recommendations."""
    return [] if dag is None else [task for task in dag.tasks if isinstance(task, BeginsStage)]


def boundaries_of(dag: Any, recommend_task_id: str) -> dict[str, str]:
    """Return the first task of each stage of one recommending task."""
    found = [task for task in first_tasks(dag) if task.recommend_task_id == recommend_task_id]
    return {task.stage: task.task_id for task in found}


def newest_run(context: Context, tasks: Iterable[str], run_id: str) -> Run | None:
    """Return the run as it was planned last by one of ``tasks``; ``None`` where none planned it again.

    ``run_id`` is the recommendation that it began with.
    """
    found = [context["ti"].xcom_pull(task_ids=task, key=ROWS) for task in tasks]
    # What a task left before the recommending task ran once more is of another run.
    runs = [one for one in found if one and one[PLAN]["run"] == run_id]
    return max(runs, key=lambda one: int(one[PLAN]["number"]), default=None)


@dataclass(frozen=True)
class Boundary:
    """The first task of a stage.

    ``boundaries`` is the first task of each stage of the run, this one among them; ``site`` is where the
    stage's tasks run.
    """

    context: Context
    recommend_task_id: str
    stage: str
    boundaries: Mapping[str, str]
    site: Site = field(default_factory=ThisMachine)

    def begin(self) -> Run:
        """Return the run to follow: the newest plan, on a tier that can be used.

        Raises
        ------
        AirflowException
            When the stage's tier cannot be used, and nothing else is allowed or possible. The next try may
            find it in order.
        """
        first = pull_run(self.context, self.recommend_task_id)
        if PLAN not in first:
            return first
        if not first[PLAN]["fallback"]:
            if failure := self._failure(first):
                raise AirflowException(
                    f"{failure} Free or mend it and try again, or recommend with fallback=True."
                )
            return first
        newest = newest_run(self.context, self.boundaries.values(), first[PLAN]["run"])
        run = self._beside_what_lies(newest or first)
        while failure := self._failure(run):
            run = self._plan_again(run, failure)
            self.context["ti"].xcom_push(key=ROWS, value=run)
        self._leave_where(run)
        return run

    def rows(self, run: Run, part: Part) -> Rows:
        """Return the rows of a part of the stage, as the run that :meth:`begin` returned has them."""
        return self.site.rows(run, part, self.stage, partial(self._planned, run))

    def stage_out_rows(self) -> Rows:
        """Return the copies of the stage's outputs, from where the stage was."""
        run = pull_run(self.context, self.recommend_task_id)
        if run.get(PLAN, {}).get("fallback"):
            place = self._begun(run).get(self.stage)
            if place is not None:
                return list(place["stage_out"])
        return pull_rows(self.context, self.recommend_task_id, "stage_out", self.stage, run)

    def _row(self, run: Run) -> dict[str, Any]:
        return pull_rows(self.context, self.recommend_task_id, "stage", self.stage, run)[0]

    def _failure(self, run: Run) -> str | None:
        """Return a sentence about the stage's tier where it cannot be used."""
        tier = self._row(run)["tier"]
        reason = self.site.why_unusable(run, self.stage)
        folder = run[PLAN]["mounts"][tier]
        return reason and f"Stage {self.stage!r} cannot use tier {tier!r} at {folder}: {reason}."

    def _begun(self, run: Run) -> dict[str, Mapping[str, Any]]:
        """Return where each stage is that has begun in this run."""
        ti = self.context["ti"]
        found = {stage: ti.xcom_pull(task_ids=task, key=BEGUN) for stage, task in self.boundaries.items()}
        return {stage: one for stage, one in found.items() if one and one["run"] == run[PLAN]["run"]}

    def _planned(self, run: Run) -> dict[str, Mapping[str, str]]:
        """Return the tiers of all stages in the plan by which each other stage has begun."""
        return {stage: one["tiers"] for stage, one in self._begun(run).items() if stage != self.stage}

    def _leave_where(self, run: Run) -> None:
        tiers = {stage: run[xcom_key("stage", stage)][0]["tier"] for stage in run[PROMISE]["stages"]}
        place = {"run": run[PLAN]["run"], "tier": tiers[self.stage], "tiers": tiers}
        rows = {part: self.rows(run, part) for part in self.site.leaves}
        self.context["ti"].xcom_push(key=BEGUN, value={**place, **rows})

    def _beside_what_lies(self, run: Run) -> Run:
        """Return the run with its inputs where they are.

        Two stages that begin at the same time may not know of each other's plan.
        """
        before = run[PROMISE]["stages"][self.stage]["after"]
        places = {stage: one["tier"] for stage, one in self._begun(run).items() if stage in before}
        if all(run[xcom_key("stage", stage)][0]["tier"] == tier for stage, tier in places.items()):
            return run
        from qosflow_airflow.answers import load_model_version
        from qosflow_airflow.core.space import Configuration

        plan = run[PLAN]
        with lean(), task_store(plan["fallback"]["qosflow_conn_id"]) as store:
            record = store.recommendation(plan["recommendation_id"])
            planned = described(record)["configuration"]
            loaded = load_model_version(store, record.model_id)
            actual = Configuration(planned["nodes"], {**planned["tiers"], **places})
            return {**run, **_placed_rows(plan, _place(plan, loaded, actual, record.recommendation_id))}

    def _plan_again(self, run: Run, failure: str) -> Run:
        """Return the run as it goes on without the tier that failed; the store keeps the recommendation."""
        plan, tier = run[PLAN], self._row(run)["tier"]
        if tier == plan["home"]:
            raise AirflowException(
                f"{failure} It is the home tier, where initial data and results lie: nothing can take its "
                "place. Free or mend it, then try again."
            )
        reason = failure.partition(": ")[2].rstrip(".")
        failed = {**self.site.closed(), **plan["failed"], tier: reason}
        with lean(), task_store(plan["fallback"]["qosflow_conn_id"]) as store:
            record, answer, loaded = self._ask_again(store, run, failed)
            configuration = self._configuration(record, answer, plan, failure)
            placement = _place(plan, loaded, configuration, record.recommendation_id)
        log.warning("%s %s", failure, record.answer["explanation"])
        promised = promise(
            _workflow(plan, loaded),
            described(record),
            record.request["deadline_s"],
            records_folder(placement),
        )
        changed = {"recommendation_id": record.recommendation_id, "failed": failed}
        following = {**plan, **changed, "number": plan["number"] + 1}
        return {**_placed_rows(plan, placement), PROMISE: promised, PLAN: following}

    def _ask_again(
        self, store: Any, run: Run, failed: Mapping[str, str]
    ) -> tuple[RecommendationRecord, Recommendation | Infeasible, LoadedModel]:
        from qosflow_airflow.answers import answer_again

        ti, promised = self.context["ti"], run[PROMISE]["stages"]
        # Of what comes after this stage only an earlier try can have begun.
        later = _after(promised, self.stage) | {self.stage}
        begun = {stage: one["tier"] for stage, one in self._begun(run).items() if stage not in later}
        return answer_again(
            store,
            store.recommendation(run[PLAN]["recommendation_id"]),
            self._row(run)["nodes"],
            begun,
            failed,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            try_number=ti.try_number,
        )

    def _configuration(
        self, record: RecommendationRecord, answer: Any, plan: Plan, failure: str
    ) -> Configuration:
        from qosflow_airflow.core.recommend import Recommendation

        if isinstance(answer, Recommendation):
            return answer.configuration
        nearest: Configuration | None = answer.nearest
        if plan["fallback"]["on_infeasible"] != "nearest" or nearest is None:
            raise AirflowException(
                f"{failure} {record.answer['explanation']} (recommendation {record.recommendation_id}). "
                "Free or mend the tier and try again, or ask for less."
            )
        log.warning("THE REQUEST IS NOT MET ANY MORE; the nearest configuration is used.")
        return nearest


def _place(
    plan: Plan, loaded: LoadedModel, configuration: Configuration, recommendation_id: str
) -> Placement:
    from qosflow_airflow.core.placement import place

    return place(
        _workflow(plan, loaded),
        loaded.model.catalog,
        configuration,
        recommendation_id=recommendation_id,
        initial_data=plan["fallback"]["initial_data"],
        max_rows=None if plan["fallback"]["first_only"] else settings.max_map_length(),
        folder=plan["run"],
    )


def _placed_rows(plan: Plan, placement: Placement) -> dict[str, Rows]:
    return xcom_rows(placement, first_only=plan["fallback"]["first_only"])


def _workflow(plan: Plan, loaded: LoadedModel) -> Workflow:
    """Return the workflow in the numbers of tasks with which its run began."""
    return loaded.model.workflow.with_tasks(plan["fallback"].get("chunks", {}))


def _after(promised: Mapping[str, Any], stage: str) -> set[str]:
    """Return the stages that read, at once or by others, what a stage writes."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        before = waiting.pop()
        readers = {name for name, one in promised.items() if before in one["after"]} - found
        found |= readers
        waiting += readers
    return found
