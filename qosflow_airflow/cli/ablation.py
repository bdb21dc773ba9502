"""``qosflow evaluate --ablation``: what each layer of a prediction is worth, on runs it has not seen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import open_store
from qosflow_airflow.cli.text import as_json, table
from qosflow_airflow.exceptions import RequestError

GENERATED_RUNS, GENERATED_SEED = 400, 4
HEADING = ("runs of", "layer", "runs", "median error", "mean error", "with interval", "coverage", "width")


def add_ablation(parser: argparse.ArgumentParser, source: argparse._MutuallyExclusiveGroup) -> None:
    """Add the options to ``qosflow evaluate``."""
    parser.add_argument(
        "--ablation",
        action="store_true",
        help="errors and intervals of each layer of a prediction, on finished runs of --workflow",
    )
    source.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="with --ablation: on the runs that `qosflow validate --output DIR` made",
    )
    source.add_argument(
        "--generated", action="store_true", help="with --ablation: on runs that are made up, for comparison"
    )


def is_ablation(options: argparse.Namespace) -> bool:
    """Return whether the table of layers is asked for.

    Raises
    ------
    RequestError
        When the options do not go together.
    """
    if (options.generated or options.validation is not None) and not options.ablation:
        raise RequestError("there are runs and no model to evaluate", cure="Add --ablation.")
    if options.ablation and options.model is not None:
        raise RequestError(
            "a folder holds no finished runs",
            cure="Give --workflow, whose runs the database holds, --validation or --generated.",
        )
    if options.ablation and options.plot is not None:
        raise RequestError("the table of layers has no plot", cure="Leave out --plot.")
    return bool(options.ablation)


def print_ablation(options: argparse.Namespace) -> int:
    """Print the table."""
    if options.generated:
        found = generated()
    else:
        found = _stored(options) if options.validation is None else _validated(options.validation)
    print(as_json(found) if options.format == "json" else "\n".join(ablation_lines(found)))
    return OK


def generated(runs: int = GENERATED_RUNS, seed: int = GENERATED_SEED) -> dict[str, Any]:
    """Return the table of made-up runs."""
    from qosflow_airflow.learn.ablation import ablation, foretell
    from qosflow_airflow.learn.case_generator import generated_runs

    made = f"{runs} generated runs of made-up platforms (seed {seed}); nothing here was measured"
    return {
        "source": made,
        "left_out": {},
        **ablation(foretell(generated_runs(runs, seed, arriving=True))),
    }


def _validated(folder: Path) -> dict[str, Any]:
    """Return the table of the runs of a validation, which are of one workflow on one machine."""
    from qosflow_airflow.learn.ablation import ablation, foretell
    from qosflow_airflow.learn.modelled_run import ModelledRun
    from qosflow_airflow.validation import NODES, validation_runs

    model, runs = validation_runs(folder)
    foretold = foretell(
        ModelledRun(
            run=f"run{at}",
            workflow=model.workflow.name,
            platform="+".join(model.catalog.names),
            makespans=model.makespans(NODES),
            layout=run.layout,
            observed_s=run.makespan_s,
            stage_s={
                stage: parts.read_s + parts.compute_s + parts.write_s for stage, parts in run.stages.items()
            },
        )
        for at, run in enumerate(runs, start=1)
    )
    return {"source": f"the runs of {model.workflow.name} in {folder}", "left_out": {}, **ablation(foretold)}


def _stored(options: argparse.Namespace) -> dict[str, Any]:
    from qosflow_airflow.learn.ablation import ablation, foretell
    from qosflow_airflow.past_runs import PastRuns
    from qosflow_airflow.similar_runs import known_runs
    from qosflow_airflow.store.base import MAX_ROWS

    with open_store(options) as store:
        store.workflow(options.workflow)
        known = known_runs(PastRuns(store), options.workflow, MAX_ROWS, MAX_ROWS)
    foretold = foretell(known.runs)
    own = [one for one in foretold if one.workflow == options.workflow]
    return {
        "source": f"finished runs of {options.workflow}; those of all workflows teach",
        "left_out": dict(known.left_out),
        **ablation(own),
    }


def ablation_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield where runs come from, the table and how to read it."""
    yield f"On {found['source']}: {found['runs']} runs, each foretold from those that had finished."
    if found["left_out"]:
        run, reason = next(iter(found["left_out"].items()))
        yield f"Left out: {len(found['left_out'])}, as {run} ({reason})."
    if not found["runs"]:
        yield "No run has both a prediction and a time: there is nothing to judge yet."
        return
    yield ""
    yield table([HEADING, *(_row(row) for row in found["rows"] if row["runs"])])
    yield ""
    layers = list(found["learning"][0]["median_error"])
    yield table([("earlier runs", "runs", *layers), *map(_step, found["learning"])])
    yield ""
    yield "earlier runs: of the same workflow on the same platform, at least; median errors."
    yield f"new: the first {found['new_runs']} runs of a workflow on a platform; known: those after them."
    yield "error: 10 % is 1.1 times too long or too short. width: upper over lower end of an interval."
    yield f"coverage: the share of runs inside their interval, stated as {found['stated_coverage']:.0%}."


def _step(row: Mapping[str, Any]) -> tuple[str, ...]:
    errors = (f"{error:.1%}" for error in row["median_error"].values())
    return (str(row["earlier"]), str(row["runs"]), *errors)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def share(name: str) -> str:
        return "" if row[name] is None else f"{row[name]:.1%}"

    width = "" if row["width"] is None else f"{row['width']:.2f}"
    counts = str(row["runs"]), str(row["with_interval"])
    errors = share("median_error"), share("mean_error")
    return (row["runs_of"], row["layer"], counts[0], *errors, counts[1], share("coverage"), width)
