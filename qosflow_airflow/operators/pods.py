"""A recommended run in pods: one task plans them, and each stage maps a pod operator over its rows.

What the pods do, and why a stage on a local tier is one pod per node, is in
:mod:`~qosflow_airflow.core.pods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.sdk import BaseOperator

from qosflow_airflow.exceptions import ClusterError, RequestError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.cluster import asked
from qosflow_airflow.operators.pod_ending import QoSPodCleanOperator, QoSPodRecordsOperator
from qosflow_airflow.operators.pod_rows import LABEL, pod_kwargs, with_copy_command
from qosflow_airflow.operators.pod_stage import QoSPodStageInOperator, QoSPodStageOutOperator
from qosflow_airflow.operators.run_rows import (
    CATALOG,
    PLAN,
    PODS,
    PROMISE,
    RECORDS,
    ROWS,
    Rows,
    placement_of,
    pull_run,
    xcom_rows,
)
from qosflow_airflow.operators.session import task_errors
from qosflow_airflow.operators.stage import Fit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.core.tiers import TierCatalog
    from qosflow_airflow.operators.pod_nodes import ClusterView

CLUSTER = ("kubernetes_conn_id", "config_file", "cluster_context", "in_cluster", "namespace")
"""The parameters of ``KubernetesPodOperator`` that say which cluster; the same for all tasks of a run."""


class QoSPodsOperator(BaseOperator):
    """Chooses the nodes of a run, checks that its volumes are there, and plans its pods.

    Pushed to XCom, all plain JSON, under the keys of the recommending task: ``<stage>``, one row per pod, and
    ``stage_in.<stage>`` and ``stage_out.<stage>``, at most one row each. What it returns is one row per pod
    that cleans up; map over it at the end. A row is what ``KubernetesPodOperator`` takes, after
    ``.map(pod_kwargs)``.

    :param recommend_task_id: the task that recommended; put it upstream.
    :param tasks_per_pod: how many tasks of a stage on a shared tier run in one pod; more where the stage
    would
        otherwise have more pods than Airflow maps over. On a local tier all tasks of a node run in one pod.
    :param copy_command: a shell command that copies a folder instead of the default (``cp``, compared by
    SHA-256):
        ``$1`` is the source, ``$2`` the destination, ``$3`` a regular expression of names, or empty.
    :param namespace: where the pods run (templated); by default the connection's, else ``default``.
    :param kubernetes_conn_id: the connection to the cluster (templated).
    :param config_file: a kubeconfig, instead of the connection's (templated).
    :param cluster_context: a context of the kubeconfig (templated).
    :param in_cluster: whether Airflow runs in the cluster itself.
    """

    template_fields = ("namespace", "kubernetes_conn_id", "config_file", "cluster_context")
    ui_color = "#e3ecf6"

    def __init__(
        self,
        *,
        recommend_task_id: str,
        tasks_per_pod: int = 1,
        copy_command: str | None = None,
        namespace: str | None = None,
        kubernetes_conn_id: str | None = KubernetesHook.default_conn_name,
        config_file: str | None = None,
        cluster_context: str | None = None,
        in_cluster: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id
        self.tasks_per_pod = tasks_per_pod
        self.copy_command = copy_command
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.config_file = config_file
        self.cluster_context = cluster_context
        self.in_cluster = in_cluster

    def execute(self, context: Context) -> Rows:
        """Plan, push the rows of every stage, and return those of the pods that clean up.

        Raises
        ------
        AirflowFailException
            When a tier has no volume, or the plan is impossible for another reason than the cluster's state.
        AirflowException
            When the cluster lacks nodes or claims, or cannot be asked; the next try may do.
        """
        from qosflow_airflow.core.pods import plan_pods

        with task_errors():
            if self.tasks_per_pod < 1:
                raise RequestError(f"tasks_per_pod is {self.tasks_per_pod}", cure="Give a number from 1.")
            run, catalog = self._recommended(context)
            fallback, placement = bool(run[PLAN]["fallback"]), placement_of(run)
            try:
                nodes = self._cluster().choose(placement, catalog, self.tasks_per_pod, fallback=fallback)
            except ClusterError as error:
                raise AirflowException(str(error)) from None
            offered = [name for name in catalog.names if name not in nodes.closed]
            plan = plan_pods(
                placement,
                catalog,
                nodes.names,
                tasks_per_pod=self.tasks_per_pod,
                max_rows=settings.max_map_length(),
                fallback=offered if fallback else (),
            )
        keys = xcom_rows(plan)
        beside: dict[str, Any] = {PROMISE: run[PROMISE], RECORDS: [plan.records]}
        if fallback:
            beside[PODS] = {
                "nodes": nodes.names,
                "tasks_per_pod": self.tasks_per_pod,
                "copy_command": self.copy_command,
                "fallback": offered,
                "closed": nodes.closed,
            }
        context["ti"].xcom_push(key=ROWS, value={**self._completed(keys), **beside})
        self.log.info("On %s:\n%s", ", ".join(nodes.names), "\n".join(_lines(keys)))
        return plan.clean

    def _recommended(self, context: Context) -> tuple[Mapping[str, Any], TierCatalog]:
        """Return what the recommending task left for the run, and the tiers."""
        from qosflow_airflow.core.tiers import TierCatalog

        run = pull_run(context, self.recommend_task_id)
        if PROMISE not in run:
            raise AirflowFailException(f"Task {self.recommend_task_id!r} recommended no run; see its log.")
        catalog = context["ti"].xcom_pull(task_ids=self.recommend_task_id, key=CATALOG)
        if catalog is None:
            raise AirflowFailException(
                "No tier of the model has a volume in a cluster. Give each tier `kubernetes: {claim: ...}`, "
                "or another volume, in tiers.yaml, and build the model again."
            )
        return run, TierCatalog.from_json(catalog)

    def _cluster(self) -> ClusterView:
        from qosflow_airflow.operators.pod_nodes import ClusterView

        with asked("be spoken to"):
            hook = KubernetesHook(
                conn_id=self.kubernetes_conn_id,
                config_file=self.config_file,
                cluster_context=self.cluster_context,
                in_cluster=self.in_cluster,
            )
            return ClusterView(hook.core_v1_client, self.namespace or hook.get_namespace() or "default")

    def _completed(self, keys: Mapping[str, Rows]) -> dict[str, Rows]:
        return {
            key: [with_copy_command(row, self.copy_command) for row in rows] for key, rows in keys.items()
        }


def _lines(keys: Mapping[str, Rows]) -> list[str]:
    pods = [pod["annotations"] for rows in keys.values() for pod in rows]
    return [f"{found['qosflow/label']}: {found['qosflow/node']}" for found in pods]


class PodCopies:
    """Copies that pods make, for :func:`~qosflow_airflow.operators.stage.stage_group`.

    ``pods`` is the task that plans them. Other parameters are those of ``KubernetesPodOperator`` that all
    pods of the run share, such as ``image``; which cluster is taken from ``pods``. ``copy_image`` is the
    image of pods that only copy, by default the same: it needs the programs that docs/kubernetes.md names.
    """

    def __init__(self, pods: QoSPodsOperator, *, copy_image: str | None = None, **shared: Any) -> None:
        self._pods = pods
        self._copy_image = copy_image
        self._shared = {**{name: getattr(pods, name) for name in CLUSTER}, **shared}

    @property
    def planned_by(self) -> BaseOperator:
        """The task that plans the pods."""
        return self._pods

    def stage_in(self, stage: str) -> BaseOperator:
        """Return the task that copies between shared tiers, and returns the rows."""
        return QoSPodStageInOperator(task_id="stage_in", stage=stage, **self._staging())

    def stage_out(self, stage: str) -> BaseOperator:
        """Return the task that copies final outputs from another shared tier home."""
        return QoSPodStageOutOperator(task_id="stage_out", stage=stage, **self._staging())

    def fit(self, operator: type[BaseOperator]) -> Fit:
        """Return how rows fit ``KubernetesPodOperator`` and what is derived from it.

        Raises
        ------
        RequestError
            For another operator: its tasks would not run in the planned pods.
        """
        if not issubclass(operator, KubernetesPodOperator):
            raise RequestError(
                f"{operator.__name__} runs no pods", cure="Use KubernetesPodOperator, or LocalCopies."
            )
        return Fit(pod_kwargs, LABEL)

    def partial(self, partial: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a stage's pods that do not come from rows.

        Raises
        ------
        RequestError
            When the entry point is given: it is the script that makes the copies.
        """
        if "cmds" in partial or "cmds" in self._shared:
            raise RequestError(
                "cmds is given, and the pods' entry point makes the copies",
                cure="Give the whole command of a task as `arguments`.",
            )
        return {**self._shared, **partial}

    def records(self, task_id: str = "records") -> QoSPodRecordsOperator:
        """Return the task that reads what the run recorded; put it after all stages."""
        return QoSPodRecordsOperator(
            task_id=task_id, trigger_rule="all_done", pods_task_id=self._pods.task_id, **self._copying()
        )

    def clean(self, task_id: str = "clean") -> Any:
        """Return mapped pods that remove what nobody needs after the run; none where nothing is left."""
        partial = QoSPodCleanOperator.partial(
            task_id=task_id,
            map_index_template=LABEL,
            recommend_task_id=self._pods.recommend_task_id,
            **self._copying(),
        )
        return partial.expand_kwargs(self._pods.output.map(pod_kwargs))

    def _copying(self) -> dict[str, Any]:
        image = {} if self._copy_image is None else {"image": self._copy_image}
        return {**self._shared, **image}

    def _staging(self) -> dict[str, Any]:
        ids = {"recommend_task_id": self._pods.recommend_task_id, "pods_task_id": self._pods.task_id}
        return {**self._copying(), **ids}
