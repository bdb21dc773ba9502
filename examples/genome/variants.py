"""Variants as the stages exchange them: fixed-width text records, and the parsing of VCF lines into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from errors import GenomeError
from numpy.typing import NDArray

ACCESS_BYTES = 1 << 20
"""Size of one read or write of a large file."""
TAIL_BYTES = 4096
"""Size of the reads past the end of a slice, to finish its last line."""

RECORD_BYTES = 32
"""``pppppppppp rsnnnnnnnn R A 0.fff`` and a newline: position, id, reference, alternate, allele frequency."""
POSITION_DIGITS = 10
_POWERS = 10 ** np.arange(POSITION_DIGITS - 1, -1, -1, dtype=np.int64)

Bytes2D = NDArray[np.uint8]


class Readable(Protocol):
    """What slicing needs of an open file."""

    def seek(self, offset: int, /) -> int:
        """Move to ``offset`` from the start."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""
        ...


def format_record(position: int, number: int, reference: str, alternate: str, frequency: float) -> bytes:
    """Return the :data:`RECORD_BYTES` bytes of one variant."""
    return f"{position:010d} rs{number:08d} {reference} {alternate} {frequency:.3f}\n".encode("ascii")


def as_records(content: bytes, source: object) -> Bytes2D:
    """View ``content`` as an array (variants, :data:`RECORD_BYTES`); ``source`` names it in errors."""
    if len(content) % RECORD_BYTES:
        raise GenomeError(
            f"{source}: {len(content)} bytes are not whole records of {RECORD_BYTES}; delete the file and "
            "run the stage that writes it again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)


def positions(records: Bytes2D) -> NDArray[np.int64]:
    """Return the position of each record of ``records`` (variants, :data:`RECORD_BYTES`)."""
    digits = records[:, :POSITION_DIGITS].astype(np.int64) - ord("0")
    return np.asarray(digits @ _POWERS, dtype=np.int64)


def slice_lines(file: Readable, size_bytes: int, piece: int, pieces: int) -> Iterator[bytes]:
    """Yield blocks of whole lines: those that start in the ``piece``-th of ``pieces`` equal byte ranges.

    Every line of the file belongs to exactly one piece. Only the range is read, from one byte before it (to
    know whether a line starts at its first byte) to the end of its last line.
    """
    begin, end = size_bytes * piece // pieces, size_bytes * (piece + 1) // pieces
    position = max(0, begin - 1)
    file.seek(position)
    pending = b""
    inside = begin == 0
    while position < end:
        block = file.read(min(ACCESS_BYTES, end - position))
        if not block:
            raise GenomeError(
                f"{file}: shorter than the {size_bytes} bytes it had; it changed while being read"
            )
        position += len(block)
        pending += block
        if not inside:
            _, newline, pending = pending.partition(b"\n")
            inside = bool(newline)
        cut = pending.rfind(b"\n") + 1
        if cut:
            yield pending[:cut]
            pending = pending[cut:]
    if inside and pending:
        yield pending + _rest_of_line(file)


def _rest_of_line(file: Readable) -> bytes:
    rest = b""
    while block := file.read(TAIL_BYTES):
        head, newline, _ = block.partition(b"\n")
        rest += head + newline
        if newline:
            break
    return rest


def parse_vcf(lines: bytes, persons: int, source: object) -> tuple[Bytes2D, NDArray[np.bool_]]:
    """Parse whole VCF lines with phased genotypes of one digit per allele.

    Returns the variants' records (variants, :data:`RECORD_BYTES`) and who carries an alternate allele
    (variants, persons). Header lines are skipped.
    """
    records: list[bytes] = []
    genotypes: list[bytes] = []
    for line in lines.splitlines():
        if line.startswith(b"#"):
            continue
        fields = line.split(b"\t", 9)
        if len(fields) != 10 or len(fields[9]) != 4 * persons - 1:
            raise GenomeError(
                f"{source}: the line that starts with {line[:40]!r} has no genotypes of {persons} persons; "
                "generate the input again"
            )
        frequency = float(fields[7].rpartition(b"AF=")[2].partition(b";")[0])
        records.append(
            format_record(
                int(fields[1]), int(fields[2][2:]), fields[3].decode(), fields[4].decode(), frequency
            )
        )
        genotypes.append(fields[9])
    alleles = np.frombuffer(b"".join(g + b"\t" for g in genotypes), dtype=np.uint8)
    alleles = alleles.reshape(len(records), persons, 4)
    carriers = (alleles[:, :, 0] != ord("0")) | (alleles[:, :, 2] != ord("0"))
    return as_records(b"".join(records), source), carriers
