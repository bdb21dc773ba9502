"""What the import contracts in pyproject.toml cannot say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "qosflow_airflow"
PURE_ROOMS = ("core", "learn", "simulate")
PURE_MODULES = sorted(path for room in PURE_ROOMS for path in (PACKAGE / room).rglob("*.py"))

IMPURE = {"open", "print", "input", "Path", "io.open"}
IMPURE_PREFIXES = ("np.random.seed", "np.random.rand", "random.")
# Pure only when they read from memory.
READERS = {"pd.read_csv", "pd.read_json", "np.load", "np.loadtxt", "np.genfromtxt"}
MEMORY = {"io.BytesIO", "io.StringIO", "BytesIO", "StringIO"}


def dotted(node: ast.AST | None) -> str:
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_impure(call: ast.Call) -> bool:
    name = dotted(call)
    if name in READERS:
        return dotted(next(iter(call.args), None)) not in MEMORY
    return name in IMPURE or name.startswith(IMPURE_PREFIXES)


def impure_calls(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"line {call.lineno}: {dotted(call)}" for call in calls if is_impure(call)]


@pytest.mark.parametrize("path", PURE_MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_rooms_touch_no_file_terminal_or_global_randomness(path: Path) -> None:
    assert impure_calls(path.read_text(encoding="utf-8")) == []


def test_the_check_sees_what_it_should() -> None:
    assert impure_calls("from pathlib import Path\nPath('x').read_text()") == ["line 2: Path"]
    assert impure_calls("np.random.rand(3)") == ["line 1: np.random.rand"]
    assert impure_calls("np.random.default_rng(3).normal()") == []
    assert impure_calls("pd.read_csv(io.BytesIO(data))") == []
    assert impure_calls("pd.read_csv(name)") == ["line 1: pd.read_csv"]
