"""Finished tasks become observations: real hooks, real task instances and a real database, or none at all."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.listener import get_listener_manager
from airflow.utils.state import TaskInstanceState

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import StoreUnavailableError
from qosflow_airflow.listeners import feedback
from qosflow_airflow.operators.session import task_store
from qosflow_airflow.store.base import RecommendationRecord
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.spool import Drained, drain, spool, spooled
from tests.support.small_model import KeptStore, publish_model

pytestmark = pytest.mark.airflow

NOBODY = "postgresql://nobody@127.0.0.1:1/nowhere"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    name = f"feedback_{uuid4().hex}"
    server = psycopg2.connect(postgres_url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    server.close()
    found = postgres_url.removesuffix("postgres") + name
    upgrade(found)
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QOSFLOW_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "spool"


@pytest.fixture
def connected(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", url)
    with PostgresStore(url) as store:
        yield store


@pytest.fixture
def run(connected: PostgresStore, workflow: Workflow, catalog: TierCatalog) -> str:
    """A recommendation whose run the tasks of a test belong to."""
    model = publish_model(connected, workflow, catalog)
    record = RecommendationRecord(model.model_id, workflow.name, {}, {"makespan_s": 1.0}, "feasible")
    return connected.add_recommendation(record).recommendation_id


@pytest.fixture(autouse=True)
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[feedback.FeedbackListener]:
    """The listener alone, where Airflow's own manager calls it."""
    manager = get_listener_manager()
    own = feedback.FeedbackListener()
    kept = list(manager.pm.get_plugins())
    for other in kept:
        manager.pm.unregister(other)
    manager.pm.register(own)
    yield own
    manager.pm.unregister(own)
    for other in kept:
        manager.pm.register(other)


def variables(run: str, index: int = 0, **more: str) -> dict[str, str]:
    return {
        "QOSFLOW_RECOMMENDATION_ID": run,
        "QOSFLOW_STAGE": "split",
        "QOSFLOW_INDEX": str(index),
        "QOSFLOW_COUNT": "3",
        "QOSFLOW_TIER": "ram",
        **more,
    }


def instance(task: Any, map_index: int = 0, try_number: int = 1, **fields: Any) -> RuntimeTaskInstance:
    values = {
        "id": uuid4(),
        "task_id": task.task_id,
        "dag_id": "dag",
        "run_id": "run",
        "start_date": BEGAN,
        "end_date": BEGAN + timedelta(seconds=10),
        **fields,
    }
    return RuntimeTaskInstance.model_construct(
        task=task, map_index=map_index, try_number=try_number, **values
    )


def bash(env: dict[str, str]) -> BashOperator:
    return BashOperator(task_id="run", bash_command="true", env=env)


def succeeded(ti: Any, before: Any = TaskInstanceState.RUNNING) -> None:
    get_listener_manager().hook.on_task_instance_success(previous_state=before, task_instance=ti)


def failed(ti: Any, before: Any = TaskInstanceState.RUNNING) -> None:
    hook = get_listener_manager().hook.on_task_instance_failed
    hook(previous_state=before, task_instance=ti, error=ValueError("no"))


def test_a_finished_task_becomes_an_observation(run: str, connected: PostgresStore, tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    start_s = BEGAN.timestamp()
    files = [
        {"operation": "read", "bytes": 5},
        {"operation": "read", "bytes": 6},
        {"operation": "write", "bytes": 7},
    ]
    record = {"stage": "split", "index": 2, "start_s": start_s + 1, "end_s": start_s + 9, "files": files}
    (records / "task-split-00002.json").write_text(json.dumps(record))
    (records / "task-split-00012.json").write_text("{broken")
    env = variables(run, 2, QOSFLOW_RECORDS=str(records), QOSFLOW_READY_S=f"{start_s - 1.5:.3f}")
    succeeded(instance(bash(env), map_index=2, hostname="node-7"))
    kept = connected.observations(run)[0]
    assert connected.observations(run) == (
        Observation(
            run,
            "split",
            2,
            1,
            "success",
            count=3,
            start_s=start_s,
            end_s=start_s + 10,
            work_start_s=start_s + 1,
            work_end_s=start_s + 9,
            queue_s=1.5,
            read_bytes=11,
            write_bytes=7,
            tier="ram",
            host=kept.host,
            dag_id="dag",
            run_id="run",
            task_id="run",
            load=kept.load,
            load_source="host",
        ),
    )
    assert kept.load is not None
    assert kept.load >= 0


def test_the_version_of_the_dag_and_the_image_are_kept(run: str, connected: PostgresStore) -> None:
    task = bash(variables(run))
    version = uuid4()
    succeeded(instance(task, dag_version_id=version))
    succeeded(instance(task, 1, dag_version_id=version, bundle_instance=SimpleNamespace(version="3f2a")))
    pod = bash(variables(run))
    pod.image = "registry/app:1.2"  # as KubernetesPodOperator and DockerOperator have it
    succeeded(instance(pod, 2))
    found = connected.observations(run)
    assert [one.dag_version for one in found] == [str(version), "3f2a", None]
    assert [one.image for one in found] == [None, None, "registry/app:1.2"]
    # What ran in a container did not run here: this host's load says nothing of it.
    assert [one.load_source for one in found] == ["host", "host", None]


def test_a_record_of_an_earlier_try_is_not_this_one_s(
    run: str, connected: PostgresStore, tmp_path: Path
) -> None:
    start_s = BEGAN.timestamp()
    record = {"stage": "split", "index": 0, "start_s": start_s - 60, "end_s": start_s - 50, "files": []}
    (tmp_path / "task-split-00000.json").write_text(json.dumps(record))
    succeeded(instance(bash(variables(run, QOSFLOW_RECORDS=str(tmp_path))), try_number=2))
    (found,) = connected.observations(run)
    assert (found.work_start_s, found.span_s, found.teaches) == (None, (start_s, start_s + 10), False)


class PodVariable:
    def __init__(self, name: str, value: str | None) -> None:
        self.name, self.value = name, value


def test_rows_are_found_wherever_operators_hold_them(run: str, connected: PostgresStore) -> None:
    def nothing(**_: Any) -> None:
        pass

    env = variables(run)
    as_row = PythonOperator(
        task_id="a", python_callable=nothing, op_kwargs={"row": {"stage": "x", "env": env}}
    )
    as_arguments = PythonOperator(task_id="b", python_callable=nothing, op_kwargs={"stage": "x", "env": env})
    pod = BashOperator(task_id="c", bash_command="true")
    held = {**env, "QOSFLOW_INDEXES": "0 1 2", "QOSFLOW_NODE": "node-3"}
    pod.env_vars = [PodVariable(*one) for one in held.items()] + [PodVariable("OTHER", None)]
    for at, task in enumerate((as_row, as_arguments, pod)):
        succeeded(instance(task, map_index=at))
    found = connected.observations(run)
    assert [one.task_id for one in found] == ["a", "b", "c"]
    assert [one.tasks for one in found] == [1, 1, 3]
    assert found[2].host == "node-3"


def test_tasks_of_no_recommendation_cost_nothing(
    listener: feedback.FeedbackListener, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("qosflow_airflow.hooks.qosflow.QoSFlowHook.get_bounded_store", opened.append)
    for env in (None, {}, {"PATH": "/bin"}, {"QOSFLOW_STAGE": "split"}):
        succeeded(instance(bash(env)))  # type: ignore[arg-type]
    assert opened == []
    assert not home.exists()


def test_failed_and_retried_tries_are_kept_and_do_not_teach(run: str, connected: PostgresStore) -> None:
    task = bash(variables(run))
    failed(instance(task))
    succeeded(instance(task, try_number=2))
    assert [(one.try_number, one.state) for one in connected.observations(run)] == [
        (1, "failed"),
        (2, "success"),
    ]
    (stage,) = connected.runs("two", limit=1)[0].stages
    assert (stage.tasks, stage.others) == (0, 2)


def test_a_state_that_somebody_set_is_kept_and_does_not_teach(run: str, connected: PostgresStore) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import configure_mappers
    from sqlalchemy.orm.attributes import set_committed_value

    configure_mappers()
    row = TaskInstance.__mapper__.class_manager.new_instance()
    rendered = RenderedTaskInstanceFields.__mapper__.class_manager.new_instance()
    set_committed_value(rendered, "rendered_fields", {"bash_command": "true", "env": variables(run)})
    values = {"task_id": "run", "dag_id": "dag", "run_id": "run", "map_index": 0, "try_number": 1}
    values |= {
        "start_date": BEGAN,
        "end_date": BEGAN,
        "hostname": "web",
        "rendered_task_instance_fields": rendered,
    }
    for name, value in values.items():
        set_committed_value(row, name, value)
    succeeded(row, before=None)
    (found,) = connected.observations(run)
    assert (found.source, found.state, found.teaches) == ("user", "success", False)


def test_an_event_that_comes_twice_is_one_observation(run: str, connected: PostgresStore) -> None:
    for _ in range(3):
        succeeded(instance(bash(variables(run))))
    assert len(connected.observations(run)) == 1


def test_an_end_before_the_start_is_kept_as_it_came(run: str, connected: PostgresStore) -> None:
    succeeded(instance(bash(variables(run)), end_date=BEGAN - timedelta(seconds=5)))
    (stage,) = connected.runs("two", limit=1)[0].stages
    assert stage.skewed == 1


@pytest.mark.parametrize("wrong", [{"QOSFLOW_COUNT": "many"}, {"QOSFLOW_RECORDS": "/proc/self/mem"}])
def test_what_cannot_be_understood_is_logged_and_raises_nothing(
    run: str, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        succeeded(instance(bash(variables(run, **wrong))))


def test_a_hundred_tasks_without_a_database_lose_nothing(
    run: str, connected: PostgresStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", NOBODY)
    for index in range(100):
        # Each task is a process of its own: none knows what another one found.
        for own in get_listener_manager().pm.get_plugins():
            own._away_until = 0.0
        succeeded(instance(bash(variables(run, index)), map_index=index))
    assert len(spooled(home)) == 100
    assert connected.observations(run) == ()
    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", connected_url(connected))
    for own in get_listener_manager().pm.get_plugins():
        own._away_until = 0.0
    succeeded(instance(bash(variables(run, 100)), map_index=100))
    assert [one.map_index for one in connected.observations(run)] == list(range(101))
    assert spooled(home) == []


def connected_url(store: PostgresStore) -> str:
    found = store.database.parameters
    who = f"{found['user']}:{found.get('password', '')}"
    return f"postgresql://{who}@{found['host']}:{found['port']}/{found['dbname']}"


def test_any_task_that_opens_the_store_hands_in_what_waits(
    run: str, connected: PostgresStore, home: Path
) -> None:
    spool(home, [Observation(run, "split", at, 1, "success") for at in range(3)])
    with task_store() as store:
        assert len(store.observations(run)) == 3
    assert spooled(home) == []


def test_a_database_that_hangs_holds_a_task_up_for_seconds_only(
    run: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    released = threading.Event()

    def hang(*called_with: Any) -> None:
        asked.append(called_with)
        released.wait(120)

    monkeypatch.setattr("qosflow_airflow.hooks.qosflow.QoSFlowHook.get_bounded_store", hang)
    started = time.monotonic()
    succeeded(instance(bash(variables(run))))
    assert time.monotonic() - started < 60
    assert len(spooled(home)) == 1
    # The same process does not wait again.
    succeeded(instance(bash(variables(run)), map_index=1))
    assert len(asked) == 1
    assert len(spooled(home)) == 2
    released.set()


def test_several_may_spool_and_hand_in_at_once(run: str, connected: PostgresStore, home: Path) -> None:
    def one(index: int) -> None:
        spool(home, [Observation(run, "split", index, 1, "success")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(100)))
        drained = list(pool.map(lambda _: drain(connected, home, within_s=30), range(4)))
    assert len(connected.observations(run)) == 100
    assert spooled(home) == []
    assert not any(found.refused for found in drained)


def write(text: str) -> Callable[[Path], None]:
    return lambda folder: folder.joinpath("0-damaged.json").write_text(text) and None  # type: ignore[return-value]


@pytest.mark.parametrize(
    "damage",
    [
        write("{half"),
        write("[]"),
        write('{"stage": "split"}'),
        write(json.dumps(Observation(str(uuid4()), "split", 0, 1, "success").to_json())),
    ],
)
def test_a_file_that_cannot_be_kept_is_set_aside_and_holds_nothing_up(
    run: str, connected: PostgresStore, home: Path, damage: Callable[[Path], None]
) -> None:
    spool(home, [Observation(run, "split", 0, 1, "success")])
    damage(home)
    assert drain(connected, home) == Drained(kept=1, refused=1)
    assert len(connected.observations(run)) == 1
    assert [path.suffix for path in home.iterdir()] == [".refused"]
    assert drain(connected, home) == Drained()


def test_what_waits_waits_on_while_the_store_is_away(home: Path) -> None:
    spool(home, [Observation(str(uuid4()), "split", 0, 1, "success")])
    with PostgresStore(NOBODY) as away, pytest.raises(StoreUnavailableError):
        drain(away, home)
    assert len(spooled(home)) == 1


def test_a_full_disk_is_logged_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, store: KeptStore, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", NOBODY)
    monkeypatch.setattr("qosflow_airflow.store.spool.spool", full)
    with caplog.at_level(logging.WARNING):
        succeeded(instance(bash(variables(str(uuid4())))))
    assert "could not be kept" in caplog.text


def test_the_plugin_brings_the_listener() -> None:
    from qosflow_airflow.plugin import QoSFlowPlugin

    (own,) = QoSFlowPlugin.listeners
    assert isinstance(own, feedback.FeedbackListener)
