"""Each row of the table of faults is a test that exists, and each test of faults is a row."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, read_page

ROWS = [text for _, text in read_page(ROOT / "docs" / "faults.md").prose if text.startswith("| ")][1:]
NOT_FAULTS = {
    "test_what_a_process_at_work_writes_to_is_left_alone",
    "test_what_an_earlier_recommendation_left_is_of_another_run",
    "test_all_stages_follow_the_newest_plan",
}
"""Tests beside those of faults: what must not happen."""


def named() -> list[tuple[str, str]]:
    return [found for row in ROWS for found in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)]


def test_each_row_names_a_test_that_exists() -> None:
    assert len(named()) == len(ROWS) > 15
    for path, name in named():
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_each_test_of_faults_is_a_row() -> None:
    files = [
        *(ROOT / "tests" / "faults").glob("test_*.py"),
        *(ROOT / "tests" / "kubernetes").glob("test_pod_fa*.py"),
    ]
    written = {name for file in files for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.M)}
    assert written - NOT_FAULTS == {name for path, name in named() if "/system/" not in path}
