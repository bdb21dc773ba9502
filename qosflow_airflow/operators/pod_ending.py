"""What pods do at the end of a run: print what was recorded, and remove what nobody needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException

from qosflow_airflow.measure.probe import FULL
from qosflow_airflow.operators.boundary import boundaries_of, newest_run
from qosflow_airflow.operators.pod_rows import TIER, become, printed_records
from qosflow_airflow.operators.run_rows import PLAN, PROMISE, RECORDS, pull_run, xcom_key
from qosflow_airflow.operators.session import task_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


class QoSPodRecordsOperator(KubernetesPodOperator):
    """Returns what a run recorded, for a comparison where no worker sees the home tier.

    :param pods_task_id: the task that planned the pods.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    ui_color = "#f3eee3"

    def __init__(self, *, pods_task_id: str, **kwargs: Any) -> None:
        # What is printed is the result; as a log it would only be long.
        super().__init__(**{**kwargs, "get_logs": False})
        self.pods_task_id = pods_task_id
        self._printed = ""

    def execute(self, context: Context) -> Any:
        """Run the pod and return the records."""
        rows = pull_run(context, self.pods_task_id).get(RECORDS)
        if not rows:
            raise AirflowSkipException("No pods were planned, so there are no records.")
        become(self, rows[0])
        super().execute(context)
        return self._records()

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod that was waited for without a worker."""
        super().trigger_reentry(context, event)
        return self._records()

    def cleanup(self, pod: Any, remote_pod: Any, *args: Any, **kwargs: Any) -> None:
        """Read what the pod printed while it is still there."""
        if remote_pod is not None:
            name, namespace = remote_pod.metadata.name, remote_pod.metadata.namespace
            read = self.client.read_namespaced_pod_log
            answer = read(name, namespace, container=self.base_container_name, _preload_content=False)
            self._printed = answer.data.decode("utf-8", "replace")
        super().cleanup(pod, remote_pod, *args, **kwargs)

    def _records(self) -> dict[str, Any]:
        self.do_xcom_push = True
        with task_errors():
            return printed_records(self._printed)


class QoSPodCleanOperator(KubernetesPodOperator):
    """Removes what nobody needs of a run from a node, or from one tier of it where the run may fall back.

    There, a tier that the run has not used is skipped, one that has failed is left alone unless it only was
    full (a pod that sees a broken volume may never start), and one that cannot be cleaned is no failure.

    :param recommend_task_id: the task that recommended.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    ui_color = "#eeeeee"

    def __init__(self, *, recommend_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id

    def execute(self, context: Context) -> Any:
        """Run the pod, if there is anything that it can remove."""
        first = pull_run(context, self.recommend_task_id)
        if not first[PLAN]["fallback"]:
            return super().execute(context)
        self._skip_what_is_not_needed(context, first)
        try:
            return super().execute(context)
        except AirflowException as error:
            self._leave(first, str(error))

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod that was waited for without a worker."""
        try:
            return super().trigger_reentry(context, event)
        except AirflowException as error:
            first = pull_run(context, self.recommend_task_id)
            if not first[PLAN]["fallback"]:
                raise
            self._leave(first, str(error))

    def _skip_what_is_not_needed(self, context: Context, first: Mapping[str, Any]) -> None:
        tier, run = self.annotations[TIER], first[PLAN]["run"]
        tasks = boundaries_of(self.get_dag(), self.recommend_task_id).values()
        newest = newest_run(context, tasks, run) or first
        failed = newest[PLAN]["failed"]
        used = {
            one[xcom_key("stage", stage)][0]["tier"]
            for one in (first, newest)
            for stage in one[PROMISE]["stages"]
        }
        if tier not in used | failed.keys() | {first[PLAN]["home"]}:
            raise AirflowSkipException(f"The run has not used tier {tier!r}: nothing is left there.")
        if tier in failed and not failed[tier].startswith(FULL):
            self._leave(first, failed[tier])

    def _leave(self, first: Mapping[str, Any], reason: str) -> NoReturn:
        """Say what is not removed; the run can do without its tier, and needs nothing there any more."""
        tier, plan = self.annotations[TIER], first[PLAN]
        folder = f"{plan['mounts'][tier]}/{plan['run']}"
        self.log.warning(
            "NOT REMOVED: %s on tier %r (%s). Remove it once the tier is back.", folder, tier, reason
        )
        raise AirflowSkipException(f"What lies on tier {tier!r} is left alone.")
