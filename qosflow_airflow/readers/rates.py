"""Storage rates in any of the formats that are known, told apart by what the file holds."""

from __future__ import annotations

from pathlib import Path

from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.exceptions import BundleError, MeasurementError
from qosflow_airflow.readers import fio_json, ior_json
from qosflow_airflow.readers.document import Node, Origin
from qosflow_airflow.readers.document_json import parse_json
from qosflow_airflow.readers.files import SourceFile, read_file
from qosflow_airflow.readers.rate_rows import Mounts
from qosflow_airflow.readers.rates_csv import read_rates_csv

MAX_BENCHMARK_BYTES = 2**25
"""Longer output of a benchmark is refused: each value is kept with its line."""


def read_rates(file: str | Path | SourceFile, mounts: Mounts | None = None) -> StorageRates:
    """Read a profile: CSV as :mod:`~qosflow_airflow.readers.rates_csv` reads it, or fio's or IOR's JSON.

    JSON may be one answer of a benchmark or a list of answers of the same one. It says in which folder was
    measured: ``mounts`` says which tier that is, and is not needed for CSV.

    Raises
    ------
    BundleError
        When the file cannot be read, or is in no format that is known.
    MeasurementError
        When a value is not what it should be, or the file holds no rates.
    """
    source = _without_notes(read_file(file))
    if source.text.lstrip()[:1] not in ("{", "["):
        return read_rates_csv(source)
    source = read_file(source, limit_bytes=MAX_BENCHMARK_BYTES)
    document = parse_json(source, Origin(source.name, MeasurementError))
    documents = document.content if isinstance(document.content, tuple) else (document,)
    kinds = {_kind(node, source) for node in documents}
    if len(kinds) != 1:
        raise BundleError(
            "mixes the output of fio and IOR" if kinds else "is an empty list",
            source=source.name,
            cure="Keep the output of one benchmark in a file.",
        )
    read = fio_json.read_fio_json if kinds == {fio_json.VERSION} else ior_json.read_ior_json
    return read(documents, source.name, mounts or {})


def _without_notes(source: SourceFile) -> SourceFile:
    """Return fio's output without what it says before the JSON, lines kept; other files as they are."""
    text = source.text
    start = text.find("{")
    if start <= 0 or not text[start + 1 :].lstrip().startswith(f'"{fio_json.VERSION}"'):
        return source
    before = text[:start]
    if before.strip() in ("", "["):
        return source
    return SourceFile(source.path, ("\n" * before.count("\n") + text[start:]).encode())


def _kind(node: Node, source: SourceFile) -> str:
    keys = node.mapping()
    for key in (fio_json.VERSION, ior_json.TESTS):
        if key in keys:
            return key
    raise BundleError(
        "is JSON of neither fio (--output-format=json) nor IOR (-O summaryFormat=JSON)",
        source=source.name,
        line=node.line,
        cure="Give the output of one of them, or a CSV file.",
    )
