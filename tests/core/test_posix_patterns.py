from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.posix_patterns import posix_pattern

NAMES = [
    "a.tar",
    "chr1n-2-3.tar",
    "chr12n.tar",
    "a+b",
    "x?",
    "EUR",
    "E_R",
    "a b",
    "{1}",
    "a}",
    "aaa",
    "-",
    "b]",
]
ATOMS = [
    "a",
    "b",
    r"\.",
    ".",
    r"\d",
    r"\w",
    r"\S",
    "[a-c]",
    r"[^\d]",
    r"[\w.-]",
    "(?:a|b)",
    "(chr)",
    r"\?",
    r"\+",
]
REPEATS = ["", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{1,2}?"]


def grep(pattern: str, names: list[str]) -> list[str]:
    done = subprocess.run(
        ["grep", "-Ex", "-e", pattern], input="\n".join(names), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


@given(st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(REPEATS)), min_size=1, max_size=5))
def test_grep_finds_what_python_matches(parts: list[tuple[str, str]]) -> None:
    pattern = "".join(atom + repeat for atom, repeat in parts)
    translated = posix_pattern([pattern])
    assert translated is not None
    assert grep(translated, NAMES) == [name for name in NAMES if re.fullmatch(pattern, name)]


def test_any_of_several_is_enough() -> None:
    translated = posix_pattern([r"^chr\d+n\.tar$", "[A-Z]{3}"])
    assert translated is not None
    assert grep(translated, NAMES) == ["chr12n.tar", "EUR"]


@pytest.mark.parametrize("pattern", ["(?=a).", "(?!a).", r"(a)\1", r"\bword", r"\x41", "a++", "a{b", "a\nb"])
def test_what_posix_lacks_is_said(pattern: str) -> None:
    assert posix_pattern([pattern]) is None


def test_no_pattern_is_an_empty_one() -> None:
    assert posix_pattern([]) == ""
