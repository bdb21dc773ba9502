"""Where the stages of a run are done, where that is in pods: what a boundary asks of the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from qosflow_airflow.core.pod_tiers import volume_of
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.exceptions import ClusterError
from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.helper_pods import HelperPods, PodEnd
from qosflow_airflow.operators.pod_rows import with_copy_command
from qosflow_airflow.operators.run_rows import PLAN, Part, Rows, placement_of, xcom_key
from qosflow_airflow.operators.session import task_errors
from qosflow_airflow.operators.site import Planned, Run

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class InPods:
    """The pods of a run that may fall back.

    ``operator`` is the ``KubernetesPodOperator`` whose task asks, ``setup`` what the run's pods were planned
    with, ``tiers`` the catalog as plain JSON.
    """

    operator: Any
    context: Context
    setup: Mapping[str, Any]
    tiers: Mapping[str, Any]
    leaves: Sequence[Part] = ("stage", "stage_out")

    @cached_property
    def catalog(self) -> TierCatalog:
        """The tiers."""
        return TierCatalog.from_json(self.tiers)

    def why_unusable(self, run: Run, stage: str) -> str | None:
        """Let pods write to the tier and read back: one on each node where it is local.

        A volume that dies with its pod is new in each: there is nothing to try.
        """
        from qosflow_airflow.core.pods import trying_pods

        placement, plan = placement_of(run), run[PLAN]
        tier = self.catalog.tier(run[xcom_key("stage", stage)][0]["tier"])
        if not volume_of(tier).outlives_pods:
            return None
        needed_bytes = plan["output_bytes"].get(stage, 0.0)
        rows = trying_pods(placement, self.catalog, self.setup["nodes"], stage, needed_bytes)
        try:
            ends = self.helpers(plan["probe_timeout_s"]).run(rows)
        except ClusterError as error:
            raise AirflowException(str(error)) from None
        reasons = [_reason(end, plan["probe_timeout_s"], several=len(ends) > 1) for end in ends]
        return next((reason for reason in reasons if reason is not None), None)

    def closed(self) -> Mapping[str, str]:
        """Return the tiers that the run's nodes do not offer."""
        found: Mapping[str, str] = self.setup["closed"]
        return found

    def rows(self, run: Run, part: Part, stage: str, planned: Planned) -> Rows:
        """Return the pods of a part of a stage, on the nodes that the run began with."""
        from qosflow_airflow.core.pod_copies import unbrought
        from qosflow_airflow.core.pods import plan_pods

        placement = placement_of(run)
        with task_errors():
            plan = plan_pods(
                placement,
                self.catalog,
                self.setup["nodes"],
                tasks_per_pod=self.setup["tasks_per_pod"],
                max_rows=settings.max_map_length(),
                fallback=self.setup["fallback"],
                unbrought=unbrought(placement, planned()),
            )
        parts = {"stage": plan.stages, "stage_in": plan.stage_in, "stage_out": plan.stage_out}
        return [with_copy_command(row, self.setup["copy_command"]) for row in parts[part][stage]]

    def helpers(self, answer_s: float | None = None) -> HelperPods:
        """Return what runs pods for the task that asks; they end with it."""
        found = HelperPods(self.operator, self.context, answer_s)
        self.operator.helpers = found
        return found


def _reason(end: PodEnd, timeout_s: float, *, several: bool) -> str | None:
    """Return why a tier cannot be used, by how a pod ended that tried it.

    Raises
    ------
    AirflowException
        When the pod ended for another reason than the tier; the next try may tell.
    """
    where = f" on node {end.node}" if several else ""
    match end.kind:
        case "done":
            return None
        case "silent":
            return f"it did not take and give back a small file within {timeout_s:g} s{where}"
        case "unmounted":
            return f"it is down ({end.said}){where}"
        case "failed":
            return f"{end.said}{where}"
    raise AirflowException(f"The pod that tries the tier on node {end.node} has failed: {end.said}")
