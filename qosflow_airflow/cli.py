"""The ``qosflow`` command: the pipeline, recommendations and the database without Airflow.

Exit codes: 0 done, 2 bad input or a database that cannot be reached, 3 nothing feasible.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow import __version__
from qosflow_airflow.exceptions import QoSFlowError, StoreError

if TYPE_CHECKING:
    from qosflow_airflow.core.model import Model
    from qosflow_airflow.store.base import Store

OK, BAD_INPUT, INFEASIBLE = 0, 2, 3
DATABASE_VARIABLES = ("QOSFLOW_DATABASE_URL", "AIRFLOW_CONN_QOSFLOW_DEFAULT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except QoSFlowError as error:
        print(f"qosflow: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of a pipe has seen enough; the interpreter must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        return code
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qosflow", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_recommend(commands)
    _add_evaluate(commands)
    _add_models(commands)
    _add_db(commands)
    return parser


def _add_build(commands: Any) -> None:
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
    build.add_argument("--name", help="name of the workflow (default: the bundle's)")
    target = build.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", type=Path, metavar="DIR", help="write the model to this folder")
    target.add_argument("--store", action="store_true", help="publish the model to the database")
    _add_database(build)
    build.set_defaults(run=_build)


def _add_recommend(commands: Any) -> None:
    ask = commands.add_parser(
        "recommend", help="recommend tiers and nodes for a deadline", description=_recommend.__doc__
    )
    _add_model(ask)
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


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="how well policies and regions order configurations", description=_evaluate.__doc__
    )
    _add_model(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_models(commands: Any) -> None:
    models = commands.add_parser(
        "models", help="list the models in the database", description=_models.__doc__
    )
    models.add_argument("--workflow", metavar="NAME", help="only those of this workflow")
    models.add_argument("--format", choices=("text", "json"), default="text")
    _add_database(models)
    models.set_defaults(run=_models)


def _add_db(commands: Any) -> None:
    database = commands.add_parser("db", help="create or inspect the database")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    for name, run in (("upgrade", _db_upgrade), ("status", _db_status)):
        action = actions.add_parser(name, help=(run.__doc__ or "").splitlines()[0], description=run.__doc__)
        _add_database(action)
        action.set_defaults(run=run)


def _add_model(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model", type=Path, metavar="DIR", help="folder that `qosflow build --output` wrote"
    )
    source.add_argument("--workflow", metavar="NAME", help="newest model of this workflow in the database")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    _add_database(parser)


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help=f"Postgres to use (default: ${' or $'.join(DATABASE_VARIABLES)})",
    )


def _build(options: argparse.Namespace) -> int:
    """Read a bundle, evaluate every configuration at every scale, find regions, and keep the model."""
    from qosflow_airflow import pipeline
    from qosflow_airflow.core.build_options import BuildOptions

    asked = ("scales", "tiers", "rules", "transfer_times", "name")
    build_options = BuildOptions.parse({name: getattr(options, name) for name in asked})
    if options.store:
        with _store(options) as store:
            published = pipeline.run(store, options.bundle, build_options, _progress)
        print(f"{published['workflow']} version {published['version']}: model {published['model_id']}")
        return OK
    pipeline.build_folder(options.bundle, build_options, options.output, _progress)
    print(f"wrote {options.output}")
    return OK


def _recommend(options: argparse.Namespace) -> int:
    """Print the best configuration that meets the request, or what stands in the way of one."""
    from qosflow_airflow.core.qos import QoSRequest
    from qosflow_airflow.core.recommend import recommend

    fields = ("deadline_s", "max_nodes", "allow", "exclude", "objective")
    request = QoSRequest.parse({**{name: getattr(options, name) for name in fields}, "pin": options.pin})
    answer = recommend(_model(options), request).answer
    print(_as_json(answer) if options.format == "json" else _answer_text(answer))
    return OK if answer["status"] == "feasible" else INFEASIBLE


def _evaluate(options: argparse.Namespace) -> int:
    """Print, per scale, how well fixed policies and the fitted regions order configurations.

    A concordance is the share of pairs put in the right order, ties counting one half; `published` is the
    artifact's figure, which breaks ties by the truth. Regions are measured on configurations held out of
    their fit.
    """
    model = _model(options)
    quality = {str(scale.nodes): dict(scale.quality) for scale in model.scales}
    if options.format == "json":
        print(_as_json({"workflow": model.workflow.name, "rules": model.rules.name, "scales": quality}))
        return OK
    rows = [("nodes", "ordering", "concordance", "published", "regions", "held-out error")]
    for nodes, found in quality.items():
        for policy, figures in found.get("policies", {}).items():
            figure, published = figures["concordance"], figures["concordance_published"]
            rows.append((nodes, policy, _figure(figure), _figure(published), "", ""))
        regions = found.get("regions", {})
        held_out = _figure(regions.get("concordance_held_out"))
        error_s = _figure(regions.get("mae_held_out_s"), " s")
        rows.append((nodes, "regions", held_out, "", str(regions.get("count", "")), error_s))
    print(_table(rows))
    return OK


def _models(options: argparse.Namespace) -> int:
    """List the model versions in the database, newest first."""
    with _store(options) as store:
        models = store.models(options.workflow)
    if options.format == "json":
        keys = ("model_id", "workflow", "version", "created_at", "summary", "inputs", "qosflow_version")
        print(_as_json([{key: getattr(model, key) for key in keys} for model in models]))
        return OK
    rows = [("workflow", "version", "made", "rules", "scales", "model")]
    rows += [
        (
            model.workflow,
            str(model.version),
            f"{model.created_at:%Y-%m-%d %H:%M}",
            str(model.summary.get("rules", "")),
            ",".join(map(str, model.summary.get("scales", []))),
            model.model_id,
        )
        for model in models
    ]
    print(_table(rows) if models else "no models yet: make one with `qosflow build BUNDLE --store`")
    return OK


def _db_upgrade(options: argparse.Namespace) -> int:
    """Create the tables, or bring them to this version."""
    from qosflow_airflow.store import migrate

    applied = migrate.upgrade(_database_url(options))
    print("\n".join(f"applied {migration}" for migration in applied) or "already up to date")
    return OK


def _db_status(options: argparse.Namespace) -> int:
    """Say which migrations are applied and which are pending."""
    from qosflow_airflow.store import migrate

    status = migrate.status(_database_url(options))
    print(
        "\n".join(
            [f"applied {name}" for name in status.applied] + [f"pending {name}" for name in status.pending]
        )
    )
    return OK


def _model(options: argparse.Namespace) -> Model:
    if options.model is not None:
        from qosflow_airflow.store.model_folder import read_model_folder

        return read_model_folder(options.model)
    from qosflow_airflow.answers import load_model

    with _store(options) as store:
        return load_model(store, options.workflow).model


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[Store]:
    from qosflow_airflow.store.postgres import PostgresStore

    with PostgresStore(_database_url(options)) as store:
        yield store


def _database_url(options: argparse.Namespace) -> str:
    url = options.database_url or next(filter(None, map(os.environ.get, DATABASE_VARIABLES)), None)
    if not url:
        raise StoreError("no database is named", cure=f"Give --database-url, or set {DATABASE_VARIABLES[0]}.")
    return str(url)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _answer_text(answer: Any) -> str:
    from qosflow_airflow.core.explain import configuration_in_words

    found = answer if answer["status"] == "feasible" else answer["nearest"]
    lines = [answer["explanation"]]
    if found is not None:
        rows = [("stage", "tier", "stage in", "read", "compute", "write", "stage out", "")]
        for stage, tier in found["configuration"]["tiers"].items():
            seconds = [f"{value:.2f} s" for value in found["stage_s"][stage].values()]
            role = "critical" if stage in found["critical_stages"] else ""
            rows.append((stage, tier, *seconds, "flexible" if stage in found["flexible_stages"] else role))
        lines += ["", _table(rows)]
    if found is not None and found.get("region"):
        lines += ["", f"Region: {found['region']['rule']}"]
    for other in answer.get("alternatives", []):
        lines.append(f"Also {other['makespan_s']:.1f} s: {configuration_in_words(other['configuration'])}")
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _figure(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.3f}{unit}"


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str, allow_nan=False)


if __name__ == "__main__":
    sys.exit(main())
