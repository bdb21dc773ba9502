"""``stages.json`` of the public QoSFlow artifact: the DAG template, a JSON mapping from stage names."""

from __future__ import annotations

from pathlib import Path

from qosflow_airflow.core.workflow import MAX_TASKS, Stage, Workflow
from qosflow_airflow.exceptions import WorkflowError
from qosflow_airflow.readers import stages
from qosflow_airflow.readers.document import MAX_DOCUMENT_BYTES, Node, Origin
from qosflow_airflow.readers.document_json import parse_json
from qosflow_airflow.readers.files import SourceFile, read_file


def read_stages_json(file: str | Path | SourceFile, name: str = "") -> Workflow:
    """Read the template; the format has no name for the workflow, which is that of the folder by default.

    Per stage: ``num_tasks``, ``stage_order`` (the level, kept as given: it may begin at 0; derived from the
    edges where no stage has one), ``predecessors`` (name to ``{inputs: [pattern, ...]}``) and ``outputs``.
    ``parallelism`` is checked and not used; other keys are left to other tools.

    Raises
    ------
    BundleError
        When the file cannot be read or is not JSON.
    WorkflowError
        When a stage is declared twice or wrongly, or the stages are not a DAG.
    """
    source = read_file(file, limit_bytes=MAX_DOCUMENT_BYTES)
    document = parse_json(source, Origin(source.name, WorkflowError))
    declared = document.mapping()
    reads = {stage: _predecessors(node, stage) for stage, node in declared.items()}
    levels = stages.levels(document, {s: _level(node) for s, node in declared.items()}, reads)
    found = [_stage(stage, node, levels[stage], reads[stage]) for stage, node in declared.items()]
    return stages.build_workflow(document, name or source.path.resolve().parent.name, "", found)


def _predecessors(node: Node, stage: str) -> dict[str, tuple[str, ...]]:
    given = node.mapping().get("predecessors")
    return {} if given is None else stages.predecessors(given, stage, strict=False)


def _level(node: Node) -> int | None:
    given = node.mapping().get("stage_order")
    return None if given is None else given.whole(0, stages.MAX_LEVEL)


def _stage(name: str, node: Node, level: int, reads: dict[str, tuple[str, ...]]) -> Stage:
    node.require(["num_tasks"])
    fields = node.mapping()
    if "parallelism" in fields:
        fields["parallelism"].whole(1, MAX_TASKS)
    return Stage(
        name=name,
        level=level,
        tasks=fields["num_tasks"].whole(1, MAX_TASKS),
        predecessors=reads,
        outputs=stages.patterns(fields["outputs"], name) if "outputs" in fields else (),
    )
