"""``qosflow figures``: what a model holds, as pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_database, open_model
from qosflow_airflow.cli.text import as_json, progress
from qosflow_airflow.exceptions import QoSFlowError

if TYPE_CHECKING:
    from qosflow_airflow.core.model import Model

Figures = Iterator[tuple[str, dict[str, Any]]]
"""The name of each figure's file, without ending, and its data."""


def add_figures(commands: Any) -> None:
    """Add ``figures``."""
    figures = commands.add_parser("figures", help="draw what a model holds", description=_figures.__doc__)
    source = figures.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="folder that `qosflow build --output` wrote"
    )
    source.add_argument("--workflow", metavar="NAME", help="newest model of this workflow in the database")
    add_database(figures)
    figures.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the files")
    figures.add_argument(
        "--format",
        choices=("svg", "png", "json"),
        default="svg",
        help="json: the numbers instead of pictures (default: %(default)s)",
    )
    figures.add_argument(
        "--region",
        type=int,
        default=0,
        metavar="N",
        help="region of the signatures (default: 0, the fastest)",
    )
    figures.set_defaults(run=_figures)


def _figures(options: argparse.Namespace) -> int:
    """Draw four kinds of figures of a model, and name the files.

    Per scale `regions` (makespans by configuration and region), `costs` (what the makespans of a region
    consist of) and `signature` (the workflow with the tiers and the role of each stage in a region); and
    `totals` (makespans by node count, and what fixed policies choose first).
    """
    from qosflow_airflow.figures.files import check_matplotlib

    if options.format != "json":
        check_matplotlib()
    # All of them first: what is asked wrongly leaves no file behind.
    for name, data in list(figures_of(open_model(options), options.region)):
        path = options.output / f"{name}.{options.format}"
        _write(data, path)
        print(path)
    return OK


def figures_of(model: Model, region: int) -> Figures:
    """Yield the data of each figure; scales without measurements or regions are said and left out."""
    from qosflow_airflow.core.evaluation import evaluate_scale
    from qosflow_airflow.core.figure_data import region_costs, regions_scatter, signature, totals
    from qosflow_airflow.core.space_costs import scales_of

    scales: dict[str, Any] = {}
    for costs in scales_of(model):
        scale = f"{costs.nodes} node{'' if costs.nodes == 1 else 's'}"
        scales[str(costs.nodes)] = evaluate_scale(model, costs)
        if not costs.measured.any():
            progress(f"{scale}: none of {len(costs):,} configurations is measured: nothing to draw")
        elif model.scale(costs.nodes).regions is None:
            progress(f"{scale}: the model has no regions: neither regions, costs nor signature")
        else:
            yield f"regions-{costs.nodes}", regions_scatter(model, costs)
            yield f"costs-{costs.nodes}", region_costs(model, costs)
            yield f"signature-{costs.nodes}", signature(model, costs.nodes, region)
    found = {"workflow": model.workflow.name, "scales": scales}
    if any(scale["makespan_s"] for scale in scales.values()):
        yield "totals", totals(found)


def _write(data: dict[str, Any], path: Path) -> None:
    if path.suffix != ".json":
        from qosflow_airflow.figures.drawings import draw
        from qosflow_airflow.figures.files import save

        save(draw(data), path, data["description"])
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_json(data) + "\n", encoding="utf-8")
    except OSError as error:
        raise QoSFlowError(
            f"cannot be written: {error.strerror}", source=path, cure="Give a folder that you may write to."
        ) from error
