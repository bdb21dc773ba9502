"""``workflow.yaml``: the DAG template as people write it."""

from __future__ import annotations

from pathlib import Path

from qosflow_airflow.core.workflow import MAX_TASKS, Stage, Workflow
from qosflow_airflow.exceptions import WorkflowError
from qosflow_airflow.readers import stages
from qosflow_airflow.readers.document import MAX_DOCUMENT_BYTES, Node, Origin
from qosflow_airflow.readers.document_yaml import parse_yaml
from qosflow_airflow.readers.files import SourceFile, read_file


def read_workflow_yaml(file: str | Path | SourceFile) -> Workflow:
    r"""Read the template.

    ::

        name: genome
        description: one line            # optional
        stages:
          individuals:
            tasks: 10                    # instances
            level: 1                     # optional, from 1: given for all stages or for none
            predecessors:                # a list of names, or names with the patterns of the files read
              initial_data: {inputs: ["ALL\\.chr.*\\.vcf"]}
            outputs: ["chr.*\\.tar\\.gz"]
            final: false                 # optional: true where outputs are kept although stages read them

    Levels that are absent are derived from the edges: the longest path to the stage, from 1.

    Raises
    ------
    BundleError
        When the file cannot be read or is not YAML.
    WorkflowError
        When a key is unknown, a stage is declared twice or wrongly, or the stages are not a DAG.
    """
    source = read_file(file, limit_bytes=MAX_DOCUMENT_BYTES)
    document = parse_yaml(source, Origin(source.name, WorkflowError))
    top = document.fields(("name", "stages"), ("description",))
    described = top.get("description")
    description = "" if described is None or described.content is None else described.text()
    return stages.build_workflow(top["stages"], top["name"].text(), description, _stages(top["stages"]))


def _stages(node: Node) -> list[Stage]:
    optional = ("level", "predecessors", "outputs", "final")
    declared = {name: value.fields(("tasks",), optional) for name, value in node.mapping().items()}
    reads = {
        name: stages.predecessors(fields["predecessors"], name, strict=True)
        if "predecessors" in fields
        else {}
        for name, fields in declared.items()
    }
    given = {
        name: fields["level"].whole(1, stages.MAX_LEVEL) if "level" in fields else None
        for name, fields in declared.items()
    }
    levels = stages.levels(node, given, reads)
    return [
        Stage(
            name=name,
            level=levels[name],
            tasks=fields["tasks"].whole(1, MAX_TASKS),
            predecessors=reads[name],
            outputs=stages.patterns(fields["outputs"], name) if "outputs" in fields else (),
            final=fields["final"].flag() if "final" in fields else False,
        )
        for name, fields in declared.items()
    ]
