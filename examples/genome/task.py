"""One task of a stage: its share of the stage's work, where its inputs lie and where it writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from collector import INITIAL_DATA, TaskTrace
from errors import GenomeError
from generate import COLUMNS, EVERYBODY
from variants import ACCESS_BYTES

Item = TypeVar("Item")


@dataclass(frozen=True)
class Task:
    """The ``index``-th of ``count`` tasks; ``inputs`` maps a producer to the folder of its files."""

    index: int
    count: int
    inputs: Mapping[str, Path]
    output: Path
    trace: TaskTrace

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this task's part of a stage's items: every ``count``-th from ``index`` on."""
        return items[self.index :: self.count]

    def input(self, producer: str, name: str) -> Path:
        """Return the path of the file ``name`` of ``producer``."""
        return self.inputs[producer] / name

    def find(self, producer: str, pattern: str) -> list[tuple[int, ...]]:
        """Return the numbers in the names of the producer's files that match ``pattern``, sorted.

        Files and not a setting say which chromosomes there are: a task does those that were staged.
        """
        folder = self.inputs[producer]
        try:
            matches = [re.fullmatch(pattern, path.name) for path in folder.iterdir()]
        except OSError as error:
            raise GenomeError(
                f"{folder}: {error.strerror}; has {producer} run, and is its folder this one?"
            ) from None
        found = sorted(tuple(int(number) for number in match.groups()) for match in matches if match)
        if not found:
            raise GenomeError(
                f"{folder}: no file matches {pattern}; has {producer} run, and is its folder this one?"
            )
        return found

    def read(self, producer: str, name: str) -> bytes:
        """Return the content of a whole file."""
        with self.trace.reading(self.input(producer, name), producer) as file:
            return file.read_all(ACCESS_BYTES)

    def people(self, population: str = EVERYBODY) -> list[str]:
        """Return the ids of a population; everybody's are in the order of the VCF's columns."""
        name = COLUMNS if population == EVERYBODY else population
        return self.read(INITIAL_DATA, name).decode("ascii").split()
