"""The stages that compare persons within each population: ``mutation_overlap`` and ``frequency``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from archives import read_archive, write_archive
from generate import EVERYBODY, POPULATIONS, SEED
from numpy.typing import NDArray
from stages import merged_name, sifted_name
from task import Task
from variants import as_records, positions

GROUPS = 100
GROUP_PERSONS = 26
"""``frequency`` looks at this many random groups of this many persons, or of all in a small population."""

Ints = NDArray[np.int64]
Matrix = NDArray[np.bool_]


def mutation_overlap(task: Task) -> None:
    """Per population, count the harmful variants that each pair of persons has in common."""
    for chromosome, populations in _share(task):
        sites, harmful = _sifted(task, chromosome)
        people, carried, _ = _carriers(task, chromosome, sites[harmful])
        for population in populations:
            members = _rows(people, task.people(population))
            chosen = carried[members].astype(np.float32)
            overlap = (chosen @ chosen.T).astype(np.int64)
            with (
                task.trace.writing(task.output / f"chr{chromosome}-{population}.tar") as file,
                write_archive(file) as archive,
            ):
                names = [people[member] for member in members]
                archive.add("individuals.txt", _table(names, overlap.diagonal().tolist()))
                archive.add("pairs.txt", _pairs(names, overlap))
                archive.add("histogram.txt", _histogram(overlap[np.triu_indices(len(names), 1)]))


def frequency(task: Task) -> None:
    """Per population, count the carriers of each variant, and how variants are shared in random groups."""
    for chromosome, populations in _share(task):
        sites, _ = _sifted(task, chromosome)
        people, carried, known = _carriers(task, chromosome, None)
        scored = np.isin(known, sites)
        for population in populations:
            members = _rows(people, task.people(population))
            with (
                task.trace.writing(task.output / f"chr{chromosome}-{population}-freq.tar") as file,
                write_archive(file) as archive,
            ):
                archive.add("frequency.txt", _frequencies(known, carried[members], scored))
                archive.add("groups.txt", _histogram(_group_counts(carried[members], chromosome)))


def _share(task: Task) -> Iterator[tuple[int, list[str]]]:
    """Yield each chromosome of the task with its populations, so that its archive is read once."""
    chromosomes = [number for (number,) in task.find("individuals_merge", r"chr(\d+)n\.tar")]
    items = [(number, population) for population in (EVERYBODY, *POPULATIONS) for number in chromosomes]
    by_chromosome = sorted(task.share(items), key=lambda item: item[0])
    for number, group in itertools.groupby(by_chromosome, key=lambda item: item[0]):
        yield number, [population for _, population in group]


def _sifted(task: Task, chromosome: int) -> tuple[Ints, Matrix]:
    """Return the positions with a SIFT score, ascending, and which of them are harmful."""
    lines = [line.split() for line in task.read("sifting", sifted_name(chromosome)).splitlines()]
    sites = np.array([int(fields[0]) for fields in lines], dtype=np.int64)
    return sites, np.array([fields[4] == b"deleterious" for fields in lines], dtype=np.bool_)


def _carriers(task: Task, chromosome: int, sites: Ints | None) -> tuple[list[str], Matrix, Ints]:
    """Return the persons, who carries what (persons, sites), and the sites: all that occur if ``None``."""
    people: list[str] = []
    carried: list[Ints] = []
    path = task.input("individuals_merge", merged_name(chromosome))
    with task.trace.reading(path, "individuals_merge") as file:
        for name, content in read_archive(file):
            people.append(name.partition(".")[2])
            carried.append(positions(as_records(content, path)))
    known = np.unique(np.concatenate(carried)) if sites is None else sites
    # One column more: positions that are not known all go there.
    matrix = np.zeros((len(people), len(known) + 1), dtype=np.bool_)
    padded = np.append(known, -1)
    for row, found in zip(matrix, carried, strict=True):
        column = np.searchsorted(known, found)
        row[np.where(padded[column] == found, column, len(known))] = True
    return people, matrix[:, :-1], known


def _rows(people: Sequence[str], members: Sequence[str]) -> list[int]:
    row = {person: number for number, person in enumerate(people)}
    return [row[person] for person in members]


def _group_counts(carried: Matrix, chromosome: int) -> Ints:
    """Return, for each random group and variant, how many of the group carry it."""
    random = np.random.Generator(np.random.PCG64([SEED, chromosome, len(carried)]))
    groups = np.zeros((GROUPS, len(carried)), dtype=np.float32)
    for group in groups:
        group[np.argsort(random.random(len(carried)), kind="stable")[:GROUP_PERSONS]] = 1
    return np.asarray((groups @ carried.astype(np.float32)).astype(np.int64).ravel())


def _frequencies(known: Ints, carried: Matrix, scored: Matrix) -> bytes:
    counts = carried.sum(axis=0)
    lines = [
        f"{position:010d} {count} {count / len(carried):.4f} {'sifted' if score else '-'}\n"
        for position, count, score in zip(known.tolist(), counts.tolist(), scored.tolist(), strict=True)
        if count
    ]
    return "".join(lines).encode("ascii")


def _pairs(names: Sequence[str], overlap: Ints) -> bytes:
    first, second = np.triu_indices(len(names), 1)
    lines = [
        f"{names[one]} {names[other]} {count}\n"
        for one, other, count in zip(
            first.tolist(), second.tolist(), overlap[first, second].tolist(), strict=True
        )
    ]
    return "".join(lines).encode("ascii")


def _histogram(counts: Ints) -> bytes:
    values = np.bincount(counts)
    return _table([str(value) for value in range(len(values))], values.tolist())


def _table(names: Sequence[str], counts: Sequence[int]) -> bytes:
    return "".join(f"{name} {count}\n" for name, count in zip(names, counts, strict=True)).encode("ascii")
