"""Where a command gets its model from: a folder or the database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qosflow_airflow.exceptions import StoreError

if TYPE_CHECKING:
    from qosflow_airflow.core.model import Model
    from qosflow_airflow.learn.layers import Layers
    from qosflow_airflow.store.base import Store

DATABASE_VARIABLES = ("QOSFLOW_DATABASE_URL", "AIRFLOW_CONN_QOSFLOW_DEFAULT")


def add_model(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add what names a model, and the format of the output; return the ways to name it."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model", type=Path, metavar="DIR", help="folder that `qosflow build --output` wrote"
    )
    source.add_argument("--workflow", metavar="NAME", help="newest model of this workflow in the database")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    add_database(parser)
    return source


def add_database(parser: argparse.ArgumentParser) -> None:
    """Add what names the database."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help=f"Postgres to use (default: ${' or $'.join(DATABASE_VARIABLES)})",
    )


def add_layers(parser: argparse.ArgumentParser) -> None:
    """Add what chooses the layers of a prediction."""
    parser.add_argument(
        "--layers",
        metavar="A,B",
        help="what to heed besides the I/O model: some of calibration, parallelism, cases and intervals, or "
        "none (default: all)",
    )


def layers_of(options: argparse.Namespace) -> Layers:
    """Return the layers that the command names, all by default."""
    from qosflow_airflow.learn.layers import Layers

    named = getattr(options, "layers", None)
    return Layers() if named is None else Layers.parse(named)


def open_model(options: argparse.Namespace) -> Model:
    """Return the model that the command names."""
    if options.model is not None:
        from qosflow_airflow.store.model_folder import read_model_folder

        return read_model_folder(options.model)
    from qosflow_airflow.answers import load_model

    with open_store(options) as store:
        return load_model(store, options.workflow).model


def open_report_card(options: argparse.Namespace) -> Mapping[str, Any] | None:
    """Return the newest report card of the model that the command names, ``None`` where it has none."""
    if options.model is not None:
        from qosflow_airflow.store.model_folder import read_report_card

        return read_report_card(options.model)
    with open_store(options) as store:
        cards = store.report_cards(store.newest_model(options.workflow).model_id, limit=1)
    return cards[0].report if cards else None


def open_lesson(options: argparse.Namespace) -> Mapping[str, Any] | None:
    """Return what finished runs teach about the model that the command names; of a folder there are none."""
    if options.model is not None:
        return None
    from qosflow_airflow.answers import load_model
    from qosflow_airflow.learned import lesson_for
    from qosflow_airflow.past_runs import PastRuns

    with open_store(options) as store:
        loaded = load_model(store, options.workflow)
        return lesson_for(PastRuns(store), loaded.version, loaded.model, layers_of(options)).to_json()


@contextmanager
def open_store(options: argparse.Namespace) -> Iterator[Store]:
    """Open the database that the command or the environment names, and close it afterwards."""
    from qosflow_airflow.store.postgres import PostgresStore

    with PostgresStore(database_url(options)) as store:
        yield store


def database_url(options: argparse.Namespace) -> str:
    """Return the URL of the database that the command or the environment names."""
    url = options.database_url or next(filter(None, map(os.environ.get, DATABASE_VARIABLES)), None)
    if not url:
        raise StoreError("no database is named", cure=f"Give --database-url, or set {DATABASE_VARIABLES[0]}.")
    return str(url)
