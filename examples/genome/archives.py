"""Archives of per-person files: uncompressed tar streams whose bytes depend on their content alone.

Uncompressed, so that a stage spends its time on storage and not on a compressor.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from collector import TracedFile
from errors import GenomeError
from variants import ACCESS_BYTES


class ArchiveWriter:
    """Adds members to a tar stream; time stamps and owners are blank, so equal content gives equal bytes."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, content: bytes) -> None:
        """Append the file ``name``."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


@contextmanager
def write_archive(file: TracedFile) -> Iterator[ArchiveWriter]:
    """Write an archive into ``file`` in accesses of :data:`~variants.ACCESS_BYTES`."""
    with tarfile.open(
        fileobj=cast("IO[bytes]", file), mode="w|", bufsize=ACCESS_BYTES, format=tarfile.USTAR_FORMAT
    ) as tar:
        yield ArchiveWriter(tar)


def read_archive(file: TracedFile) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member, in order, reading ``file`` once from start to end."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|", bufsize=ACCESS_BYTES) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    yield member.name, content.read()
    except (tarfile.TarError, EOFError) as error:
        raise GenomeError(
            f"{file}: not a whole archive ({error}); delete it and run the stage that writes it again"
        ) from error
