"""A CSV file as columns of text that know their line numbers, converted and checked a column at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qosflow_airflow.exceptions import BundleError, MeasurementError
from qosflow_airflow.readers.files import SourceFile, read_file

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BYTES_PER_MIB = 2**20
MAX_COUNT = 1_000_000
"""Most tasks, nodes or tasks per node that a file may claim."""
MAX_CELL_LENGTH = 4096
"""Longest text of a cell: no path is longer, and some tables are kept with cells of one width."""
MAX_BYTES = 2.0**70
"""Most bytes that a file may claim (1 ZiB)."""
MAX_SECONDS = 1e9
"""Longest duration that a file may claim (32 years)."""


@dataclass(frozen=True)
class CsvTable:
    """Cells of a CSV file, stripped of blanks around them.

    ``columns`` maps the lower-case name of a column to its cells, ``names`` to its name as the header writes
    it. ``lines`` holds the file's line number of each row (the header is line 1).
    """

    source: str
    names: dict[str, str]
    columns: dict[str, tuple[str, ...]]
    lines: IntArray

    def __len__(self) -> int:
        return len(self.lines)

    def has(self, name: str) -> bool:
        """Whether the file has the column."""
        return name.lower() in self.columns

    def require(self, names: Collection[str]) -> None:
        """Raise a :class:`BundleError` that names every one of ``names`` that is not a column."""
        missing = [name for name in names if not self.has(name)]
        if missing:
            raise BundleError(
                f"the columns {', '.join(missing)} are missing; found {', '.join(self.names.values())}",
                source=self.source,
                line=1,
                cure="Add the missing columns to the header and to every line.",
            )

    def take(self, rows: npt.NDArray[np.bool_]) -> CsvTable:
        """Return the table with only the rows where ``rows`` is true."""
        kept = np.flatnonzero(rows)
        columns = {name: tuple(cells[i] for i in kept) for name, cells in self.columns.items()}
        return CsvTable(self.source, self.names, columns, self.lines[kept])

    def blank_rows(self) -> npt.NDArray[np.bool_]:
        """Per row, whether all of its cells are blank."""
        return np.array([not any(row) for row in zip(*self.columns.values(), strict=True)], dtype=bool)

    def error(self, row: int, name: str, message: str, cure: str) -> MeasurementError:
        """Return an error at a cell."""
        return MeasurementError(
            message,
            source=self.source,
            line=int(self.lines[row]),
            column=self.names.get(name.lower(), name),
            cure=cure,
        )

    def text(self, name: str, *, blank: bool = False) -> tuple[str, ...]:
        """Return a column of text; a blank cell is an error unless ``blank``."""
        cells = self.columns[name.lower()]
        if not blank and "" in cells:
            raise self.error(cells.index(""), name, "is blank", "Fill it or remove the line.")
        longest = max(cells, key=len, default="")
        if len(longest) > MAX_CELL_LENGTH:
            cure = f"Give at most {MAX_CELL_LENGTH:,}."
            raise self.error(cells.index(longest), name, f"has {len(longest):,} characters", cure)
        return cells

    def choice(self, name: str, known: Collection[str]) -> tuple[str, ...]:
        """Return a column of words, each one of ``known``, in lower case."""
        cells = tuple(cell.lower() for cell in self.columns[name.lower()])
        unknown = set(cells).difference(known)
        for row, cell in enumerate(cells):
            if cell in unknown:
                found = repr(self.columns[name.lower()][row]) if cell else "blank"
                raise self.error(row, name, f"is {found}", f"Use one of {', '.join(known)}.")
        return cells

    def numbers(self, name: str, *, low: float, high: float, blank: bool = False) -> FloatArray:
        """Return a column of finite numbers from ``low`` to ``high``; NaN for blank cells where ``blank``."""
        values = self._parsed(name)
        missing = np.isnan(values)
        with np.errstate(invalid="ignore"):
            bad = ~(missing | ((values >= low) & (values <= high)))
        if not blank:
            bad |= missing
        if bad.any():
            row = int(bad.argmax())
            raise self.error(row, name, self._found(name, row), f"Give a number from {low:g} to {high:g}.")
        return values

    def whole(self, name: str, *, low: int = 1, high: int = MAX_COUNT) -> IntArray:
        """Return a column of whole numbers from ``low`` to ``high``."""
        values = self._parsed(name)
        with np.errstate(invalid="ignore"):
            bad = ~((values >= low) & (values <= high) & (np.floor(values) == values))
        if bad.any():
            row = int(bad.argmax())
            cure = f"Give a whole number from {low:,} to {high:,}."
            raise self.error(row, name, self._found(name, row), cure)
        return values.astype(np.int64)

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Return a column of true and false; all false where the file lacks the column."""
        if not self.has(name):
            return np.zeros(len(self), dtype=bool)
        words = self.choice(name, ("true", "false", "1", "0", ""))
        return np.array([word in ("true", "1") for word in words], dtype=bool)

    def _found(self, name: str, row: int) -> str:
        cell = self.columns[name.lower()][row]
        return f"is {cell}" if cell else "is blank"

    def _parsed(self, name: str) -> FloatArray:
        cells = self.columns[name.lower()]
        try:
            # Python's own conversion is exact to the last bit.
            return np.array([float(cell or "nan") for cell in cells], dtype=np.float64)
        except ValueError:
            row = next(row for row, cell in enumerate(cells) if cell and not _is_number(cell))
            raise self.error(row, name, f"is {cells[row]!r}, not a number", "Correct the value.") from None


def read_csv(file: str | Path | SourceFile) -> CsvTable:
    """Read a CSV file with a header.

    Raises
    ------
    BundleError
        When the file cannot be read as text, has no rows, names a column twice, or a line has more or fewer
        cells than the header.
    """
    source = read_file(file)
    rows, lines = _rows(source)
    header = [name.strip() for name in rows[0]]
    names = {name.lower(): name for name in header}
    if len(names) != len(header) or "" in names:
        again = sorted(
            {name for name in header if not name or [*map(str.lower, header)].count(name.lower()) > 1}
        )
        raise BundleError(
            f"the header has blank or repeated columns: {', '.join(map(repr, again))}",
            source=source.name,
            line=1,
            cure="Name each column once.",
        )
    if len(rows) == 1:
        raise BundleError("has a header but no rows", source=source.name, cure="Add rows or remove the file.")
    _check_width(source.name, rows, lines)
    cells = zip(*rows[1:], strict=True)
    columns = {name: tuple(map(str.strip, column)) for name, column in zip(names, cells, strict=True)}
    return CsvTable(source.name, names, columns, np.array(lines[1:], dtype=np.int64))


def _rows(source: SourceFile) -> tuple[list[list[str]], list[int]]:
    """Return the file's rows, header first, without empty lines, and the line on which each begins."""
    reader = csv.reader(io.StringIO(source.text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise BundleError(
            f"is not valid CSV: {error}",
            source=source.name,
            line=line,
            cure="Correct the quotes of this line.",
        ) from None
    return rows, lines


def _check_width(source: str, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise BundleError(
                f"has {len(row)} of {width} columns"
                if len(row) < width
                else f"has {len(row)} columns, not {width}",
                source=source,
                line=line,
                cure="Complete the line or remove it; quote cells that hold commas.",
            )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
