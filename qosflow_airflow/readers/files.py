"""Bytes and text of one input file, and every way it can be unreadable as a :class:`BundleError`."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from qosflow_airflow.exceptions import BundleError

MAX_FILE_BYTES = 2**30
"""Larger files are refused: tables are held in memory."""


@dataclass(frozen=True)
class SourceFile:
    """A file's content, read once, so that what is hashed is what is parsed."""

    path: Path
    data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The file as errors name it."""
        return str(self.path)

    @cached_property
    def sha256(self) -> str:
        """The content's SHA-256, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def text(self) -> str:
        """The content as text, without a byte order mark.

        Raises
        ------
        BundleError
            When the file is empty, is not UTF-8, or holds a NUL byte.
        """
        if self.data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BundleError("is UTF-16 text, not UTF-8", source=self.name, line=1, cure="Save it as UTF-8.")
        try:
            text = self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # The offset counts from the end of a byte order mark.
            offset = error.start + (len(self.data) - len(error.object))
            raise BundleError(
                f"byte {self.data[offset]:#04x} at offset {offset} is not UTF-8",
                source=self.name,
                line=self._line(offset),
                cure="Save the file as UTF-8.",
            ) from None
        nul = self.data.find(b"\x00")
        if nul >= 0:
            raise BundleError(
                f"holds a NUL byte at offset {nul}",
                source=self.name,
                line=self._line(nul),
                cure="Write the file again: it is damaged or not text.",
            )
        if not text.strip():
            raise BundleError("is empty", source=self.name, cure="Fill it or remove it.")
        return text

    def _line(self, offset: int) -> int:
        return self.data.count(b"\n", 0, offset) + 1


def read_file(
    file: str | Path | SourceFile, *, limit_bytes: int = MAX_FILE_BYTES, follow_link: bool = True
) -> SourceFile:
    """Read a regular file of at most ``limit_bytes``; a file that has been read already is returned as it is.

    Raises
    ------
    BundleError
        When the file is missing, may not be read, is not a regular file, or is too large.
    """
    if isinstance(file, SourceFile):
        if len(file.data) > limit_bytes:
            raise _too_large(file.path, len(file.data), limit_bytes)
        return file
    path = Path(file)
    # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_link else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot be read: {_reason(error)}", source=path, cure="Check the path.") from None
    try:
        data = _content(descriptor, path, limit_bytes)
    finally:
        os.close(descriptor)
    return SourceFile(path, data)


def _content(descriptor: int, path: Path, limit_bytes: int) -> bytes:
    # The open file is looked at, not its path, which may point elsewhere by now.
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise BundleError("is not a regular file", source=path, cure="Give a file with data in it.")
    if status.st_size > limit_bytes:
        raise _too_large(path, status.st_size, limit_bytes)
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:  # it grows
        raise _too_large(path, len(data), limit_bytes)
    return data


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _too_large(path: Path, size_bytes: int, limit_bytes: int) -> BundleError:
    return BundleError(
        f"is {size_bytes:,} bytes, more than the {limit_bytes:,} that are read",
        source=path,
        cure="Split it or reduce it.",
    )
