"""``qosflow models`` and ``qosflow db``: what the database holds, and its tables."""

from __future__ import annotations

import argparse
from typing import Any

from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_database, database_url, open_store
from qosflow_airflow.cli.text import as_json, card_line, table


def add_models(commands: Any) -> None:
    """Add ``models``."""
    models = commands.add_parser(
        "models", help="list the models in the database", description=_models.__doc__
    )
    models.add_argument("--workflow", metavar="NAME", help="only those of this workflow")
    models.add_argument("--format", choices=("text", "json"), default="text")
    add_database(models)
    models.set_defaults(run=_models)


def _models(options: argparse.Namespace) -> int:
    """List the model versions in the database, newest first."""
    with open_store(options) as store:
        models = store.models(options.workflow)
        found = {model.model_id: store.report_cards(model.model_id, limit=1) for model in models}
    cards = {model_id: card[0].report if card else None for model_id, card in found.items()}
    if options.format == "json":
        keys = ("model_id", "workflow", "version", "created_at", "summary", "inputs", "qosflow_version")
        said = [{key: getattr(model, key) for key in keys} for model in models]
        print(as_json([{**one, "report_card": cards[one["model_id"]]} for one in said]))
        return OK
    rows = [("workflow", "version", "made", "rules", "scales", "model", "held against runs")]
    rows += [
        (
            model.workflow,
            str(model.version),
            f"{model.created_at:%Y-%m-%d %H:%M}",
            str(model.summary.get("rules", "")),
            ",".join(map(str, model.summary.get("scales", []))),
            model.model_id,
            card_line(card) if (card := cards[model.model_id]) else "",
        )
        for model in models
    ]
    print(table(rows) if models else "no models yet: make one with `qosflow build BUNDLE --store`")
    return OK


def add_db(commands: Any) -> None:
    """Add ``db``."""
    database = commands.add_parser("db", help="create or inspect the database")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    for name, run in (("upgrade", _db_upgrade), ("status", _db_status)):
        action = actions.add_parser(name, help=(run.__doc__ or "").splitlines()[0], description=run.__doc__)
        add_database(action)
        action.set_defaults(run=run)


def _db_upgrade(options: argparse.Namespace) -> int:
    """Create the tables, or bring them to this version."""
    from qosflow_airflow.store import migrate

    applied = migrate.upgrade(database_url(options))
    print("\n".join(f"applied {migration}" for migration in applied) or "already up to date")
    return OK


def _db_status(options: argparse.Namespace) -> int:
    """Say which migrations are applied, which are pending, and which this code does not know."""
    from qosflow_airflow.store import migrate

    status = migrate.status(database_url(options))
    names = {
        "applied": [step.name for step in status.applied],
        "pending": [step.name for step in status.pending],
        "unknown to this code": [step.name for step in status.newer],
    }
    print("\n".join(f"{word}: {name}" for word, found in names.items() for name in found))
    return OK
