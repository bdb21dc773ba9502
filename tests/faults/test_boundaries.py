"""What stages tell each other when a run is planned again: parallel stages, cleared ones, runs begun anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import DAG

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.operators.copy import QoSStageInOperator, QoSStageOutOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from tests.support.small_model import KeptStore, publish_model

pytestmark = pytest.mark.airflow

STAGES = ("left", "right", "join")


@dataclass
class Told:
    """A task instance whose XCom is shared with those of other tasks."""

    task_id: str
    shared: dict[tuple[str, str], Any]
    dag_id: str = "dag"
    run_id: str = "run"
    try_number: int = 1

    def xcom_push(self, key: str, value: Any) -> None:
        self.shared[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.shared.get((task_ids, key))


@dataclass
class Parallel:
    """Two stages that run side by side, and one that reads what both write."""

    folder: Path
    xcom: dict[tuple[str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with DAG("dag", schedule=None):
            self.recommend = QoSRecommendOperator(
                task_id="recommend", workflow="join", max_nodes=1, fallback=True
            )
            self.ins = {
                stage: QoSStageInOperator(task_id=f"{stage}_in", recommend_task_id="recommend", stage=stage)
                for stage in STAGES
            }
            self.out = QoSStageOutOperator(task_id="join_out", recommend_task_id="recommend", stage="join")

    def run(self, operator: Any) -> Any:
        # As Airflow does when a try begins.
        for key in [key for key in self.xcom if key[0] == operator.task_id]:
            del self.xcom[key]
        context: Any = {"ti": Told(operator.task_id, self.xcom)}
        found = operator.execute(context)
        self.xcom[operator.task_id, "return_value"] = found
        return found

    def begin(self, stage: str) -> dict[str, Any]:
        """Begin a stage, let its task write, and return its row."""
        (row,) = self.run(self.ins[stage])
        Path(row["output"]).mkdir(parents=True, exist_ok=True)
        Path(row["output"], f"{stage}.txt").write_text(stage)
        found: dict[str, Any] = row
        return found

    def break_tier(self, name: str) -> None:
        (self.folder / name).rename(self.folder / f"{name} away")
        (self.folder / name).write_text("no folder")

    def mend_tier(self, name: str) -> None:
        (self.folder / name).unlink()
        (self.folder / f"{name} away").rename(self.folder / name)


@pytest.fixture
def parallel(store: KeptStore, tmp_path: Path, airflow_database: None) -> Parallel:
    workflow = Workflow(
        "join",
        (
            Stage("left", 1, 1, {INITIAL_DATA: (r".*",)}, (r"left\.txt",)),
            Stage("right", 1, 1, {INITIAL_DATA: (r".*",)}, (r"right\.txt",)),
            Stage("join", 2, 1, {"left": (r"left\.txt",), "right": (r"right\.txt",)}, (r"join\.txt",)),
        ),
    )
    for name in ("disk", "fast", "third"):
        (tmp_path / name).mkdir()
    (tmp_path / "disk" / "initial_data").mkdir()
    (tmp_path / "disk" / "initial_data" / "data.txt").write_text("data")
    tiers = [StorageTier(name, False, str(tmp_path / name)) for name in ("fast", "third")]
    catalog = TierCatalog((StorageTier("disk", True, str(tmp_path / "disk")), *tiers), "disk")
    publish_model(store, workflow, catalog)
    found = Parallel(tmp_path)
    found.xcom["recommend", "return_value"] = found.run(found.recommend)
    return found


def replans(store: KeptStore) -> list[dict[str, Any]]:
    return [
        record.answer["replans"] for record in reversed(store.recommendations()) if "replans" in record.answer
    ]


def test_a_stage_that_began_by_an_older_plan_is_read_where_it_wrote(
    parallel: Parallel, store: KeptStore
) -> None:
    right = parallel.begin("right")
    # As if both stages had begun at the same moment, and neither knew of the other.
    told = parallel.xcom.pop(("right_in", "begun"))
    parallel.break_tier("fast")
    left = parallel.begin("left")
    parallel.mend_tier("fast")
    parallel.xcom["right_in", "begun"] = told
    assert (right["tier"], left["tier"]) == ("fast", "third")
    assert replans(store)[0]["begun"] == {}
    join = parallel.begin("join")
    assert join["tier"] == "third"
    read = {name: Path(folder) for name, folder in join["inputs"].items()}
    assert {name: (folder / f"{name}.txt").read_text() for name, folder in read.items()} == {
        "left": "left",
        "right": "right",
    }
    assert len(replans(store)) == 1
    (moved,) = parallel.run(parallel.out)
    assert moved["files"] == 1
    (final,) = (parallel.folder / "disk").rglob("final/join/join.txt")
    assert final.read_text() == "join"


def test_a_stage_whose_tier_broke_while_it_ran_goes_elsewhere_once_it_is_cleared(
    parallel: Parallel, store: KeptStore
) -> None:
    assert {stage: parallel.begin(stage)["tier"] for stage in STAGES} == dict.fromkeys(STAGES, "fast")
    parallel.break_tier("fast")
    # What the others wrote is away: nothing else is taken for it, and the plan says where it lies.
    with pytest.raises(AirflowException, match="no such folder"):
        parallel.begin("join")
    assert replans(store)[0]["begun"] == {"left": "fast", "right": "fast"}
    # Cleared from the beginning, the run does without the tier; what comes after has not begun.
    assert parallel.begin("left")["tier"] == "third"
    assert replans(store)[-1]["begun"] == {"right": "fast"}
    assert parallel.begin("right")["tier"] == "third"
    join = parallel.begin("join")
    assert join["tier"] == "third"
    assert sorted(join["inputs"].values()) == sorted(
        str(parallel.folder / "third" / parallel.xcom["recommend", "rows"]["_plan"]["run"] / "output" / stage)
        for stage in ("left", "right")
    )


def test_what_an_earlier_recommendation_left_is_of_another_run(parallel: Parallel, store: KeptStore) -> None:
    parallel.break_tier("fast")
    assert parallel.begin("left")["tier"] == "third"
    parallel.mend_tier("fast")
    parallel.run(parallel.recommend)
    assert parallel.begin("right")["tier"] == "fast"
    assert parallel.begin("left")["tier"] == "fast"
    assert len(replans(store)) == 1


def test_all_stages_follow_the_newest_plan(parallel: Parallel, store: KeptStore) -> None:
    parallel.break_tier("fast")
    assert [parallel.begin(stage)["tier"] for stage in STAGES] == ["third"] * 3
    assert len(replans(store)) == 1
    parallel.break_tier("third")
    assert parallel.begin("right")["tier"] == "disk"
    first, second = replans(store)
    assert set(first["failed"]) == {"fast"}
    assert set(second["failed"]) == {"fast", "third"}
    assert second["begun"] == {"left": "third"}
