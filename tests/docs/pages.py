"""The pages that people read, taken apart: fenced blocks, quotes, links and code in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples" / "genome" / "README.md",
)

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)\s*$")
_QUOTE = re.compile(r"^<!-- quote: (?P<path>\S+) -->$")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(
    r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)|<(?:img|source)[^>]*?(?:src|srcset)=\"(?P<image>[^\"]+)\""
)
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+?)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its lines, and the file that it says it quotes."""

    page: Path
    line: int
    language: str
    text: str
    quotes: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page: its fenced blocks, and its text without them, by line number."""

    path: Path
    blocks: tuple[Block, ...]
    prose: tuple[tuple[int, str], ...]

    def spans(self) -> Iterator[tuple[int, str]]:
        """Yield the code that stands within the text, with its line."""
        for line, text in self.prose:
            for span in _SPAN.findall(text):
                yield line, span

    def links(self) -> Iterator[tuple[int, str]]:
        """Yield the targets of links and images, with their line."""
        text = "\n".join(_SPAN.sub("", text) for _, text in self.prose)
        lines = [line for line, _ in self.prose]
        for found in _LINK.finditer(text):
            yield lines[text.count("\n", 0, found.start())], found["target"] or found["image"]

    def anchors(self) -> set[str]:
        """Return the anchors of the headings, as GitHub makes them."""
        titles = (found["title"] for _, text in self.prose if (found := _HEADING.match(text)))
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def read_page(path: Path) -> Page:
    """Take a page apart. A block that is not closed is an error."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    quotes: str | None = None
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            found = _QUOTE.match(line)
            quotes = found["path"] if found else (quotes if not line.strip() else None)
            prose.append((number, line))
            continue
        content = []
        for _, inner in lines:
            if inner.strip() == fence["ticks"]:
                break
            content.append(inner.removeprefix(fence["indent"]))
        else:
            raise AssertionError(f"{path}:{number}: the block is not closed")
        blocks.append(Block(path, number, fence["language"], "\n".join(content), quotes))
        quotes = None
    return Page(path, tuple(blocks), tuple(prose))


def read_pages() -> list[Page]:
    """Take all pages apart."""
    return [read_page(path) for path in PAGES]
