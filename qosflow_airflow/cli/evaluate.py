"""``qosflow evaluate``: how well policies and regions order the configurations of a model."""

from __future__ import annotations

import argparse
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_model, open_model
from qosflow_airflow.cli.text import as_json, figure, table


def add_evaluate(commands: Any) -> None:
    """Add ``evaluate``."""
    evaluate = commands.add_parser(
        "evaluate", help="how well policies and regions order configurations", description=_evaluate.__doc__
    )
    add_model(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    """Print, per scale, how well fixed policies and the fitted regions order configurations.

    A concordance is the share of pairs put in the right order, ties counting one half; `published` is the
    artifact's figure, which breaks ties by the truth. Regions are measured on configurations held out of
    their fit.
    """
    model = open_model(options)
    quality = {str(scale.nodes): dict(scale.quality) for scale in model.scales}
    if options.format == "json":
        print(as_json({"workflow": model.workflow.name, "rules": model.rules.name, "scales": quality}))
        return OK
    rows = [("nodes", "ordering", "concordance", "published", "regions", "held-out error")]
    for nodes, found in quality.items():
        for policy, figures in found.get("policies", {}).items():
            shares = (figure(figures[name]) for name in ("concordance", "concordance_published"))
            rows.append((nodes, policy, *shares, "", ""))
        regions = found.get("regions", {})
        held_out = figure(regions.get("concordance_held_out"))
        error_s = figure(regions.get("mae_held_out_s"), " s")
        rows.append((nodes, "regions", held_out, "", str(regions.get("count", "")), error_s))
    print(table(rows))
    return OK
