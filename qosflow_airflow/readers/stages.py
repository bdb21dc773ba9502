"""What the workflow formats share: predecessors, patterns, levels from edges, and lines in errors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from qosflow_airflow.core.workflow import Stage, Workflow
from qosflow_airflow.exceptions import QoSFlowError, WorkflowError
from qosflow_airflow.readers.document import Node

MAX_LEVEL = 1_000_000
MAX_NAME_LENGTH = 200


def patterns(node: Node, stage: str) -> tuple[str, ...]:
    """Return a list of regular expressions, each of which compiles."""
    return tuple(_pattern(item, stage) for item in node.sequence())


def _pattern(node: Node, stage: str) -> str:
    text = node.text()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a set that a later Python may read otherwise is fine here
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise node.fail(
            f"is {text!r}, not a regular expression: {error}", "Correct it; write \\. for a dot.", stage=stage
        ) from None
    return text


def predecessors(node: Node, stage: str, *, strict: bool) -> dict[str, tuple[str, ...]]:
    """Return what a stage reads: a list of names, or a mapping from names to ``{inputs: [pattern, ...]}``.

    Keys beside ``inputs`` are an error where ``strict``, and ignored where not.
    """
    if isinstance(node.content, tuple):
        found: dict[str, tuple[str, ...]] = {}
        for item in node.content:
            if item.label() in found:
                raise item.fail(f"names {item.label()!r} a second time", "Remove it.", stage=stage)
            found[item.label()] = ()
        return found
    return {name: _inputs(value, stage, strict=strict) for name, value in node.mapping().items()}


def _inputs(node: Node, stage: str, *, strict: bool) -> tuple[str, ...]:
    if node.content is None:
        return ()
    fields = node.fields((), ("inputs",)) if strict else node.mapping()
    return patterns(fields["inputs"], stage) if "inputs" in fields else ()


def levels(
    document: Node, given: Mapping[str, int | None], reads: Mapping[str, Collection[str]]
) -> dict[str, int]:
    """Return the level of each stage: as given, or where none is given the longest path to it, from 1.

    ``given`` holds the level that each stage declares, ``reads`` its predecessors. Levels that are given for
    some stages only are an error: a derived one could contradict them in ways that nobody meant.
    """
    declared = {name: level for name, level in given.items() if level is not None}
    if declared and len(declared) < len(given):
        without = ", ".join(name for name in given if name not in declared)
        raise document.fail(
            f"gives levels to some stages but not to {without}", "Give all stages a level, or none."
        )
    order = _sorted(document, reads)
    if declared:
        return declared
    found: dict[str, int] = {}
    for name in order:
        found[name] = 1 + max((found[p] for p in reads.get(name, ()) if p in given), default=0)
    return found


def _sorted(document: Node, reads: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    try:
        return tuple(TopologicalSorter(reads).static_order())
    except CycleError as error:
        cycle = [str(name) for name in error.args[1]]
        node = document.mapping().get(cycle[0], document)
        raise node.fail(
            f"is part of a cycle: {' -> '.join(cycle)}", "Remove an edge.", stage=cycle[0]
        ) from None


def build_workflow(document: Node, name: str, description: str, stages: Sequence[Stage]) -> Workflow:
    """Return the workflow; what is wrong with it gets its line in ``document``, the mapping of stages."""
    for stage, node in document.mapping().items():
        if stage != stage.strip() or not stage.isprintable() or len(stage) > MAX_NAME_LENGTH:
            message = f"{stage!r} cannot be the name of a stage"
            cure = f"Use at most {MAX_NAME_LENGTH} characters that print, without blanks around them."
            raise document.origin.error(message, source=document.origin.source, line=node.line, cure=cure)
    try:
        return Workflow(name, tuple(stages), description)
    except WorkflowError as error:
        raise located(error, document, error.stage) from None


def located(error: QoSFlowError, document: Node, name: str | None = None) -> QoSFlowError:
    """Return ``error`` with the document's file, and the line of its key ``name`` where it has one."""
    node = document
    if name is not None and isinstance(document.content, Mapping):
        node = document.content.get(name, document)
    error.source = document.origin.source
    error.line = node.line
    return error
