"""The tasks before and after a stage's pods: try its tier, copy between shared tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException

from qosflow_airflow.exceptions import ClusterError
from qosflow_airflow.operators.boundary import BEGUN, BeginsStage, Boundary, boundaries_of
from qosflow_airflow.operators.pod_rows import become
from qosflow_airflow.operators.run_rows import CATALOG, PODS, PROMISE, Part, Rows, pull_rows, pull_run
from qosflow_airflow.operators.slack import say_slack

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.operators.helper_pods import HelperPods
    from qosflow_airflow.operators.pod_site import InPods


class _StageCopiesInPods(KubernetesPodOperator):
    """Makes the copies of a stage between tiers in pods; without any, there is no pod."""

    part: Part
    ui_color = "#e8f1ec"

    def __init__(self, *, recommend_task_id: str, pods_task_id: str, stage: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id
        self.pods_task_id = pods_task_id
        self.stage = stage
        self.helpers: HelperPods | None = None

    def copy(self, context: Context, rows: Rows) -> Any:
        """Run the pods if there are any, and end as the part does."""
        if not rows:
            return self._without_pod(context)
        if len(rows) > 1:
            self._copy_at_once(context, rows)
            return self._after_pod(context)
        become(self, rows[0])
        super().execute(context)
        return self._after_pod(context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod that was waited for without a worker."""
        super().trigger_reentry(context, event)
        return self._after_pod(context)

    def on_kill(self) -> None:
        """Remove the pods."""
        if self.helpers is not None:
            self.helpers.delete()
        super().on_kill()

    def boundary(self, context: Context) -> Boundary:
        """Return where the stage begins, among where the others do."""
        boundaries = boundaries_of(self.get_dag(), self.recommend_task_id)
        return Boundary(context, self.recommend_task_id, self.stage, boundaries, self._site(context))

    def may_fall_back(self, context: Context) -> bool:
        """Return whether the run may be planned again."""
        return PODS in pull_run(context, self.pods_task_id)

    def _site(self, context: Context) -> InPods:
        # Imported here: the model's libraries would slow down every parse of every Dag file.
        from qosflow_airflow.operators.pod_site import InPods

        catalog = context["ti"].xcom_pull(task_ids=self.recommend_task_id, key=CATALOG)
        return InPods(self, context, pull_run(context, self.pods_task_id)[PODS], catalog)

    def _copy_at_once(self, context: Context, rows: Rows) -> None:
        """Copy in one pod per node: what an earlier plan has left on each."""
        try:
            ends = self._site(context).helpers().run(rows)
        except ClusterError as error:
            raise AirflowException(str(error)) from None
        failed = [f"on node {end.node}: {end.said}" for end in ends if end.kind != "done"]
        if failed:
            raise AirflowException(f"What lies on nodes cannot be copied {'; '.join(failed)}")

    def _without_pod(self, context: Context) -> Any:
        raise NotImplementedError

    def _after_pod(self, context: Context) -> Any:
        raise NotImplementedError


class QoSPodStageInOperator(BeginsStage, _StageCopiesInPods):
    """Brings inputs from other shared tiers to a stage's shared tier, and returns the rows of its pods.

    Copies to a local tier are made by the stage's own pods, on their nodes. In a run that may fall back the
    stage's tier is tried before anything else; what happens where it cannot be used is in
    :mod:`~qosflow_airflow.operators.boundary`.

    :param recommend_task_id: the task that recommended.
    :param pods_task_id: the task that planned the pods.
    :param stage: the stage.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    part: Part = "stage_in"

    def execute(self, context: Context) -> Any:
        """Try the tier, say how the run stands, and run the pods that copy, if there are any."""
        if self.may_fall_back(context):
            boundary = self.boundary(context)
            run = boundary.begin()
            rows = boundary.rows(run, self.part)
        else:
            run = pull_run(context, self.pods_task_id)
            rows = pull_rows(context, self.pods_task_id, self.part, self.stage, run)
        say_slack(context, run.get(PROMISE), self.stage)
        return self.copy(context, rows)

    def _without_pod(self, context: Context) -> Rows:
        # The pod operator keeps what it returns to itself unless it is told to look for a file in the pod.
        self.do_xcom_push = True
        if self.may_fall_back(context):
            return list(context["ti"].xcom_pull(task_ids=self.task_id, key=BEGUN)["stage"])
        return pull_rows(context, self.pods_task_id, "stage", self.stage)

    _after_pod = _without_pod


class QoSPodStageOutOperator(_StageCopiesInPods):
    """Copies a stage's final outputs from another shared tier to the home tier, or is skipped.

    Final outputs on a local tier are brought home by the stage's own pods.

    :param recommend_task_id: the task that recommended.
    :param pods_task_id: the task that planned the pods.
    :param stage: the stage.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    part: Part = "stage_out"

    def execute(self, context: Context) -> Any:
        """Run the pod that copies, if there is one."""
        if self.may_fall_back(context):
            return self.copy(context, self.boundary(context).stage_out_rows())
        return self.copy(context, pull_rows(context, self.pods_task_id, self.part, self.stage))

    def _without_pod(self, context: Context) -> Any:
        raise AirflowSkipException("The outputs are on the home tier already: there was nothing to copy.")

    def _after_pod(self, context: Context) -> Any:
        return None
