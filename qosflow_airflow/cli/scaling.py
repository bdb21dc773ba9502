"""``qosflow scaling``: how a workflow's volumes grow, from a few of its runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.text import as_json, progress
from qosflow_airflow.exceptions import MeasurementError

if TYPE_CHECKING:
    from qosflow_airflow.core.scaling import ScalingRules
    from qosflow_airflow.core.scaling_inference import Run

AXES = ("data", "tasks")


def add_scaling(commands: Any) -> None:
    """Add ``scaling``."""
    scaling = commands.add_parser("scaling", help="how a workflow's volumes grow with data and tasks")
    actions = scaling.add_subparsers(required=True, metavar="ACTION")
    infer = actions.add_parser("infer", help="infer rules from runs", description=_infer.__doc__)
    infer.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="observations of a run with its scale, as in run2.csv@data=2,tasks=1 (1 where left out)",
    )
    infer.add_argument("--output", type=Path, required=True, metavar="YAML", help="write the rules here")
    infer.add_argument("--format", choices=("text", "json"), default="text")
    infer.set_defaults(run=_infer)


def _infer(options: argparse.Namespace) -> int:
    """Find how tasks, volumes and accesses of each stage grow, from three runs or more, and write it down.

    Scales are relative: the run that later builds start from is `data=1,tasks=1`. Rules of a person (those
    without `inferred: true`) in the file that is written stay as they are.
    """
    from qosflow_airflow.core.scaling_inference import infer_rules, sentence
    from qosflow_airflow.readers.scaling_yaml import read_scaling_yaml, scaling_yaml

    rules = infer_rules([parse_run(text) for text in options.runs])
    if options.output.exists():
        rules = _kept(read_scaling_yaml(options.output), rules)
    options.output.write_text(scaling_yaml(rules), encoding="utf-8")
    if options.format == "json":
        print(as_json([_figures(*key, rules) for key in rules.rules]))
    else:
        print("\n".join(sentence(*key, rule) for key, rule in rules.rules.items()))
    progress(f"wrote {options.output}")
    return OK


def parse_run(text: str) -> Run:
    """Return the run that ``PATH@data=2,tasks=1`` names; a scale that is left out is 1."""
    from qosflow_airflow.core.scaling import DataScale
    from qosflow_airflow.core.scaling_inference import Run
    from qosflow_airflow.readers.observations_csv import read_observations_csv

    path, _, given = text.rpartition("@") if "=" in text.rpartition("@")[2] else (text, "", "")
    scale: dict[str, float] = {}
    for part in filter(None, given.split(",")):
        name, _, value = part.partition("=")
        try:
            if name.strip() not in AXES or name.strip() in scale:
                raise ValueError
            scale[name.strip()] = float(value)
        except ValueError:
            raise MeasurementError(
                f"{part!r} is not a scale of {path}", cure="Write PATH@data=2,tasks=1, each at most once."
            ) from None
    return Run(DataScale(**scale), read_observations_csv(path))


def _kept(written: ScalingRules, inferred: ScalingRules) -> ScalingRules:
    """Return the inferred rules with those of a person in their place, and say which."""
    from dataclasses import replace

    own = {key: rule for key, rule in written.rules.items() if not rule.inferred}
    for stage, quantity in own:
        progress(f"{stage}: {quantity} stays as a person wrote it")
    return replace(inferred, rules={**inferred.rules, **own})


def _figures(stage: str, quantity: str, rules: ScalingRules) -> dict[str, Any]:
    from math import isnan

    rule = rules.rules[stage, quantity]
    return {
        "stage": stage,
        "quantity": quantity,
        "kind": rule.kind,
        "data": rule.data,
        "tasks": rule.tasks,
        "inferred": rule.inferred,
        "spread": None if isnan(rule.spread) else rule.spread,
        "error": None if isnan(rule.error) else rule.error,
        "runs": rule.runs,
    }
