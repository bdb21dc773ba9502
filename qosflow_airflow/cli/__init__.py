"""The ``qosflow`` command: the pipeline, recommendations and the database without Airflow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qosflow_airflow import __version__
from qosflow_airflow.cli import (
    ask,
    build,
    database,
    evaluate,
    explain,
    figures,
    import_traces,
    profile,
    report,
    scaling,
    validate,
)
from qosflow_airflow.cli.exit_codes import BAD_INPUT, INFEASIBLE, OK
from qosflow_airflow.exceptions import QoSFlowError

__all__ = ["BAD_INPUT", "INFEASIBLE", "OK", "main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    code = OK
    try:
        code = options.run(options)
        # A pipe whose reader has gone away must break here, not when the interpreter ends.
        sys.stdout.flush()
    except QoSFlowError as error:
        print(f"qosflow: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="qosflow", description=__doc__)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    build.add_build(commands)
    ask.add_recommend(commands)
    explain.add_explain(commands)
    evaluate.add_evaluate(commands)
    validate.add_validate(commands)
    figures.add_figures(commands)
    report.add_report(commands)
    report.add_replay(commands)
    database.add_models(commands)
    database.add_db(commands)
    profile.add_profile(commands)
    scaling.add_scaling(commands)
    import_traces.add_import(commands)
    return top
