"""Pods that a task starts beside those that Airflow knows of, all at once, and waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4

from airflow.providers.common.compat.sdk import AirflowException

from qosflow_airflow.core.pod_manifest import NODE
from qosflow_airflow.operators.cluster import asked
from qosflow_airflow.operators.pod_rows import become

if TYPE_CHECKING:
    from airflow.sdk import Context

HELPER_LABEL = "qosflow/helper"
"""The label of such pods. They have none of those by which Airflow finds a task's own pod."""
POLL_S = 0.5
_TIMEOUT_S = 30
_MOUNTING = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_MOUNTED = ("Pulling", "Pulled", "Created", "Started", "FailedCreatePodSandBox", "SandboxChanged")
"""Events of a pod whose volumes are there: the kubelet mounts them before all else."""
_OURS = "qosflow: "
"""How a line of the pods' script begins."""

log = logging.getLogger(__name__)


class PodEnd(NamedTuple):
    """How a pod ended.

    It is ``done``; has ``failed``, as its script says; ``died`` of something else; was ``unmounted``, without
    its volumes; or was ``silent`` for too long.
    """

    node: str
    kind: Literal["done", "failed", "died", "unmounted", "silent"]
    said: str = ""


@dataclass
class HelperPods:
    """Pods of ``operator``, a ``KubernetesPodOperator``, which must not have a pod of its own yet.

    A pod may run for ``answer_s`` seconds, by default as long as it wants. Its volumes must be mounted in so
    many seconds once the cluster has said that they cannot be, or else in the operator's
    ``startup_timeout_seconds``.
    """

    operator: Any
    context: Context
    answer_s: float | None = None
    _made: dict[str, Any] = field(default_factory=dict)
    _since: dict[tuple[str, str], float] = field(default_factory=dict)

    def run(self, rows: Sequence[Mapping[str, Any]]) -> list[PodEnd]:
        """Run one pod per row, and return how each ended once all have; none is left afterwards.

        Raises
        ------
        AirflowException
            When a pod cannot be started for another reason than its volumes.
        ClusterError
            When the cluster cannot be asked.
        """
        label = uuid4().hex
        ends: dict[str, PodEnd] = {}
        try:
            for row in rows:
                self._create(row, label)
            while len(ends) < len(self._made):
                with asked("list pods"):
                    found = self._client.list_namespaced_pod(
                        self._namespace, label_selector=f"{HELPER_LABEL}={label}", _request_timeout=_TIMEOUT_S
                    )
                there = {pod.metadata.name: pod for pod in found.items}
                for name in self._made.keys() - ends.keys():
                    if end := self._end(name, there.get(name)):
                        ends[name] = end
                if len(ends) < len(self._made):
                    time.sleep(POLL_S)
        finally:
            self.delete()
        return [ends[name] for name in self._made]

    def delete(self) -> None:
        """Remove the pods that were made, whatever they do."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        for name in self._made:
            try:
                self._client.delete_namespaced_pod(
                    name, self._namespace, grace_period_seconds=0, _request_timeout=_TIMEOUT_S
                )
            except (ApiException, HTTPError) as error:
                log.info("Pod %s is not removed: %s", name, error)

    @property
    def _client(self) -> Any:
        return self.operator.client

    @property
    def _namespace(self) -> str:
        namespace: str = next(iter(self._made.values())).metadata.namespace
        return namespace

    def _create(self, row: Mapping[str, Any], label: str) -> None:
        become(self.operator, row)
        # A sidecar that waits for the task to fetch a result would keep the pod alive.
        self.operator.do_xcom_push = False
        pod = self.operator.build_pod_request_obj(self.context)
        pod.metadata.labels = {**row["labels"], HELPER_LABEL: label}
        with asked("create a pod"):
            self._client.create_namespaced_pod(pod.metadata.namespace, pod, _request_timeout=_TIMEOUT_S)
        self._made[pod.metadata.name] = pod
        self._took(pod.metadata.name, "made")

    def _took(self, name: str, what: str) -> float:
        """Return the seconds since a pod was first asked about this."""
        now = time.monotonic()
        return now - self._since.setdefault((name, what), now)

    def _end(self, name: str, pod: Any) -> PodEnd | None:
        node = self._made[name].metadata.annotations[NODE]
        if pod is None:
            return PodEnd(node, "died", "the pod was deleted")
        if pod.status.phase == "Succeeded":
            return PodEnd(node, "done")
        if pod.status.phase == "Failed":
            return self._failure(node, pod)
        if pod.status.phase == "Running":
            too_long = self.answer_s is not None and self._took(name, "running") > self.answer_s
            return PodEnd(node, "silent") if too_long else None
        return self._start(name, node, pod)

    def _start(self, name: str, node: str, pod: Any) -> PodEnd | None:
        """Return how a pod ends that has not started: because of its volumes, or not yet."""
        late = self._took(name, "made") > self.operator.startup_timeout_seconds
        unplaced = [one for one in pod.status.conditions or () if one.type == "PodScheduled"]
        unplaced = [one.message or one.reason or "" for one in unplaced if one.status == "False"]
        if unplaced:
            # Where a pod sees one volume and may run on one node, it is that one that is meant.
            if "volume" in unplaced[0].lower():
                limit_s = self.answer_s or 0
                return (
                    PodEnd(node, "unmounted", unplaced[0]) if self._took(name, "volume") > limit_s else None
                )
            if late:
                raise AirflowException(f"Pod {name} is not placed on node {node}: {unplaced[0]}")
            return None
        events = self._events(name)
        failed = [event.message for event in events if event.reason in _MOUNTING]
        mounted = any(event.reason in _MOUNTED for event in events)
        if failed and not mounted and (late or self._took(name, "mount") > (self.answer_s or 0)):
            return PodEnd(node, "unmounted", failed[-1])
        if late and not mounted:
            return PodEnd(node, "unmounted", f"not mounted in {self.operator.startup_timeout_seconds} s")
        if late:
            raise AirflowException(f"Pod {name} does not start on node {node}: {_waits_for(pod, events)}")
        return None

    def _events(self, name: str) -> list[Any]:
        with asked("list events"):
            found = self._client.list_namespaced_event(
                self._namespace, field_selector=f"involvedObject.name={name}", _request_timeout=_TIMEOUT_S
            )
        return list(found.items)

    def _failure(self, node: str, pod: Any) -> PodEnd:
        """Return why a pod failed: what the cluster says, or the last line that it printed."""
        for container in pod.status.container_statuses or ():
            ended = container.state and container.state.terminated
            if ended and ended.reason == "OOMKilled":
                return PodEnd(node, "died", "OOMKilled")
        if pod.status.reason or pod.status.message:
            return PodEnd(node, "died", f"{pod.status.reason}: {pod.status.message}")
        with asked("read a log"):
            answer = self._client.read_namespaced_pod_log(
                pod.metadata.name,
                self._namespace,
                container=self.operator.base_container_name,
                _preload_content=False,
                _request_timeout=_TIMEOUT_S,
            )
        printed: str = answer.data.decode("utf-8", "replace")
        last = (printed.strip().splitlines() or ["it said nothing"])[-1]
        if last.startswith(_OURS):
            return PodEnd(node, "failed", last.removeprefix(_OURS))
        return PodEnd(node, "died", last)


def _waits_for(pod: Any, events: Sequence[Any]) -> str:
    waits = [one.state.waiting for one in pod.status.container_statuses or () if one.state.waiting]
    said = [f"{one.reason}: {one.message or ''}" for one in waits] or [one.message for one in events[-1:]]
    return said[0] if said else "the cluster does not say why"
