"""The input of the workflow: variant calls, annotations and populations that depend on the size alone.

The shape is the public 1000 Genomes data's: one VCF and one annotated list of sites per chromosome, the
persons' ids in ``columns.txt``, one list of persons per population. The content is random with a fixed seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from errors import GenomeError
from numpy.typing import NDArray

SEED = 1000
FORMAT_VERSION = 1
"""Raised whenever the same size would give other bytes, so that old input is not reused."""
MANIFEST = "manifest.json"
COLUMNS = "columns.txt"
POPULATIONS = ("AFR", "AMR", "EAS", "EUR", "SAS")
EVERYBODY = "ALL"
BLOCK_VARIANTS = 512
MOVED_BYTES_PER_VARIANT = 13_700
"""What the whole workflow reads and writes per variant of one chromosome with 500 persons, as measured."""


@dataclass(frozen=True)
class InputSize:
    """How much input: ``variants`` are per chromosome."""

    persons: int
    variants: int
    chromosomes: int = 2


SIZES = {
    "tests": InputSize(persons=40, variants=300),
    "demo": InputSize(persons=500, variants=17_000),
    "large": InputSize(persons=500, variants=150_000),
}


def parse_size(text: str) -> InputSize:
    """Return the size called ``text``, or the one at which the workflow moves about ``text`` MiB in all."""
    if text in SIZES:
        return SIZES[text]
    try:
        mib = float(text)
    except ValueError:
        mib = float("nan")
    if not 1 <= mib <= 1 << 20:
        raise GenomeError(
            f"size {text!r} is neither one of {', '.join(SIZES)} nor a number of MiB from 1 to {1 << 20}"
        )
    persons, chromosomes = SIZES["demo"].persons, SIZES["demo"].chromosomes
    variants = round(mib * (1 << 20) / (MOVED_BYTES_PER_VARIANT * chromosomes))
    return InputSize(persons, max(10, variants), chromosomes)


def vcf_name(chromosome: int) -> str:
    """Return the file name of a chromosome's variant calls."""
    return f"ALL.chr{chromosome}.vcf"


def annotation_name(chromosome: int) -> str:
    """Return the file name of a chromosome's annotated sites."""
    return f"ALL.chr{chromosome}.sites.annotation.vcf"


def generate(
    folder: Path, size: InputSize, *, force: bool = False, say: Callable[[str], None] = print
) -> bool:
    """Write the input into ``folder`` and its manifest last; return ``False`` where it was already there."""
    if not force and is_generated(folder, size):
        say(f"input: {folder} reused")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    _remove_input(folder)
    people = [f"HG{number:05d}" for number in range(1, size.persons + 1)]
    _write(folder / COLUMNS, iter(["\t".join(people) + "\n"]))
    for offset, population in enumerate(POPULATIONS):
        _write(folder / population, (f"{person}\n" for person in people[offset :: len(POPULATIONS)]))
    _write(folder / EVERYBODY, (f"{person}\n" for person in people))
    for chromosome in range(1, size.chromosomes + 1):
        sites = _sites(chromosome, size.variants)
        _write(folder / vcf_name(chromosome), _vcf(chromosome, people, sites))
        _write(folder / annotation_name(chromosome), _annotation(chromosome, sites))
        say(f"input: chromosome {chromosome} of {size.chromosomes} written to {folder}")
    _write(folder / MANIFEST, iter([json.dumps(_manifest(folder, size), indent=1) + "\n"]))
    return True


def _remove_input(folder: Path) -> None:
    """Remove what another size has left: tasks take every chromosome that they find."""
    for pattern in ("ALL.chr*.vcf", MANIFEST):
        for path in folder.glob(pattern):
            path.unlink()


def is_generated(folder: Path, size: InputSize) -> bool:
    """Return whether ``folder`` holds the whole input of this size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest == _manifest(folder, size))
    except (OSError, ValueError):
        return False


def _manifest(folder: Path, size: InputSize) -> dict[str, object]:
    names = [COLUMNS, EVERYBODY, *POPULATIONS]
    for chromosome in range(1, size.chromosomes + 1):
        names += [vcf_name(chromosome), annotation_name(chromosome)]
    return {
        "version": FORMAT_VERSION,
        "size": asdict(size),
        "files": {name: (folder / name).stat().st_size for name in names},
    }


@dataclass(frozen=True)
class _Sites:
    """Arrays over the variants of a chromosome."""

    position: NDArray[np.int64]
    allele: NDArray[np.int64]
    frequency: NDArray[np.float64]
    score: NDArray[np.float64]


def _random(chromosome: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([SEED, chromosome, purpose]))


def _sites(chromosome: int, variants: int) -> _Sites:
    # Only Generator.random is drawn from: its stream is the one that stays the same over numpy versions.
    draw = _random(chromosome, 0).random((4, variants))
    return _Sites(
        position=10_000 + np.cumsum(1 + (draw[0] * 2_000).astype(np.int64)),
        allele=(draw[1] * 12).astype(np.int64),
        frequency=0.01 + 0.18 * draw[2] ** 2,
        score=draw[3],
    )


def _letters(allele: int) -> tuple[str, str]:
    reference = allele // 3
    return "ACGT"[reference], "ACGT".replace("ACGT"[reference], "")[allele % 3]


def _vcf(chromosome: int, people: list[str], sites: _Sites) -> Iterator[str]:
    yield '##fileformat=VCFv4.1\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    yield "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t" + "\t".join(people) + "\n"
    random = _random(chromosome, 1)
    for start in range(0, len(sites.position), BLOCK_VARIANTS):
        block = range(start, min(start + BLOCK_VARIANTS, len(sites.position)))
        draw = random.random((len(block), len(people), 2), dtype=np.float32)
        text = np.full((len(block), len(people), 4), ord("|"), dtype=np.uint8)
        text[:, :, 0::2] = (draw < sites.frequency[block.start : block.stop, None, None]) + ord("0")
        text[:, :, 3] = ord("\t")
        text[:, -1, 3] = ord("\n")
        for row, variant in enumerate(block):
            reference, alternate = _letters(int(sites.allele[variant]))
            yield (
                f"{chromosome}\t{sites.position[variant]}\trs{variant + 1}\t{reference}\t{alternate}\t100\t"
                f"PASS\tAN={2 * len(people)};AF={sites.frequency[variant]:.3f};VT=SNP\tGT\t"
            ) + text[row].tobytes().decode("ascii")


def _annotation(chromosome: int, sites: _Sites) -> Iterator[str]:
    yield "##fileformat=VCFv4.1\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    for variant, (position, score) in enumerate(zip(sites.position, sites.score, strict=True)):
        reference, alternate = _letters(int(sites.allele[variant]))
        gene = f"ENSG{chromosome:03d}{variant // 40:08d}"
        consequence = "intron_variant"
        effect = ""
        if score < 0.4:  # the share of sites that change a protein is far smaller in nature
            consequence = "missense_variant"
            effect = f"SIFT={'deleterious' if score < 0.05 else 'tolerated'}({score:.3f})"
        yield (
            f"{chromosome}\t{position}\trs{variant + 1}\t{reference}\t{alternate}\t100\tPASS\t"
            f"CSQ={alternate}|{gene}|ENST{variant:011d}|Transcript|{consequence}|{variant % 4000}|"
            f"{variant % 3000}|{variant % 1000}|protein_coding|{effect}|GMAF={alternate}:"
            f"{sites.frequency[variant]:.3f}\n"
        )


def _write(path: Path, parts: Iterator[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="ascii", newline="\n", buffering=1 << 20) as file:
            file.writelines(parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
