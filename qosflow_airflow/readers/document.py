"""A YAML or JSON document whose values know their lines, read field by field with errors that say where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from qosflow_airflow.exceptions import QoSFlowError

Content: TypeAlias = "Mapping[str, Node] | tuple[Node, ...] | str | int | float | bool | None"

MAX_DOCUMENT_BYTES = 2**20
"""Larger documents are refused: they are written by people, and parsing them is slow."""


@dataclass(frozen=True)
class Origin:
    """The file of a document, and the class of the errors about its content."""

    source: str
    error: type[QoSFlowError]


@dataclass(frozen=True)
class Node:
    """A value of a document. ``name`` is the key or position it stands at, ``line`` where that is written.

    ``written`` is the text of a scalar that the format takes for something else, such as ``on``.
    """

    content: Content
    line: int
    name: str
    origin: Origin
    written: str = ""

    def fail(self, message: str, cure: str, *, stage: str | None = None) -> QoSFlowError:
        """Return an error about this value."""
        subject = f"`{self.name}` {message}" if self.name else message
        return self.origin.error(subject, source=self.origin.source, line=self.line, stage=stage, cure=cure)

    @property
    def kind(self) -> str:
        """What the value is, in words."""
        if isinstance(self.content, Mapping):
            return "a mapping"
        if isinstance(self.content, tuple):
            return "a list"
        return "empty" if self.content is None else repr(self.content)

    def mapping(self) -> Mapping[str, Node]:
        """Return a mapping with free names."""
        if not isinstance(self.content, Mapping):
            raise self.fail(f"is {self.kind}, not a mapping", "Write names with values below it.")
        return self.content

    def fields(self, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, Node]:
        """Return a mapping with all ``required`` names and none but these and the ``optional`` ones."""
        found = self.mapping()
        known = (*required, *optional)
        for name, node in found.items():
            if name not in known:
                raise node.fail("is not a known key", f"Use one of {', '.join(known)}.")
        self.require(required)
        return found

    def require(self, names: Collection[str]) -> None:
        """Raise an error when the mapping lacks one of ``names``."""
        missing = [name for name in names if name not in self.mapping()]
        if missing:
            raise self.fail(f"lacks {', '.join(missing)}", "Add it.")

    def sequence(self) -> tuple[Node, ...]:
        """Return a list."""
        if not isinstance(self.content, tuple):
            raise self.fail(f"is {self.kind}, not a list", "Write it as a list.")
        return self.content

    def text(self) -> str:
        """Return text that is not blank."""
        if not isinstance(self.content, str) or not self.content.strip():
            raise self.fail(
                f"is {self.kind}, not text", "Write text, in quotes where it looks like a number."
            )
        return self.content

    def label(self) -> str:
        """Return a name, as written: what may be a key may be named elsewhere."""
        return self.written or self.text()

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.content, bool):
            raise self.fail(f"is {self.kind}", "Write true or false.")
        return self.content

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self.content
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(f"is {self.kind}", f"Give a whole number from {low:,} to {high:,}.")
        return value

    def number(self, low: float, high: float) -> float:
        """Return a finite number from ``low`` to ``high``."""
        value = self.content
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(f"is {self.kind}", f"Give a number from {low:g} to {high:g}.")
        return float(value)


def repeated(node: Node, first: Node) -> QoSFlowError:
    """Return the error that ``node`` stands under a key that ``first`` has already."""
    return node.fail(f"is declared twice, first on line {first.line}", "Rename or remove one of them.")
