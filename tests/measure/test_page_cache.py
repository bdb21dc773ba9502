from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.scratch import is_memory

MIB = 1 << 20


def cached_pages(path: Path) -> int:
    """Return how many pages of a file the page cache holds (mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        held = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), held) == 0
        del start
    return sum(page & 1 for page in held)


def test_what_was_just_written_is_no_longer_cached_and_whole(tmp_path: Path) -> None:
    if is_memory(tmp_path):
        pytest.skip("the temporary folder lies in memory")
    content = os.urandom(MIB)
    kept, lost = tmp_path / "kept", tmp_path / "folder" / "sub" / "lost"
    lost.parent.mkdir(parents=True)
    for path in (kept, lost):
        path.write_bytes(content)
    assert cached_pages(lost) == MIB // mmap.PAGESIZE
    evict([tmp_path / "folder"])
    assert cached_pages(lost) == 0
    assert cached_pages(kept) == MIB // mmap.PAGESIZE
    evict([kept])
    assert cached_pages(kept) == 0
    assert kept.read_bytes() == lost.read_bytes() == content
