"""An Airflow of a benchmark's own: databases, a web server that tasks report to, and tasks run one by one.

Nothing schedules: the benchmark says which task runs when, so that two tasks can be run in turns.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask
    from airflow_services import AirflowServices
    from processes import ManagedProcess

ROOT = Path(__file__).resolve().parents[1]

# The bring-up of setup.sh serves here too; its modules are a program's, not a package's.
sys.path.insert(0, str(ROOT / "scripts"))


@dataclass(frozen=True)
class OwnAirflow:
    """Where Dag files go, the store's URL, and the environment of everything that belongs to it."""

    dags: Path
    store_url: str
    environment: Mapping[str, str]

    def register_dags(self) -> None:
        """Read the Dag files, in a process of its own: an executor's workers never read them beforehand."""
        program = str(Path(sys.executable).with_name("airflow"))
        subprocess.run(
            [program, "dags", "reserialize"], env=dict(self.environment), check=True, capture_output=True
        )

    def workload(self, dag_id: str, task_id: str, conf: Mapping[str, Any]) -> ExecuteTask:
        """Return a task of a new run of a Dag, as an executor gets it."""
        from airflow._shared.timezones import timezone
        from airflow.executors.base_executor import BaseExecutor
        from airflow.executors.workloads import ExecuteTask
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState, TaskInstanceState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        now = timezone.utcnow()
        with create_session() as session:
            model = SerializedDagModel.get(dag_id, session=session)
            if model is None:
                raise SystemExit(f"the Dag {dag_id} is not registered")
            run = model.dag.create_dagrun(
                run_id=f"manual__{uuid.uuid4().hex}",
                run_after=now,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                start_date=now,
                conf=dict(conf),
                session=session,
            )
            ti = run.get_task_instance(task_id, session=session)
            assert ti is not None
            ti.set_state(TaskInstanceState.QUEUED, session=session)
            session.flush()
            return ExecuteTask.make(ti, generator=BaseExecutor().jwt_generator)

    def end_s(self, ti_id: str) -> float:
        """Return when a task ended, in seconds since the epoch; one that failed ends the benchmark."""
        from airflow.models import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            ti = session.get(TaskInstance, ti_id)
            if ti is None or ti.state != "success" or ti.end_date is None:
                logs = Path(self.environment["AIRFLOW_HOME"]) / "logs"
                said = [path.read_text(encoding="utf-8") for path in logs.rglob("*.log")]
                raise SystemExit(f"a task did not succeed; the last log:\n{said[-1] if said else ''}")
            return ti.end_date.timestamp()


@contextmanager
def own_airflow() -> Iterator[OwnAirflow]:
    """Start databases and web server in a temporary folder; stop and remove all of it afterwards.

    Variables of Airflow in this process's environment are replaced: import Airflow afterwards.
    """
    import bringup
    from airflow_services import COMMANDS, managed_services
    from databases import create_databases
    from processes import stop_processes
    from state import StateFolder, load_settings, open_state, save_settings

    # Not a private folder: root's database server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-benchmark-"))
    folder.chmod(0o755)
    # Python keeps what it compiles, as on any machine where nobody forbids it: else each task compiles all
    # that it imports.
    sys.dont_write_bytecode = False
    left_out = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environ["QOSFLOW_HOME"] = str(folder / "state")
    state: StateFolder = open_state(environ)
    server = next(one for one in managed_services(state) if one.name == "api-server")
    try:
        settings = load_settings(state)
        bringup.start_postgres(state, settings, environ)
        save_settings(state, settings)
        databases = bringup.locate_databases(settings)
        create_databases(databases, ())
        bringup.keep_login(state)
        services = bringup.describe_services(state, settings, environ)
        dags = folder / "dags"
        dags.mkdir()
        environment = {**environ, **services.environment, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
        os.environ.update(environment)
        bringup.migrate_airflow(services, settings, databases)
        bringup.migrate("QoSFlow's store", ("qosflow", "db", "upgrade"), services)
        program = str(Path(sys.executable).with_name("airflow"))
        server.start([program, *COMMANDS["api-server"]], environment)
        wait_for_web(services, server)
        yield OwnAirflow(dags, environment["QOSFLOW_DATABASE_URL"], environment)
    finally:
        stop_processes([server], grace_s=20)
        if found := bringup.find_server(state, environ):
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_web(services: AirflowServices, server: ManagedProcess) -> None:
    """Wait until the web server answers."""
    for _ in range(300):
        if services.health():
            return
        if not server.find():
            break
        time.sleep(1)
    raise SystemExit(f"The web server did not start:\n{server.log_tail()}")
