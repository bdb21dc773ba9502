"""A recommendation as work to do: what its tasks are told, and what the log says of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qosflow_airflow.operators.answer_table import answer_text
from qosflow_airflow.operators.run_rows import PLAN, PROMISE, records_folder, xcom_rows
from qosflow_airflow.operators.slack import promise
from qosflow_airflow.operators.summary import described

if TYPE_CHECKING:
    from qosflow_airflow.answers import LoadedModel
    from qosflow_airflow.core.placement import Placement
    from qosflow_airflow.core.recommend import Infeasible, Recommendation
    from qosflow_airflow.core.space import Configuration
    from qosflow_airflow.core.workflow import Workflow
    from qosflow_airflow.store.base import RecommendationRecord


class AnsweredRun(NamedTuple):
    """An answer that has a configuration: the best one, or the nearest; and the model that gave it."""

    record: RecommendationRecord
    answer: Recommendation | Infeasible
    loaded: LoadedModel

    @property
    def configuration(self) -> Configuration:
        """The configuration that runs."""
        found = any_configuration(self.answer)
        assert found is not None  # an answer without one has stopped the task
        return found

    @property
    def chunks(self) -> Mapping[str, Mapping[str, Any]]:
        """How the stages are divided that are not done in their workflow's number of tasks, as plain JSON."""
        found: Mapping[str, Mapping[str, Any]] = self.record.answer.get("chunks", {})
        return found

    @property
    def workflow(self) -> Workflow:
        """The workflow in the numbers of tasks that run."""
        return self.loaded.model.workflow.with_tasks(self._numbers())

    def place(self, initial_data: str | None, max_rows: int | None) -> Placement:
        """Return the rows of the run; errors are those of :func:`~qosflow_airflow.core.placement.place`."""
        from qosflow_airflow.core.placement import place

        return place(
            self.workflow,
            self.loaded.model.catalog,
            self.configuration,
            recommendation_id=self.record.recommendation_id,
            initial_data=initial_data,
            max_rows=max_rows,
        )

    def plan(self, probe_timeout_s: float, fallback: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the first task of each stage needs to know of this plan, as plain JSON.

        ``fallback`` is what it needs to plan again, ``None`` where it must not.
        """
        model, run = self.loaded.model, self.record.recommendation_id
        times, catalog = model.scale(self.configuration.nodes).times, model.catalog
        written = () if times.output_bytes is None else times.output_bytes
        return {
            "run": run,
            "number": 0,
            "recommendation_id": run,
            "home": catalog.home,
            "mounts": {tier.name: tier.mount for tier in catalog.tiers if tier.mount},
            "output_bytes": {
                stage: float(size) for stage, size in zip(times.stages, written, strict=False) if size >= 0
            },
            "probe_timeout_s": probe_timeout_s,
            "failed": {},
            "fallback": None if fallback is None else {**fallback, "chunks": self._numbers()},
        }

    def rows(self, placement: Placement, plan: Mapping[str, Any], *, first_only: bool) -> dict[str, Any]:
        """Return what tasks find under :data:`~qosflow_airflow.operators.run_rows.ROWS`."""
        deadline_s, records = self.record.request["deadline_s"], records_folder(placement)
        promised = promise(self.workflow, described(self.record), deadline_s, records)
        return {**xcom_rows(placement, first_only=first_only), PROMISE: promised, PLAN: plan}

    def say(self, log: Any, summary: Mapping[str, Any]) -> None:
        """Log what was recommended, and what to know of it."""
        tasks = {stage.name: stage.tasks for stage in self.workflow.stages}
        if summary["status"] == "nearest":
            log.warning(
                "THE REQUEST IS NOT MET; the nearest configuration is used. %s", summary["explanation"]
            )
        else:
            log.info("%s", summary["explanation"])
        log.info(
            "Recommendation %s, from version %s of the model of %s:\n%s",
            self.record.recommendation_id,
            self.loaded.version.version,
            self.record.workflow,
            answer_text(self.record.answer, described(self.record), tasks),
        )
        drift = self.record.answer.get("calibration", {}).get("drift", {})
        if drift.get("state") == "stale":
            log.warning("THE MODEL NO LONGER HOLDS: %s. Run qosflow_pipeline again.", drift["words"])
        if self.chunks:
            from qosflow_airflow.learn.stage_chunks import StageChunks
        for stage, one in self.chunks.items():
            level = logging.WARNING if one["why"] == "infeasible" else logging.INFO
            log.log(level, "%s", StageChunks.from_json(one).sentence(stage))

    def _numbers(self) -> dict[str, int]:
        return {stage: one["chunks"] for stage, one in self.chunks.items()}


def any_configuration(answer: Recommendation | Infeasible) -> Configuration | None:
    """Return the best configuration, or the nearest; ``None`` where there is neither."""
    from qosflow_airflow.core.recommend import Infeasible

    return answer.nearest if isinstance(answer, Infeasible) else answer.configuration
