"""``qosflow recommend`` and ``qosflow evaluate``: what a model answers, and how good it is."""

from __future__ import annotations

import argparse
from typing import Any

from qosflow_airflow.cli.exit_codes import INFEASIBLE, OK
from qosflow_airflow.cli.sources import add_model, open_model
from qosflow_airflow.cli.text import answer_text, as_json, figure, table


def add_recommend(commands: Any) -> None:
    """Add ``recommend``."""
    ask = commands.add_parser(
        "recommend", help="recommend tiers and nodes for a deadline", description=_recommend.__doc__
    )
    add_model(ask)
    ask.add_argument("--deadline-s", metavar="S", help="the makespan may not be longer, seconds")
    ask.add_argument("--max-nodes", metavar="N", help="at most so many nodes")
    ask.add_argument("--allow", metavar="A,B", help="only these tiers")
    ask.add_argument("--exclude", metavar="A,B", help="none of these tiers")
    ask.add_argument(
        "--pin", action="append", default=[], metavar="STAGE=TIER", help="fix the tier of a stage"
    )
    ask.add_argument(
        "--objective", choices=("makespan", "node_hours", "cost"), default="makespan", help="minimise"
    )
    ask.set_defaults(run=_recommend)


def _recommend(options: argparse.Namespace) -> int:
    """Print the best configuration that meets the request, or what stands in the way of one."""
    from qosflow_airflow.core.qos import QoSRequest
    from qosflow_airflow.core.recommend import recommend

    fields = ("deadline_s", "max_nodes", "allow", "exclude", "objective")
    request = QoSRequest.parse({**{name: getattr(options, name) for name in fields}, "pin": options.pin})
    answer = recommend(open_model(options), request).answer
    print(as_json(answer) if options.format == "json" else answer_text(answer))
    return OK if answer["status"] == "feasible" else INFEASIBLE


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
