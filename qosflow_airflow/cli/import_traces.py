"""``qosflow import``: bundles from what other tools traced."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.text import progress
from qosflow_airflow.exceptions import BundleError, MeasurementError

KIB = 1024
MAX_COUNT = 1_000_000
OBSERVATIONS = "observations.csv"
WORKFLOW = "workflow.yaml"


def add_import(commands: Any) -> None:
    """Add ``import``."""
    group = commands.add_parser("import", help="make files of a bundle from traces of other tools")
    formats = group.add_subparsers(required=True, metavar="FORMAT")

    darshan = formats.add_parser(
        "darshan", help="observations from Darshan logs", description=_import_darshan.__doc__
    )
    darshan.add_argument("log", nargs="+", metavar="[STAGE=]LOG", help="a log, and the stage that it is of")
    darshan.add_argument("--stage", metavar="NAME", help="stage of the logs that name none")
    darshan.add_argument(
        "--nodes", required=True, metavar="N", help="nodes of the run, which logs do not tell"
    )
    darshan.add_argument(
        "--tiers", type=Path, metavar="YAML", help="tiers.yaml, to say on which tier's mount a file lay"
    )
    _add_output(darshan)
    darshan.set_defaults(run=_import_darshan)

    wfformat = formats.add_parser(
        "wfformat",
        help="a workflow, and observations, from a WfFormat instance",
        description=_import_wfformat.__doc__,
    )
    wfformat.add_argument("file", type=Path, metavar="FILE", help="an instance in WfFormat 1.5 or 1.6 (JSON)")
    wfformat.add_argument(
        "--nodes", metavar="N", help="nodes of the run (default: the machines that tasks name)"
    )
    wfformat.add_argument(
        "--access-kib", default="1024", metavar="K", help="size of an access, KiB (default: %(default)s)"
    )
    _add_output(wfformat)
    wfformat.set_defaults(run=_import_wfformat)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the bundle")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def _import_darshan(options: argparse.Namespace) -> int:
    """Write `observations.csv` from Darshan logs: each rank of a log is a task of its stage.

    What the logs cannot tell is said on standard output; the workflow is yours to write.
    """
    from qosflow_airflow.readers.bundle_files import write_observations_csv
    from qosflow_airflow.readers.darshan_observations import read_darshan_observations
    from qosflow_airflow.readers.tiers_yaml import read_tiers_yaml

    nodes = _count("nodes", options.nodes)
    stages = stages_of_logs(options.log, options.stage)
    tiers = () if options.tiers is None else read_tiers_yaml(options.tiers).tiers
    (output,) = _outputs(options, OBSERVATIONS)
    mounts = {tier.name: tier.mount for tier in tiers}
    observations, report = read_darshan_observations(stages, nodes=nodes, mounts=mounts)
    _make_folder(options.output)
    write_observations_csv(observations, output)
    print(report.to_text())
    progress(f"wrote {output}")
    return OK


def _import_wfformat(options: argparse.Namespace) -> int:
    """Write `workflow.yaml`, and `observations.csv` where sizes of files are given, from an instance.

    What the instance cannot tell is said on standard output.
    """
    from qosflow_airflow.readers.bundle_files import write_observations_csv, write_workflow_yaml
    from qosflow_airflow.readers.wfformat import read_wfformat

    nodes = None if options.nodes is None else _count("nodes", options.nodes)
    access_bytes = KIB * _count("access size", options.access_kib)
    described, observed = _outputs(options, WORKFLOW, OBSERVATIONS)
    workflow, observations, report = read_wfformat(options.file, nodes=nodes, access_bytes=access_bytes)
    _make_folder(options.output)
    write_workflow_yaml(workflow, described)
    if observations is not None:
        write_observations_csv(observations, observed, workflow)
    else:
        observed.unlink(missing_ok=True)  # those of an earlier import do not belong to this workflow
    print(report.to_text())
    progress(f"wrote {described}" + (f" and {observed}" if observations is not None else ""))
    return OK


def stages_of_logs(given: Sequence[str], stage: str | None) -> dict[str, list[str]]:
    """Return the logs of each stage, from ``STAGE=LOG`` or ``LOG``; a file of that name is a log as it is.

    Raises
    ------
    MeasurementError
        When a log names no stage and none is given for the others.
    """
    stages: dict[str, list[str]] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = stage or "", text
        if not name.strip() or not path:
            raise MeasurementError("has no stage", source=text, cure="Give --stage NAME, or write NAME=LOG.")
        stages.setdefault(name.strip(), []).append(path)
    return stages


def _count(what: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_COUNT):
        raise MeasurementError(
            f"the {what} is {text!r}", cure=f"Give a whole number from 1 to {MAX_COUNT:,}."
        )
    return int(text)


def _outputs(options: argparse.Namespace, *names: str) -> list[Path]:
    """Return the files to write, refusing to replace what is there: people may have edited it."""
    paths = [options.output / name for name in names]
    for path in paths:
        if path.exists() and not options.force:
            raise BundleError("is there already", source=path, cure="Give another folder, or --force.")
    return paths


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"cannot be made: {error.strerror}", source=folder, cure="Give another folder."
        ) from None
