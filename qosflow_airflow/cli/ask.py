"""``qosflow recommend``: what a model answers to a request."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qosflow_airflow.cli.exit_codes import INFEASIBLE, OK
from qosflow_airflow.cli.sources import add_layers, add_model, layers_of, open_model, open_store
from qosflow_airflow.cli.text import answer_text, as_json

if TYPE_CHECKING:
    from qosflow_airflow.core.qos import QoSRequest

FIELDS = (
    "deadline_s",
    "confidence",
    "max_nodes",
    "max_node_hours",
    "max_cost",
    "allow",
    "exclude",
    "pin",
    "objective",
)
"""What is asked for, as options and as fields of a request."""


def add_recommend(commands: Any) -> None:
    """Add ``recommend``."""
    ask = commands.add_parser(
        "recommend", help="recommend tiers and nodes for a deadline", description=_recommend.__doc__
    )
    add_model(ask)
    add_request(ask)
    add_layers(ask)
    ask.set_defaults(run=_recommend)


def add_request(ask: argparse.ArgumentParser) -> None:
    """Add the constraints and the objective of a request."""
    ask.add_argument("--deadline-s", metavar="S", help="the makespan may not be longer, seconds")
    ask.add_argument(
        "--confidence", metavar="P", help="keep the deadline with this probability (default: by the estimate)"
    )
    ask.add_argument("--max-nodes", metavar="N", help="at most so many nodes")
    ask.add_argument("--max-node-hours", metavar="H", help="at most so many node-hours")
    ask.add_argument("--max-cost", metavar="M", help="at most so much money, in the currency of tiers.yaml")
    ask.add_argument("--allow", metavar="A,B", help="only these tiers")
    ask.add_argument("--exclude", metavar="A,B", help="none of these tiers")
    ask.add_argument(
        "--pin", action="append", default=[], metavar="STAGE=TIER", help="fix the tier of a stage"
    )
    ask.add_argument(
        "--objective",
        choices=("makespan", "node_hours", "cost", "balanced"),
        default="makespan",
        help="what to minimise; balanced is between makespan and node-hours",
    )
    ask.add_argument(
        "--max-chunks",
        action="append",
        default=[],
        metavar="STAGE=N",
        help="choose in how many tasks this stage is done, at most so many",
    )
    ask.add_argument(
        "--chunk-objective",
        choices=("time", "node_hours", "cost", "knee", "published"),
        help="what the number of tasks makes small (default: as the objective says)",
    )


def parse_request(options: argparse.Namespace) -> QoSRequest:
    """Return the request that the command makes."""
    from qosflow_airflow.core.qos import QoSRequest

    return QoSRequest.parse({name: getattr(options, name) for name in FIELDS})


def _recommend(options: argparse.Namespace) -> int:
    """Print the best configuration that meets the request, or what stands in the way of one."""
    answer = answer_of(options)
    print(as_json(answer) if options.format == "json" else answer_text(answer))
    return OK if answer["status"] == "feasible" else INFEASIBLE


def answer_of(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return the answer of the model that the command names; of a database, with what runs teach."""
    from qosflow_airflow.learn.chunk_request import ChunkRequest

    request, layers = parse_request(options), layers_of(options)
    chunks = ChunkRequest.parse(",".join(options.max_chunks), options.chunk_objective)
    if options.model is not None and chunks.limits and layers.parallelism:
        from qosflow_airflow.learn.division import Division, recommend_divided
        from qosflow_airflow.learn.lessons import Lesson

        division = Division.asked(chunks, request)
        return recommend_divided(open_model(options), request, Lesson(), division).answer
    if options.model is not None:
        from qosflow_airflow.core.recommend import recommend

        return recommend(open_model(options), request).answer
    from qosflow_airflow.answers import answer_with_lesson

    with open_store(options) as store:
        return answer_with_lesson(store, options.workflow, request, layers, chunks=chunks)[0].answer
