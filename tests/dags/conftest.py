"""A small installation: Airflow's database, a real QoSFlow database, and a bundle that was measured here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from qosflow_airflow.store import open_store
from qosflow_airflow.store.base import Store

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Installation:
    """Where bundles, tiers and the QoSFlow database of the tests are."""

    folder: Path
    url: str

    @property
    def bundle(self) -> Path:
        return self.folder / "bundles" / "genome"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def memory(self) -> Path:
        return self.folder / "memory"

    def store(self) -> Store:
        return open_store(self.url)


@pytest.fixture(scope="module")
def installation(
    postgres_url: str, airflow_database: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation of each module's own: no run of another teaches it, and Airflow finds no other."""
    import psycopg2

    from qosflow_airflow.store.migrate import upgrade

    name = f"dags_{uuid4().hex}"
    server = psycopg2.connect(postgres_url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    url = postgres_url.removesuffix("postgres") + name
    upgrade(url)
    made = Installation(tmp_path_factory.mktemp("installation"), url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", url)
        patch.setenv("AIRFLOW__QOSFLOW__BUNDLE_ROOTS", str(made.bundle.parent))
        prepare(made)
        yield made
    with server.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    server.close()


def prepare(made: Installation) -> None:
    program = ROOT / "examples" / "genome" / "prepare.py"
    command = [sys.executable, str(program), "--output", str(made.bundle), "--size", "tests"]
    command += ["--tier", f"disk={made.disk}", "--tier", f"tmpfs={made.memory}", "--budget-s", "2"]
    subprocess.run(command, check=True, capture_output=True)


RunDag = Callable[..., Any]


@pytest.fixture
def run_dag(installation: Installation) -> RunDag:
    """Run a Dag in this process, as ``airflow dags test`` does, and return the finished run."""
    from airflow.dag_processing.dagbag import DagBag

    def run(dag_id: str, **conf: Any) -> Any:
        bag = DagBag(str(ROOT / "dags"))
        assert bag.import_errors == {}
        dag = bag.dags[dag_id]
        # Airflow's own test runs cannot end a run that has a deadline; see tests/dags/test_deadline.py.
        dag.deadline = None
        return dag.test(run_conf=conf)

    return run


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program to run in place of the example's, which fails for one stage while a file says so."""
    path = tmp_path / "genome.py"
    path.write_text(
        "import os, pathlib, runpy, sys\n"
        "broken = pathlib.Path(__file__).with_name('broken')\n"
        "if broken.exists() and broken.read_text() == os.environ['QOSFLOW_STAGE']:\n"
        "    sys.exit('this stage is broken')\n"
        f"sys.path.insert(0, {str(ROOT / 'examples' / 'genome')!r})\n"
        "runpy.run_path(sys.path[0] + '/genome.py', run_name='__main__')\n"
    )
    monkeypatch.setenv("QOSFLOW_GENOME", str(path))
    return path
