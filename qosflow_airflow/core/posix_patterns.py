"""Regular expressions of file names as ``grep -E`` takes them, for copies that a shell makes."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(
    r"\\(?P<escape>.)|(?P<group>\(\?:|\(\?P<\w+>)|(?P<special>\(\?|\{(?!\d+(?:,\d*)?\}))"
    r"|(?P<class>\[\^?\]?(?:[^\]\\]|\\.)*\])|(?P<repeat>[*+?]|\{\d+(?:,\d*)?\})|(?P<other>.)",
    re.DOTALL,
)
_CLASSES = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[[:alnum:]_]",
    "W": "[^[:alnum:]_]",
    "s": "[[:space:]]",
    "S": "[^[:space:]]",
}
_INSIDE = {"d": "0-9", "w": "[:alnum:]_", "s": "[:space:]"}


def posix_pattern(patterns: Sequence[str]) -> str | None:
    r"""Return one extended expression that matches whole names as any of ``patterns`` would.

    An empty text matches every name. ``None`` where an expression needs what POSIX does not have, such as
    looking ahead: copying all files is right then too, and only costs more.

    >>> (
    ...     posix_pattern([r"^chr\d+n\.tar$"]),
    ...     posix_pattern([r"a.*?", r"(?:b|c)+"]),
    ...     posix_pattern([r"(?=a)."]),
    ... )
    ('(^chr[0-9]+n\\.tar$)', '(a.*)|((b|c)+)', None)
    """
    translated = []
    for pattern in patterns:
        text = _translate(pattern)
        if text is None:
            return None
        translated.append(f"({text})")
    return "|".join(translated)


def _translate(pattern: str) -> str | None:
    parts = []
    before = None
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        if kind == before == "repeat":
            if text != "?":
                return None
            # The match must cover the whole name, so how greedy a repetition is makes no difference.
            before = "lazy"
            continue
        part = {"escape": _escape, "class": _class, "group": _group}.get(kind or "", str)(text)
        if part is None or kind == "special" or text == "\n":
            return None
        before = kind
        parts.append(part)
    return "".join(parts)


def _group(_text: str) -> str:
    return "("


def _escape(text: str) -> str | None:
    character = text[1]
    if character in _CLASSES:
        return _CLASSES[character]
    # Letters and digits stand for places, references and control characters.
    return None if character.isalnum() or not character.isprintable() else text


def _class(text: str) -> str | None:
    """Return a bracket expression; in POSIX a backslash stands for itself there."""
    inner, parts = text[1:-1], []
    negated = inner.startswith("^")
    inner = inner[negated:]
    if "[" in inner or "]" in inner or "^" in inner or "--" in inner or "&&" in inner:
        return None
    for token in re.finditer(r"\\(?P<escape>.)|.", inner):
        escape = token["escape"]
        if escape is None:
            parts.append(token[0])
        elif escape in _INSIDE:
            parts.append(_INSIDE[escape])
        elif escape == "-" or escape.isalnum() or escape == "\\":
            return None
        else:
            parts.append(escape)
    return f"[{'^' if negated else ''}{''.join(parts)}]" if parts else None
