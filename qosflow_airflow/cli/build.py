"""``qosflow build``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_database, open_store
from qosflow_airflow.cli.text import progress


def add_build(commands: Any) -> None:
    """Add ``build``."""
    build = commands.add_parser("build", help="build a model from a bundle", description=_build.__doc__)
    build.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="folder with workflow, observations, rates, tiers"
    )
    build.add_argument("--scales", help="node counts, as in 2,5,10 (default: those of the observations)")
    build.add_argument(
        "--tiers", help="tiers to consider, shared ones first, as in beegfs,tmpfs,ssd (default: all)"
    )
    build.add_argument(
        "--rules", choices=("complete", "reference"), default="complete", help="what a run pays for"
    )
    build.add_argument(
        "--transfer-times", metavar="CSV", help="table of transfer times to use instead of rates"
    )
    build.add_argument(
        "--estimator",
        choices=("default", "spm"),
        default="default",
        help="how observations and rates become times: spm is the published way, to compare with",
    )
    build.add_argument(
        "--data-scale", metavar="K", help="so many times the observed data, by scaling.yaml (default: 1)"
    )
    build.add_argument(
        "--task-scale", metavar="K", help="so many times the observed tasks, by scaling.yaml (default: 1)"
    )
    build.add_argument(
        "--no-anchoring",
        dest="anchoring",
        action="store_false",
        help="leave out how long the traced tasks really read and wrote: times from rates alone",
    )
    build.add_argument("--regions", metavar="N", help="so many regions at each scale (default: the knee)")
    build.add_argument("--name", help="name of the workflow (default: the bundle's)")
    target = build.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", type=Path, metavar="DIR", help="write the model to this folder")
    target.add_argument("--store", action="store_true", help="publish the model to the database")
    add_database(build)
    build.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> int:
    """Read a bundle, evaluate every configuration at every scale, find regions, and keep the model."""
    from qosflow_airflow import pipeline
    from qosflow_airflow.core.build_options import BuildOptions

    asked = (
        *("scales", "tiers", "rules", "transfer_times", "name", "estimator"),
        *("data_scale", "task_scale", "anchoring", "regions"),
    )
    build_options = BuildOptions.parse({name: getattr(options, name) for name in asked})
    if options.store:
        with open_store(options) as store:
            published = pipeline.run(store, options.bundle, build_options, progress)
        print(f"{published['workflow']} version {published['version']}: model {published['model_id']}")
        return OK
    pipeline.build_folder(options.bundle, build_options, options.output, progress)
    print(f"wrote {options.output}")
    return OK
