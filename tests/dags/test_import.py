from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))

LOAD_WITHOUT_NETWORK = """
import socket, sys

def refused(*_):
    raise OSError("a Dag file must not open connections")

socket.socket.connect = socket.socket.connect_ex = refused
import airflow.providers.standard.operators.bash, airflow.sdk
import airflow.providers.cncf.kubernetes.operators.pod
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
loaded = set(sys.modules)
bag = DagBag({folder!r})
for dag in bag.dags.values():
    DagSerialization.serialize_dag(dag)
heavy = {{"numpy", "pandas", "scipy", "sklearn", "psycopg2", "fastapi", "kubernetes"}}
print(repr((bag.import_errors, sorted(bag.dags), sorted(heavy & (set(sys.modules) - loaded)))))
"""


def load(name: str) -> Any:
    """Import a Dag file as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "dags" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dag_is_read_without_network_database_and_heavy_libraries(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'none' / 'airflow.db'}",
    }
    code = LOAD_WITHOUT_NETWORK.format(folder=str(ROOT / "dags"))
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    errors, dags, heavy = ast.literal_eval(printed.stdout.strip().splitlines()[-1])
    assert errors == {}
    assert dags == [path.stem for path in FILES]
    assert heavy == []


@pytest.mark.parametrize(("name", "first"), [("genome_local", "recommend"), ("genome_pods", "pods")])
def test_the_genome_dags_have_the_stages_of_their_workflow(name: str, first: str) -> None:
    module = load(name)
    workflow = read_workflow_yaml(ROOT / "examples" / "genome" / "workflow.yaml")
    assert {stage.name: list(stage.stage_predecessors) for stage in workflow.stages} == module.STAGES
    assert {producer for producer, consumer in workflow.edges if consumer == "final_data"} == module.FINAL
    for stage, predecessors in module.STAGES.items():
        stage_in, run = module.dag.get_task(f"{stage}.stage_in"), module.dag.get_task(f"{stage}.run")
        assert stage_in.upstream_task_ids == {first, *(f"{name}.run" for name in predecessors)}
        assert run.upstream_task_ids == {f"{stage}.stage_in"}
        last = "compare" if first == "recommend" else "records"
        ends = {last, f"{stage}.stage_out"} if stage in module.FINAL else {last}
        assert ends <= run.downstream_task_ids


@pytest.mark.parametrize("program", ["/opt/other/genome.py", "/opt/with space/genome.py"])
def test_the_genome_program_may_lie_elsewhere(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    monkeypatch.setenv("QOSFLOW_GENOME", program)
    command = load("genome_local").dag.get_task("sifting.run").partial_kwargs["bash_command"]
    assert shlex.split(command) == ["exec", sys.executable, program, "run"]


def test_the_forms_refuse_what_cannot_be_meant() -> None:
    from airflow.sdk.exceptions import ParamValidationError

    genome, pipeline = load("genome_local").dag, load("qosflow_pipeline").qosflow_pipeline()
    good = {"deadline_s": [1, 0.5], "max_nodes": [None, 1], "scales": [None, "2", "2, 5,10"]}
    wrong = {"deadline_s": [0, -1, "abc", None], "max_nodes": [0, 1.5, "2"], "rules": ["other", None]}
    wrong |= {"bundle": [None, ""], "scales": ["", "a", "2,,5", "2;5"]}
    params = {**genome.params.dump(), **pipeline.params.dump()}
    assert {*good, *wrong} <= set(params)
    for dag in (genome, pipeline):
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema["title"]
            assert param.description or param.schema["description_md"]
            # A section would be folded away in the form.
            assert "section" not in param.schema
            for value in good.get(name, []):
                assert param.resolve(value) == value
            for value in wrong.get(name, []):
                with pytest.raises(ParamValidationError):
                    param.resolve(value)
