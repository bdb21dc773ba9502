"""The stages that prepare the variants: ``individuals``, ``individuals_merge`` and ``sifting``.

What is written for an item of a stage's work does not depend on the number of tasks, except how many pieces
``individuals`` cuts a chromosome into, which the merge undoes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from archives import read_archive, write_archive
from collector import INITIAL_DATA
from errors import GenomeError
from generate import annotation_name, vcf_name
from task import Task
from variants import as_records, parse_vcf, slice_lines

_PIECE = r"chr(\d+)n-(\d+)-(\d+)\.tar"
_SIFT = re.compile(rb"^\d+\t(\d+)\trs(\d+)\t.*?\|(ENSG\d+)\|.*?SIFT=(\w+)\(([\d.]+)\)", re.MULTILINE)


def piece_name(chromosome: int, piece: int, pieces: int) -> str:
    """Return the name of the archive of one piece of a chromosome."""
    return f"chr{chromosome}n-{piece:03d}-{pieces:03d}.tar"


def merged_name(chromosome: int) -> str:
    """Return the name of the archive of a whole chromosome."""
    return f"chr{chromosome}n.tar"


def sifted_name(chromosome: int) -> str:
    """Return the name of the file of a chromosome's SIFT scores."""
    return f"sifted.SIFT.chr{chromosome}.txt"


def individuals(task: Task) -> None:
    """Cut a piece out of a chromosome's VCF and write who carries which variant, one file a person."""
    people = task.people()
    chromosomes = [number for (number,) in task.find(INITIAL_DATA, r"ALL\.chr(\d+)\.vcf")]
    pieces = -(-task.count // len(chromosomes))
    for chromosome, piece in task.share(list(itertools.product(chromosomes, range(pieces)))):
        path = task.input(INITIAL_DATA, vcf_name(chromosome))
        records = [as_records(b"", path)]
        carriers = [np.zeros((0, len(people)), dtype=np.bool_)]
        with task.trace.reading(path, INITIAL_DATA) as file:
            for lines in slice_lines(file, file.size(), piece, pieces):
                parsed = parse_vcf(lines, len(people), path)
                records.append(parsed[0])
                carriers.append(parsed[1])
        variants = np.concatenate(records)
        per_person = np.ascontiguousarray(np.concatenate(carriers).T)
        with (
            task.trace.writing(task.output / piece_name(chromosome, piece, pieces)) as file,
            write_archive(file) as archive,
        ):
            for person, carried in zip(people, per_person, strict=True):
                archive.add(f"chr{chromosome}.{person}", variants[carried].tobytes())


def individuals_merge(task: Task) -> None:
    """Join the pieces of a chromosome: one archive, one file a person, in the order of the positions."""
    found: dict[int, list[tuple[int, int]]] = {}
    for chromosome, piece, pieces in task.find("individuals", _PIECE):
        found.setdefault(chromosome, []).append((piece, pieces))
    for chromosome in task.share(sorted(found)):
        names = [piece_name(chromosome, *piece) for piece in found[chromosome]]
        if found[chromosome] != [(piece, len(names)) for piece in range(len(names))]:
            raise GenomeError(
                f"{task.inputs['individuals']}: {', '.join(names)} are not the pieces of one run; "
                "empty the folder and run individuals again"
            )
        _merge(task, chromosome, [task.input("individuals", name) for name in names])


def _merge(task: Task, chromosome: int, paths: Sequence[Path]) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(task.trace.reading(path, "individuals")) for path in paths]
        output = stack.enter_context(task.trace.writing(task.output / merged_name(chromosome)))
        archive = stack.enter_context(write_archive(output))
        for members in itertools.zip_longest(*map(read_archive, opened), fillvalue=("nobody", b"")):
            names = {name for name, _ in members}
            if len(names) != 1:
                raise GenomeError(
                    f"{paths[0].parent}: the pieces of chromosome {chromosome} hold different persons"
                )
            archive.add(names.pop(), b"".join(content for _, content in members))


def sifting(task: Task) -> None:
    """Keep the annotated sites that have a SIFT score: position, id, gene, score and its meaning."""
    chromosomes = [number for (number,) in task.find(INITIAL_DATA, r"ALL\.chr(\d+)\.sites\.annotation\.vcf")]
    for chromosome in task.share(chromosomes):
        with (
            task.trace.reading(task.input(INITIAL_DATA, annotation_name(chromosome)), INITIAL_DATA) as source,
            task.trace.writing(task.output / sifted_name(chromosome)) as target,
        ):
            for lines in slice_lines(source, source.size(), 0, 1):
                kept = [
                    b"%010d rs%08d %s %s %s\n" % (int(position), int(number), gene, score, meaning)
                    for position, number, gene, meaning, score in _SIFT.findall(lines)
                ]
                target.write(b"".join(kept))
