"""``scaling.yaml``: how what a stage moves grows with the data and with the number of tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from qosflow_airflow.core.scaling import MAX_SCALE, QUANTITIES, ScalingRule, ScalingRules
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import MeasurementError
from qosflow_airflow.readers.document import MAX_DOCUMENT_BYTES, Node, Origin
from qosflow_airflow.readers.document_yaml import parse_yaml
from qosflow_airflow.readers.files import SourceFile, read_file

MAX_EXPONENT = 4.0
MAX_RUNS = 1_000_000
FIGURES = ("spread", "error", "runs")


def read_scaling_yaml(file: str | Path | SourceFile, workflow: Workflow | None = None) -> ScalingRules:
    """Read scaling rules.

    ::

        observed: {data: [1, 3], tasks: [1, 1]}   # scales that the rules come from, by default 1
        stages:
          individuals:
            tasks: {tasks: 1}                     # exponents; 0 where left out
            read_bytes: {data: 1, inferred: true, spread: 0.03, error: 0.02, runs: 4}

    A rule without ``inferred: true`` is a person's: a new inference keeps it.

    Raises
    ------
    BundleError
        When the file cannot be read or is not YAML.
    MeasurementError
        When a key is unknown, a value is of the wrong kind, or ``workflow`` lacks a stage.
    """
    source = read_file(file, limit_bytes=MAX_DOCUMENT_BYTES)
    document = parse_yaml(source, Origin(source.name, MeasurementError))
    top = document.fields(("stages",), ("observed",))
    observed = top["observed"].fields((), ("data", "tasks")) if "observed" in top else {}
    rules = {
        (stage, quantity): _rule(node)
        for stage, found in top["stages"].mapping().items()
        for quantity, node in _of_stage(stage, found, workflow).items()
    }
    return ScalingRules(rules, _range(observed.get("data")), _range(observed.get("tasks")))


def _of_stage(stage: str, node: Node, workflow: Workflow | None) -> Mapping[str, Node]:
    if workflow is not None and stage not in workflow.index:
        names = ", ".join(workflow.stage_names)
        raise node.fail(f"is not a stage of workflow {workflow.name!r}", f"Use one of {names}.")
    return node.fields((), QUANTITIES)


def _rule(node: Node) -> ScalingRule:
    fields = node.fields((), ("data", "tasks", "inferred", *FIGURES))
    exponents = {
        name: fields[name].number(-MAX_EXPONENT, MAX_EXPONENT) for name in ("data", "tasks") if name in fields
    }
    return ScalingRule(
        data=exponents.get("data", 0.0),
        tasks=exponents.get("tasks", 0.0),
        inferred=fields["inferred"].flag() if "inferred" in fields else False,
        spread=fields["spread"].number(0, math.inf) if "spread" in fields else math.nan,
        error=fields["error"].number(0, math.inf) if "error" in fields else math.nan,
        runs=fields["runs"].whole(0, MAX_RUNS) if "runs" in fields else 0,
    )


def _range(node: Node | None) -> tuple[float, float]:
    if node is None:
        return (1.0, 1.0)
    ends = [end.number(1 / MAX_SCALE, MAX_SCALE) for end in node.sequence()]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise node.fail("is not a range", "Give the smallest and the largest scale, as in [1, 3].")
    return (ends[0], ends[1])


def scaling_yaml(rules: ScalingRules) -> str:
    """Return rules as text that :func:`read_scaling_yaml` reads back."""
    observed = {"data": list(rules.data_range), "tasks": list(rules.task_range)}
    ranges = ", ".join(f"{name}: [{low!r}, {high!r}]" for name, (low, high) in observed.items())
    lines = [f"observed: {{{ranges}}}", "stages:"]
    stages = dict.fromkeys(stage for stage, _ in rules.rules)
    for stage in stages:
        # JSON text is YAML text, whatever the name holds.
        lines.append(f"  {json.dumps(stage)}:")
        lines += [
            f"    {quantity}: {{{_written(rule)}}}"
            for (owner, quantity), rule in rules.rules.items()
            if owner == stage
        ]
    return "\n".join(lines) + "\n"


def _written(rule: ScalingRule) -> str:
    parts = [f"data: {rule.data!r}", f"tasks: {rule.tasks!r}"]
    if rule.inferred:
        parts.append("inferred: true")
    parts += [f"{name}: {value:.6f}" for name in FIGURES[:2] if not math.isnan(value := getattr(rule, name))]
    return ", ".join([*parts, f"runs: {rule.runs}"] if rule.runs else parts)
