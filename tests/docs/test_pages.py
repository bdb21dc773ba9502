"""Quotes are what the quoted files hold, links lead somewhere, and the pages keep to themselves."""

from __future__ import annotations

import re
import textwrap
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, Block, Page, read_page, read_pages

PAGES = read_pages()
QUOTES = [block for page in PAGES for block in page.blocks if block.quotes]


@pytest.mark.parametrize("block", QUOTES, ids=str)
def test_a_quote_is_verbatim(block: Block) -> None:
    assert block.quotes is not None
    assert is_quoted(block.text, (ROOT / block.quotes).read_text(encoding="utf-8")), (
        f"{block} is not in {block.quotes} as it stands there; copy the lines again"
    )


def is_quoted(quote: str, text: str) -> bool:
    """Return whether ``quote`` is a run of whole lines of ``text``, indented less at most."""
    lines, wanted = text.splitlines(), quote.splitlines()
    windows = ("\n".join(lines[at : at + len(wanted)]) for at in range(len(lines) - len(wanted) + 1))
    return any(quote in (window, textwrap.dedent(window)) for window in windows)


def test_a_changed_quote_is_noticed() -> None:
    text = "def f():\n    a = 1\n    b = 2\n"
    assert is_quoted("a = 1\nb = 2", text)
    assert is_quoted("    a = 1", text)
    assert not is_quoted("a = 1\nb = 3", text)
    assert not is_quoted("a =", text)


def test_both_dags_and_the_bundle_of_the_example_are_quoted() -> None:
    quoted = {block.quotes for block in QUOTES}
    assert {"dags/genome_local.py", "dags/qosflow_pipeline.py", "examples/genome/workflow.yaml"} <= quoted


def test_python_that_is_shown_is_a_quote_of_a_file() -> None:
    loose = [
        str(block)
        for page in PAGES
        for block in page.blocks
        if block.language == "python" and not block.quotes
    ]
    assert not loose, "no test reads these; quote a file that the tests run"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for line, target in page.links():
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        found = (page.path.parent / path).resolve() if path else page.path
        if not found.exists() or not found.is_relative_to(ROOT):
            broken.append(f"line {line}: there is no {target}")
        elif anchor and anchor not in read_page(found).anchors():
            broken.append(f"line {line}: {found.name} has no heading for #{anchor}")
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in reached:
            continue
        reached.add(path)
        targets = (target.partition("#")[0] for _, target in read_page(path).links())
        left += [
            found for t in targets if t.endswith(".md") and (found := (path.parent / t).resolve()).exists()
        ]
    assert {page.path for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_names_no_place_of_one_machine(page: Page) -> None:
    text = page.path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:/root/|/home/|/var/tmp/|/tmp/pytest)", text)


@pytest.mark.parametrize("image", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.name)
def test_an_image_is_well_formed_and_can_be_read_out(image) -> None:
    root = ElementTree.fromstring(image.read_text(encoding="utf-8"))
    names = [child.tag.rpartition("}")[2] for child in root]
    assert "title" in names
    assert "desc" in names
