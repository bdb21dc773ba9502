"""A recommended run in pods: one task plans them, and each stage maps a pod operator over its rows.

What the pods do, and why a stage on a local tier is one pod per node, is in
:mod:`~qosflow_airflow.core.pods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator

from qosflow_airflow.exceptions import ClusterError, RequestError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.cluster import asked, check_claims, read_nodes
from qosflow_airflow.operators.pod_rows import LABEL, become, pod_kwargs, printed_records
from qosflow_airflow.operators.run_rows import (
    CATALOG,
    PROMISE,
    RECORDS,
    ROWS,
    Part,
    Rows,
    pull_rows,
    pull_run,
    xcom_key,
    xcom_rows,
)
from qosflow_airflow.operators.session import task_errors
from qosflow_airflow.operators.slack import say_slack
from qosflow_airflow.operators.stage import Fit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.core.placement import Placement
    from qosflow_airflow.core.tiers import TierCatalog

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
            placement, catalog = self._placement(context)
            try:
                nodes = self._nodes(placement, catalog)
            except ClusterError as error:
                raise AirflowException(str(error)) from None
            plan = plan_pods(
                placement,
                catalog,
                nodes,
                tasks_per_pod=self.tasks_per_pod,
                max_rows=settings.max_map_length(),
            )
        keys = xcom_rows(plan)
        completed = {key: [self._completed(row) for row in rows] for key, rows in keys.items()}
        promised = pull_run(context, self.recommend_task_id).get(PROMISE)
        beside = {PROMISE: promised, RECORDS: [plan.records]}
        context["ti"].xcom_push(key=ROWS, value={**completed, **beside})
        self.log.info("On %s:\n%s", ", ".join(nodes), "\n".join(_lines(keys)))
        return [self._completed(row) for row in plan.clean]

    def _placement(self, context: Context) -> tuple[Placement, TierCatalog]:
        from qosflow_airflow.core.placement import Placement
        from qosflow_airflow.core.tiers import TierCatalog

        ti = context["ti"]
        summary = ti.xcom_pull(task_ids=self.recommend_task_id)
        catalog = ti.xcom_pull(task_ids=self.recommend_task_id, key=CATALOG)
        if not isinstance(summary, Mapping) or "tasks" not in summary:
            raise AirflowFailException(f"Task {self.recommend_task_id!r} recommended no run; see its log.")
        if catalog is None:
            raise AirflowFailException(
                "No tier of the model has a volume in a cluster. Give each tier `kubernetes: {claim: ...}`, "
                "or another volume, in tiers.yaml, and build the model again."
            )
        run = pull_run(context, self.recommend_task_id)
        parts: dict[Part, dict[str, Rows]] = {
            part: {stage: run[xcom_key(part, stage)] for stage in summary["tasks"]}
            for part in ("stage", "stage_in", "stage_out")
        }
        placement = Placement(parts["stage"], parts["stage_in"], parts["stage_out"])
        return placement, TierCatalog.from_json(catalog)

    def _nodes(self, placement: Placement, catalog: TierCatalog) -> tuple[str, ...]:
        """Choose the nodes; errors are those of :func:`choose_nodes` and :func:`check_claims`."""
        from qosflow_airflow.core.cluster_nodes import choose_nodes
        from qosflow_airflow.core.pod_tiers import check_bound, selector_of, tolerations_of, used_tiers
        from qosflow_airflow.core.pods import plan_pods

        tiers = used_tiers(placement, catalog)
        check_bound(catalog, tiers)
        first = next(iter(placement.stages.values()))[0]
        # What pods ask for does not depend on which nodes they run on, only on how many there are.
        count = first["nodes"]
        draft = plan_pods(
            placement,
            catalog,
            [str(at) for at in range(count)],
            tasks_per_pod=self.tasks_per_pod,
            max_rows=settings.max_map_length(),
        )
        resources = [pod["container_resources"] for pods in draft.stages.values() for pod in pods]
        with asked("be spoken to"):
            hook = KubernetesHook(
                conn_id=self.kubernetes_conn_id,
                config_file=self.config_file,
                cluster_context=self.cluster_context,
                in_cluster=self.in_cluster,
            )
            client = hook.core_v1_client
        nodes = choose_nodes(
            read_nodes(client),
            count,
            node_selector=selector_of(catalog, tiers),
            tolerations=tolerations_of(catalog, tiers),
            requests=[found.get("requests", {}) for found in resources],
            seed=first["env"]["QOSFLOW_RECOMMENDATION_ID"],
        )
        namespace = self.namespace or hook.get_namespace() or "default"
        check_claims(client, namespace, catalog, tiers, nodes)
        return nodes

    def _completed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if self.copy_command is None:
            return dict(row)
        return {**row, "env_vars": {**row["env_vars"], "QOSFLOW_COPY": self.copy_command}}


def _lines(keys: Mapping[str, Rows]) -> list[str]:
    pods = [pod["annotations"] for rows in keys.values() for pod in rows]
    return [f"{found['qosflow/label']}: {found['qosflow/node']}" for found in pods]


class _StageCopiesInPod(KubernetesPodOperator):
    """Makes the copies of a stage between shared tiers in one pod; without any, there is no pod."""

    part: Part
    ui_color = "#e8f1ec"

    def __init__(self, *, pods_task_id: str, stage: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pods_task_id = pods_task_id
        self.stage = stage

    def execute(self, context: Context) -> Any:
        """Run the pod if there is one, and end as the part does."""
        rows = pull_rows(context, self.pods_task_id, self.part, self.stage)
        if not rows:
            return self._without_pod(context)
        become(self, rows[0])
        super().execute(context)
        return self._after_pod(context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod that was waited for without a worker."""
        super().trigger_reentry(context, event)
        return self._after_pod(context)

    def _without_pod(self, context: Context) -> Any:
        raise NotImplementedError

    def _after_pod(self, context: Context) -> Any:
        raise NotImplementedError


class QoSPodStageInOperator(_StageCopiesInPod):
    """Brings inputs from other shared tiers to a stage's shared tier, and returns the rows of its pods.

    Copies to a local tier are made by the stage's own pods, on their nodes.

    :param pods_task_id: the task that planned the pods.
    :param stage: the stage.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    part = "stage_in"

    def execute(self, context: Context) -> Any:
        """Say how the run stands, then run the pod if there is one."""
        say_slack(context, pull_run(context, self.pods_task_id).get(PROMISE), self.stage)
        return super().execute(context)

    def _without_pod(self, context: Context) -> Rows:
        # The pod operator keeps what it returns to itself unless it is told to look for a file in the pod.
        self.do_xcom_push = True
        return pull_rows(context, self.pods_task_id, "stage", self.stage)

    _after_pod = _without_pod


class QoSPodStageOutOperator(_StageCopiesInPod):
    """Copies a stage's final outputs from another shared tier to the home tier, or is skipped.

    Final outputs on a local tier are brought home by the stage's own pods.

    :param pods_task_id: the task that planned the pods.
    :param stage: the stage.

    Other parameters are those of ``KubernetesPodOperator``.
    """

    part = "stage_out"

    def _without_pod(self, context: Context) -> Any:
        raise AirflowSkipException("The outputs are on the home tier already: there was nothing to copy.")

    def _after_pod(self, context: Context) -> Any:
        return None


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


class PodCopies:
    """Copies that pods make, for :func:`~qosflow_airflow.operators.stage.stage_group`.

    ``pods`` is the task that plans them. Other parameters are those of ``KubernetesPodOperator`` that all
    pods of the run share, such as ``image``; which cluster is taken from ``pods``. ``copy_image`` is the
    image of pods that only copy, by default the same: it needs ``sh``, ``cp``, ``find``, ``grep`` and
    ``sha256sum``.
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
        return QoSPodStageInOperator(task_id="stage_in", stage=stage, **self._copying())

    def stage_out(self, stage: str) -> BaseOperator:
        """Return the task that copies final outputs from another shared tier home."""
        return QoSPodStageOutOperator(task_id="stage_out", stage=stage, **self._copying())

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
        return QoSPodRecordsOperator(task_id=task_id, trigger_rule="all_done", **self._copying())

    def clean(self, task_id: str = "clean") -> Any:
        """Return mapped pods that remove what nobody needs after the run; none where nothing is left."""
        copying = {name: value for name, value in self._copying().items() if name != "pods_task_id"}
        rows = self._pods.output.map(pod_kwargs)
        partial = KubernetesPodOperator.partial(task_id=task_id, map_index_template=LABEL, **copying)
        return partial.expand_kwargs(rows)

    def _copying(self) -> dict[str, Any]:
        image = {} if self._copy_image is None else {"image": self._copy_image}
        return {**self._shared, **image, "pods_task_id": self._pods.task_id}
