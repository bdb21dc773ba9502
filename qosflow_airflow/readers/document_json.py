"""JSON text as a :class:`Node`: the standard parser, and a walk that keeps lines and sees repeated keys."""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers.document import Node, Origin, repeated
from qosflow_airflow.readers.files import SourceFile

_BLANKS = re.compile(r"[ \t\r\n]*")


def parse_json(source: SourceFile, origin: Origin) -> Node:
    """Parse JSON text.

    Raises
    ------
    BundleError
        When the text is not JSON, or is nested too deeply.
    QoSFlowError
        (of the kind of ``origin``) when a mapping has a key twice.
    """
    text = source.text
    try:
        json.loads(text)
        return _Walk(text, origin).document()
    except json.JSONDecodeError as error:
        raise BundleError(
            f"is not valid JSON at character {error.colno}: {error.msg}",
            source=source.name,
            line=error.lineno,
            cure="Correct the text there.",
        ) from None
    except RecursionError:
        raise BundleError("is nested too deeply", source=source.name, cure="Flatten it.") from None
    except ValueError as error:  # Python refuses integers of thousands of digits
        raise BundleError(str(error), source=source.name, cure="Write smaller numbers.") from None


class _Walk:
    """Positions in text that is known to be JSON."""

    def __init__(self, text: str, origin: Origin) -> None:
        self.text = text
        self.origin = origin
        self.decoder = json.JSONDecoder()
        self.newlines = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Node:
        at = self._skip(0)
        return self._value(at, "", self._line(at))[0]

    def _value(self, at: int, name: str, line: int) -> tuple[Node, int]:
        """Return the value that begins at ``at``, and where it ends."""
        if self.text[at] == "{":
            return self._mapping(at, name, line)
        if self.text[at] == "[":
            return self._list(at, name, line)
        scalar, end = self.decoder.raw_decode(self.text, at)
        return Node(scalar, line, name, self.origin), end

    def _mapping(self, at: int, name: str, line: int) -> tuple[Node, int]:
        found: dict[str, Node] = {}
        at = self._skip(at + 1)
        while self.text[at] != "}":
            key, end = self.decoder.raw_decode(self.text, at)
            key_line = self._line(at)
            node, end = self._value(self._skip(self._skip(end) + 1), key, key_line)
            if key in found:
                raise repeated(node, found[key])
            found[key] = node
            at = self._skip(end)
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return Node(found, line, name, self.origin), at + 1

    def _list(self, at: int, name: str, line: int) -> tuple[Node, int]:
        found: list[Node] = []
        at = self._skip(at + 1)
        while self.text[at] != "]":
            node, end = self._value(at, f"{name}[{len(found)}]", self._line(at))
            found.append(node)
            at = self._skip(end)
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return Node(tuple(found), line, name, self.origin), at + 1

    def _skip(self, at: int) -> int:
        match = _BLANKS.match(self.text, at)
        assert match is not None
        return match.end()

    def _line(self, at: int) -> int:
        return bisect_right(self.newlines, at) + 1
