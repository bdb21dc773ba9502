"""A small model with known times, a store that stays open, and what operators use of a task instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.store.base import ModelVersion, Store
from qosflow_airflow.store.memory import MemoryStore


class KeptStore(MemoryStore):
    """Stays open when a task closes it, so that a test can look into it."""

    def close(self) -> None:
        pass


@dataclass
class FakeTaskInstance:
    """Who a task instance is, and XCom."""

    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "recommend"
    try_number: int = 1
    xcom: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        # Airflow keeps XCom as JSON: what is none, or holds NaN, fails the task.
        self.xcom[key] = json.loads(json.dumps(value, allow_nan=False))

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.xcom.get(key)


def small_workflow() -> Workflow:
    """Three tasks read the initial data, one task reads what they write."""
    return Workflow(
        "two",
        (
            Stage("split", 1, 3, {INITIAL_DATA: (r"part\d\.txt",)}, (r"piece\d\.txt",)),
            Stage("merge", 2, 1, {"split": (r"piece\d\.txt",)}, (r"all\.txt",)),
        ),
    )


def small_catalog(mounts: Mapping[str, str]) -> TierCatalog:
    """A shared tier ``disk``, a local tier ``ram``."""
    return TierCatalog(
        (StorageTier("disk", True, mounts["disk"]), StorageTier("ram", False, mounts["ram"])), "disk"
    )


def stage_times(workflow: Workflow, catalog: TierCatalog, nodes: int) -> StageTimes:
    """Reads and writes of 4 s on the first tier and 1 s on others, divided by the nodes; copies of 0.5 s."""
    tables = blank_tables(len(workflow.stages), len(catalog.tiers), len(workflow.edges))
    for name, table in tables.items():
        table.seconds[...] = 0.5 if name.startswith("stage_") else 0.0
        table.provenance[...] = Provenance.MEASURED
    for name in ("read", "write"):
        tables[name].seconds[:, 0] = 4.0 / nodes
        tables[name].seconds[:, 1:] = 1.0 / nodes
    return StageTimes(nodes, workflow.stage_names, catalog.names, workflow.edges, **tables)


def publish_model(
    store: Store, workflow: Workflow, catalog: TierCatalog, times: Mapping[int, StageTimes] | None = None
) -> ModelVersion:
    """Publish a model of 1 and 2 nodes, or of the given times."""
    found = times or {nodes: stage_times(workflow, catalog, nodes) for nodes in (1, 2)}
    scales = tuple(ScaleModel(nodes, seconds) for nodes, seconds in found.items())
    model = Model(workflow, catalog, COMPLETE, scales)
    store.register_workflow(workflow.name, "/bundle")
    build_id = store.create_build(workflow.name, {}, {})
    store.put_part(build_id, "model", None, json.dumps(model.to_json()).encode())
    store.put_part(build_id, "regions", None, json.dumps(model.regions_to_json()).encode())
    summary = {"rules": "complete", "scales": list(found), "configurations": {str(n): 4 for n in found}}
    return store.publish(build_id, summary, [("model", None), ("regions", None)], qosflow_version="test")
