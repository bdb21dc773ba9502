"""The deadline of a Dag's form, armed by Airflow as it makes a run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dag(airflow_database: None) -> Any:
    """The genome Dag, as the scheduler has it."""
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    bag = BundleDagBag(str(ROOT / "dags" / "genome_local.py"), bundle_path=ROOT / "dags", bundle_name="dags")
    assert bag.import_errors == {}
    with create_session() as session:
        session.merge(DagBundleModel(name="dags"))
    sync_bag_to_db(bag, "dags", None)
    with create_session() as session:
        found = SerializedDagModel.get("genome_local", session=session)
        assert found is not None
        return found.dag


def armed_s(dag: Any, conf: dict[str, Any]) -> list[float]:
    """Return the deadlines of a new run, in seconds after it was queued."""
    from airflow._shared.timezones import timezone
    from airflow.models.deadline import Deadline
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        run = dag.create_dagrun(
            run_id=f"manual__{uuid4().hex}",
            run_after=timezone.utcnow(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            conf=conf,
            session=session,
        )
        session.flush()
        found = session.scalars(select(Deadline).where(Deadline.dagrun_id == run.id)).all()
        return [(deadline.deadline_time - run.queued_at) / timedelta(seconds=1) for deadline in found]


@pytest.mark.parametrize(
    ("conf", "deadline_s"), [({}, 300), ({"deadline_s": 44.5}, 44.5), ({"max_nodes": 2}, 300)]
)
def test_each_run_is_held_to_the_deadline_of_its_form(
    dag: Any, conf: dict[str, Any], deadline_s: float
) -> None:
    assert armed_s(dag, conf) == [pytest.approx(deadline_s, abs=1)]


def test_the_reference_is_found_again_through_the_plugin() -> None:
    from airflow.serialization.decoders import decode_deadline_alert
    from airflow.serialization.encoders import encode_deadline_alert

    from qosflow_airflow.operators.deadline import QoSParamDeadline, qos_deadline

    alert = qos_deadline(60, param="limit_s")
    found = decode_deadline_alert(encode_deadline_alert(alert)).reference.inner_ref
    assert isinstance(found, QoSParamDeadline)
    assert (found.param, found.default_s) == ("limit_s", 60)


@pytest.mark.parametrize("asked", [None, ""])
def test_a_run_without_a_deadline_is_not_watched(dag: Any, asked: object) -> None:
    from airflow.utils.session import create_session

    from qosflow_airflow.operators.deadline import QoSParamDeadline

    reference = QoSParamDeadline("deadline_s", asked)  # type: ignore[arg-type]
    with create_session() as session:
        assert reference._evaluate_with(session=session, dag_id="genome_local", run_id="none") is None


def test_a_missed_deadline_is_told_with_the_run_s_name(caplog: pytest.LogCaptureFixture) -> None:
    from qosflow_airflow.operators.deadline import warn_of_missed_deadline

    run = {"dag_id": "genome_local", "dag_run_id": "manual__1"}
    asyncio.run(warn_of_missed_deadline(context={"dag_run": run}))
    assert caplog.messages == ["The run manual__1 of genome_local has missed its deadline."]
