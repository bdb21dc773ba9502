from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import DAG

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import StoreUnavailableError, WorkflowError
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.operators.recommend import QoSRecommendationLink, QoSRecommendOperator
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import FakeTaskInstance, KeptStore, publish_model, stage_times

pytestmark = pytest.mark.airflow


def recommend(ti: FakeTaskInstance, params: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """Render and run the operator as Airflow does, and keep what it returns."""
    operator = QoSRecommendOperator(**{"task_id": "recommend", "workflow": "two", **request})
    context: Any = {"ti": ti, "params": params or {}}
    operator.render_template_fields(context)
    summary = operator.execute(context)
    ti.xcom_push("return_value", summary)
    return summary


def test_the_best_configuration_is_recommended_and_kept(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    summary = recommend(ti, deadline_s=100)
    assert summary["status"] == "feasible"
    assert summary["configuration"] == {"nodes": 2, "tiers": {"split": "ram", "merge": "ram"}}
    assert summary["model_id"] == published.model_id
    assert summary["tasks"] == {"split": 3, "merge": 1}
    assert summary["binding"] == []
    record = store.recommendation(summary["recommendation_id"])
    assert record.status == "feasible"
    assert record.request["deadline_s"] == 100.0
    assert (record.dag_id, record.run_id, record.task_id, record.try_number) == ("dag", "run", "recommend", 1)
    assert record.answer["makespan_s"] == summary["makespan_s"]
    json.dumps(summary, allow_nan=False)


def test_rows_name_folders_of_the_chosen_tiers_and_of_this_run(
    ti: FakeTaskInstance, published: ModelVersion, mounts: dict[str, str]
) -> None:
    summary = recommend(ti, max_nodes=1)
    run = summary["recommendation_id"]
    rows = ti.xcom["rows"]["split"]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert rows[0]["env"]["QOSFLOW_COUNT"] == "3"
    assert rows[0]["output"] == f"{mounts['ram']}/{run}/output/split"
    assert ti.xcom["rows"]["stage_in.split"] == [
        {
            "stage": "split",
            "data_of": INITIAL_DATA,
            "source_tier": "disk",
            "tier": "ram",
            "source": f"{mounts['disk']}/initial_data",
            "destination": rows[0]["inputs"][INITIAL_DATA],
            "patterns": [r"part\d\.txt"],
            "records": f"{mounts['disk']}/{run}/records",
        }
    ]
    # On one node, what one stage wrote in memory is there for the next.
    assert ti.xcom["rows"]["stage_in.merge"] == []
    assert ti.xcom["rows"]["stage_out.split"] == []
    (out,) = ti.xcom["rows"]["stage_out.merge"]
    assert out["source"] == ti.xcom["rows"]["merge"][0]["output"]
    assert out["destination"].startswith(f"{mounts['disk']}/{run}/")
    assert out["patterns"] == [r"all\.txt"]
    assert summary["records"] == f"{mounts['disk']}/{run}/records"
    outputs = [ti.xcom["rows"][stage][0]["output"] for stage in ("split", "merge")]
    assert summary["temporary"] == [rows[0]["inputs"][INITIAL_DATA], *outputs]


def test_initial_data_may_lie_elsewhere(ti: FakeTaskInstance, published: ModelVersion) -> None:
    recommend(ti, initial_data="{{ params.data }}", params={"data": "/elsewhere"}, max_nodes=1)
    assert ti.xcom["rows"]["stage_in.split"][0]["source"] == "/elsewhere"


def test_form_values_arrive_as_they_are(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    params = {
        "deadline_s": 12.5,
        "max_nodes": None,
        "allow": ["disk", "ram"],
        "pin": {"merge": "disk"},
        "exclude": "",
        "objective": "balanced",
        "max_node_hours": "1.5",
    }
    summary = recommend(ti, params, **{name: f"{{{{ params.{name} }}}}" for name in params})
    assert store.recommendation(summary["recommendation_id"]).request == {
        "deadline_s": 12.5,
        "max_nodes": None,
        "allow": ["disk", "ram"],
        "exclude": [],
        "pin": {"merge": "disk"},
        "objective": "balanced",
        "confidence": None,
        "max_node_hours": 1.5,
        "max_cost": None,
    }
    assert summary["configuration"]["tiers"]["merge"] == "disk"


def test_the_log_shows_one_table(
    ti: FakeTaskInstance, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = recommend(ti, max_nodes=1)
    logged = capsys.readouterr().out
    assert summary["explanation"] in logged
    rows = [line.split()[:9] for line in logged.splitlines()]
    first = rows.index(["split", "3", "ram", "0.50", "1.00", "0.00", "1.00", "0.00", "critical"])
    assert rows[first + 1] == ["merge", "1", "ram", "0.00", "1.00", "0.00", "1.00", "0.50", "critical"]
    assert "disk +6.00" in next(line for line in logged.splitlines() if line.startswith("merge "))


def test_the_log_shows_what_the_answer_depends_on_and_its_trade_offs(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = recommend(ti)
    logged = capsys.readouterr().out
    answer = store.recommendation(summary["recommendation_id"]).answer
    assert "The same tiers on 1 node: 5.0 s, 1.5 s more." in logged
    assert all(words in logged for words in answer["sensitivity"]["words"])
    rows = [line.split() for line in logged.splitlines()]
    at = rows.index(["makespan", "s", "node-hours", "cost", "trade-off"])
    assert [row[0] for row in rows[at + 1 : at + 3]] == ["3.50", "5.00"]


def test_the_log_says_what_would_help_where_the_nearest_is_taken(
    ti: FakeTaskInstance, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = recommend(ti, deadline_s=0.1, on_infeasible="nearest")
    assert summary["status"] == "nearest"
    assert "What would help: a deadline of 3.5 s." in capsys.readouterr().out


def test_infeasible_fails_without_a_retry_and_is_kept(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    with pytest.raises(AirflowFailException, match=r"deadline_s = 0\.1"):
        recommend(ti, deadline_s=0.1)
    (record,) = store.recommendations()
    assert record.status == "infeasible"
    left = ti.xcom["return_value"]
    assert left["status"] == "infeasible"
    assert left["binding"] == ["deadline_s"]
    assert left["recommendation_id"] == record.recommendation_id
    assert set(ti.xcom) == {"return_value"}


def test_infeasible_skips_on_demand(ti: FakeTaskInstance, published: ModelVersion) -> None:
    with pytest.raises(AirflowSkipException, match="stands in the way"):
        recommend(ti, deadline_s=0.1, on_infeasible="skip")
    assert ti.xcom["return_value"]["status"] == "skipped"


def test_infeasible_takes_the_nearest_on_demand_and_says_so(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = recommend(ti, deadline_s=0.1, on_infeasible="nearest")
    assert summary["status"] == "nearest"
    assert summary["configuration"] == {"nodes": 2, "tiers": {"split": "ram", "merge": "ram"}}
    assert summary["binding"] == ["deadline_s"]
    assert store.recommendation(summary["recommendation_id"]).status == "infeasible"
    assert len(ti.xcom["rows"]["split"]) == 3
    warning = next(line for line in capsys.readouterr().out.splitlines() if "NOT MET" in line)
    assert "warning" in warning


@pytest.mark.parametrize("on_infeasible", ["fail", "nearest"])
def test_an_unmeasured_model_fails(
    ti: FakeTaskInstance, store: KeptStore, workflow: Workflow, catalog: TierCatalog, on_infeasible: str
) -> None:
    times = stage_times(workflow, catalog, 1)
    times.read.seconds[...] = np.nan
    times.read.provenance[...] = Provenance.UNKNOWN
    publish_model(store, workflow, catalog, {1: times})
    with pytest.raises(AirflowFailException, match="measurements it needs"):
        recommend(ti, on_infeasible=on_infeasible)
    assert ti.xcom["return_value"]["configuration"] is None


@pytest.mark.parametrize("deadline_s", [0, -1, "abc", "nan", "inf", True, [3]])
def test_a_deadline_that_is_none_fails_at_once(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion, deadline_s: Any
) -> None:
    with pytest.raises(AirflowFailException, match="deadline_s"):
        recommend(ti, {"deadline_s": deadline_s}, deadline_s="{{ params.deadline_s }}")
    assert store.recommendations() == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_nodes": 0}, "max_nodes"),
        ({"max_nodes": 1.5}, "max_nodes"),
        ({"allow": "tape"}, "unknown tier 'tape'"),
        ({"pin": {"sort": "disk"}}, "no stage 'sort'"),
        ({"objective": "beauty"}, "beauty"),
        ({"objective": "cost"}, "price"),
        ({"on_infeasible": "shrug"}, "on_infeasible"),
        ({"workflow": "three"}, "No workflow 'three'"),
        ({"max_model_age_s": "old"}, "max_model_age_s"),
    ],
)
def test_a_wrong_request_fails_at_once_and_says_what_is_wrong(
    ti: FakeTaskInstance, published: ModelVersion, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        recommend(ti, **wrong)


def test_a_workflow_without_a_model_fails_with_the_cure(ti: FakeTaskInstance, store: KeptStore) -> None:
    store.register_workflow("two", "/bundle")
    with pytest.raises(AirflowFailException, match=r"no model yet.*Run the pipeline"):
        recommend(ti)


def test_a_stale_model_fails(ti: FakeTaskInstance, published: ModelVersion) -> None:
    assert recommend(ti, max_model_age_s=3600)["status"] == "feasible"
    with pytest.raises(AirflowFailException, match=r"version 1 of the model.*Measure again"):
        recommend(ti, max_model_age_s=0)


def test_more_tasks_than_airflow_maps_fail_with_the_cure(
    ti: FakeTaskInstance, store: KeptStore, catalog: TierCatalog
) -> None:
    many = Workflow("many", (Stage("wide", 1, 1025, {INITIAL_DATA: ()}),))
    publish_model(store, many, catalog)
    with pytest.raises(AirflowFailException, match=r"1025 tasks.*max_map_length"):
        recommend(ti, workflow="many")


def test_airflow_s_own_limit_counts(
    ti: FakeTaskInstance, published: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    with pytest.raises(AirflowFailException, match="3 tasks"):
        recommend(ti)


def test_a_tier_without_a_mount_fails(ti: FakeTaskInstance, store: KeptStore, workflow: Workflow) -> None:
    publish_model(store, workflow, TierCatalog((StorageTier("disk", True),)))
    with pytest.raises(AirflowFailException, match=r"no mount.*tiers\.yaml"):
        recommend(ti)


def test_names_that_airflow_would_render_are_refused(
    ti: FakeTaskInstance, store: KeptStore, workflow: Workflow, mounts: dict[str, str]
) -> None:
    evil = "{{ conn.qosflow_default.password }}"
    publish_model(store, workflow, TierCatalog((StorageTier("disk", True, f"{mounts['disk']}/{evil}"),)))
    with pytest.raises(AirflowFailException, match="template"):
        recommend(ti)
    catalog = TierCatalog((StorageTier("disk", True, mounts["disk"]),))
    publish_model(store, Workflow("evil", (Stage(evil, 1, 1, {INITIAL_DATA: ()}),)), catalog)
    with pytest.raises(AirflowFailException, match=r"stage.*letters|template"):
        recommend(ti, workflow="evil")


def test_a_parameter_is_never_rendered_twice(ti: FakeTaskInstance, published: ModelVersion) -> None:
    with pytest.raises(AirflowFailException, match=r"\{\{ 6 \* 7 \}\}"):
        recommend(ti, {"name": "{{ 6 * 7 }}"}, workflow="{{ params.name }}")


def test_an_unreachable_store_is_tried_again(ti: FakeTaskInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: QoSFlowHook) -> None:
        raise StoreUnavailableError("The database cannot be reached.")

    monkeypatch.setattr(QoSFlowHook, "get_store", unreachable)
    with pytest.raises(AirflowException, match="cannot be reached") as failure:
        recommend(ti)
    assert not isinstance(failure.value, AirflowFailException)


def test_a_missing_connection_says_how_to_add_it(ti: FakeTaskInstance) -> None:
    with pytest.raises(AirflowException, match="AIRFLOW_CONN_NOWHERE="):
        recommend(ti, qosflow_conn_id="nowhere")


def test_each_part_of_a_stage_is_one_task_however_often_it_is_asked_for() -> None:
    with DAG("parts", schedule=None) as dag:
        operator = QoSRecommendOperator(task_id="recommend", workflow="two")
        for _ in range(2):
            operator.stage("split")
            operator.stage_in("split")
            operator.stage_out("split")
    assert sorted(dag.task_ids) == [
        "recommend",
        "recommend_split",
        "recommend_split_stage_in",
        "recommend_split_stage_out",
    ]
    assert operator.downstream_task_ids == set(dag.task_ids) - {"recommend"}


@pytest.mark.parametrize(
    "stage", ["", "a b", "return_value", "_link_x", "stage_in.a", "a/b", "{{ x }}", "x" * 300]
)
def test_a_stage_that_airflow_cannot_name_is_refused_when_the_dag_is_read(stage: str) -> None:
    with DAG("names", schedule=None):
        operator = QoSRecommendOperator(task_id="recommend", workflow="two")
        with pytest.raises(WorkflowError, match="name"):
            operator.stage(stage)


def test_the_link_leads_to_the_page_below_the_server_s_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    operator, key = QoSRecommendOperator(task_id="recommend", workflow="two"), object()
    monkeypatch.setattr(XCom, "get_value", lambda **_: {"recommendation_id": "abc"})
    link = QoSRecommendationLink()
    assert link.get_link(operator, ti_key=key) == "/qosflow/recommendations/abc"  # type: ignore[arg-type]
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://host/airflow/")
    assert link.get_link(operator, ti_key=key) == "/airflow/qosflow/recommendations/abc"  # type: ignore[arg-type]
    monkeypatch.setattr(XCom, "get_value", lambda **_: None)
    assert link.get_link(operator, ti_key=key) == ""  # type: ignore[arg-type]


def test_reading_a_dag_file_loads_no_heavy_library() -> None:
    modules = ["recommend", "stage", "copy", "compare", "clean", "build"]
    imports = "; ".join(f"import qosflow_airflow.operators.{name}" for name in modules)
    heavy = "{'numpy', 'pandas', 'scipy', 'sklearn', 'psycopg2', 'fastapi', 'kubernetes'}"
    # What Airflow itself has loaded costs nothing more.
    code = f"import sys, airflow.sdk; loaded = set(sys.modules); {imports}; "
    code += f"print({heavy} & (set(sys.modules) - loaded))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip().splitlines()[-1] == "set()"


RECOMMEND_AND_LIST = """
import sys
from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.placement import place
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible
from qosflow_airflow.operators import summary
from qosflow_airflow.operators.answer_table import answer_text
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.core.transfer import blank_tables
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow, stage_times

workflow, catalog = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
store = KeptStore()
times = stage_times(workflow, catalog, 1)
for name in blank_tables(1, 1, 1):
    getattr(times, name).log_sd[...] = 0.1
publish_model(store, workflow, catalog, {1: times})
for asked in ({}, {"deadline_s": 1e-9}, {"confidence": 0.9, "deadline_s": 60}, {"objective": "balanced"}):
    record, answer, loaded = answer_request(store, "two", QoSRequest.parse(asked))
    found = summary.described(record)
    if not isinstance(answer, Infeasible):
        place(workflow, catalog, answer.configuration, recommendation_id="1", initial_data=None)
        answer_text(record.answer, found, {"split": 3, "merge": 1})
print(asked and sorted({"pandas", "sklearn", "scipy", "matplotlib", "numpy.ma"} & set(sys.modules)))
"""


def test_recommending_loads_no_library_that_it_can_do_without() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", RECOMMEND_AND_LIST]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert printed.stdout.strip().splitlines()[-1] == "[]"


FIRST_ANSWER = """
import sys
from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.qos import QoSRequest
from tests.support.small_model import KeptStore, publish_model, small_catalog, small_workflow

store = KeptStore()
publish_model(store, small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"}))
assert answer_request(store, "two", QoSRequest(deadline_s=60.0))[0].status == "feasible"
core = ("branch_and_bound", "cluster_volumes", "infeasibility", "loosening", "obstacles", "pruning")
core += ("regions", "repairs", "replan", "rules")
learn = ("case_correction", "cases", "division", "drift_causes", "finished_run", "modelled_run", "teaching")
rare = [*(f"core.{name}" for name in core), *(f"learn.{name}" for name in learn), "run_records"]
print([name for name in rare if f"qosflow_airflow.{name}" in sys.modules])
"""


def test_a_first_feasible_answer_loads_nothing_that_only_others_need() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FIRST_ANSWER]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert printed.stdout.strip().splitlines()[-1] == "[]"


def test_numpy_starts_no_threads_in_a_task_unless_somebody_says_how_many() -> None:
    program = (
        "import os, sys\nfrom qosflow_airflow.operators.session import with_one_thread\n"
        "with with_one_thread():\n import numpy\n"
        "print(len(os.listdir('/proc/self/task')) > 1, os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    asked = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    several = (os.cpu_count() or 1) > 1
    for said, found in (({}, "False None"), ({"OPENBLAS_NUM_THREADS": "3"}, f"{several} 3")):
        command = [sys.executable, "-c", program]
        printed = subprocess.run(command, env=asked | said, capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == found


def test_the_garbage_collector_is_on_again_after_recommending_and_after_failing(
    ti: FakeTaskInstance, store: KeptStore, published: ModelVersion
) -> None:
    context: Any = {"ti": ti}
    assert gc.isenabled()
    QoSRecommendOperator(task_id="recommend", workflow="two").execute(context)
    assert gc.isenabled()
    with pytest.raises(AirflowFailException):
        QoSRecommendOperator(task_id="recommend", workflow="unknown").execute(context)
    assert gc.isenabled()
    gc.unfreeze()
