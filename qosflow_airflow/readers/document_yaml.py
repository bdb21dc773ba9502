"""YAML text as a :class:`Node`: composed, not constructed, so that lines stay and repeated keys are seen."""

from __future__ import annotations

import re

import yaml

from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers.document import Content, Node, Origin, repeated
from qosflow_airflow.readers.files import SourceFile

MAX_VALUES = 200_000
"""More values are refused: a few lines of nested aliases can stand for billions."""

_TAG = "tag:yaml.org,2002:"
_CONSTRUCTED = tuple(_TAG + name for name in ("null", "bool", "int", "float"))
_TEXT = tuple(_TAG + name for name in ("str", "timestamp", "value"))
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def parse_yaml(source: SourceFile, origin: Origin) -> Node:
    """Parse one YAML document.

    Raises
    ------
    BundleError
        When the text is not YAML, holds no or several documents, or is nested too deeply.
    QoSFlowError
        (of the kind of ``origin``) when a mapping has a key twice, or a value is of a type of its own.
    """
    try:
        # The loader written in C is faster, but overflows its stack on text that is nested deeply.
        root = yaml.compose(source.text, Loader=yaml.SafeLoader)
        if root is None:
            raise BundleError("holds nothing but comments", source=source.name, cure="Fill it or remove it.")
        return _Conversion(origin).node(root, "", root.start_mark.line + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BundleError(
            f"is not valid YAML: {error.problem or error.context}",
            source=source.name,
            line=None if mark is None else mark.line + 1,
            cure="Correct the text there.",
        ) from None
    except yaml.YAMLError as error:
        raise BundleError(f"is not valid YAML: {error}", source=source.name, cure="Correct it.") from None
    except RecursionError:
        raise BundleError("is nested too deeply", source=source.name, cure="Flatten it.") from None


class _Conversion:
    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.values = 0
        self.constructor = yaml.constructor.SafeConstructor()

    def node(self, given: yaml.Node, name: str, line: int) -> Node:
        self.values += 1
        if self.values > MAX_VALUES:
            raise BundleError(
                f"holds more than {MAX_VALUES:,} values",
                source=self.origin.source,
                line=line,
                cure="Remove aliases (*name) of aliases.",
            )
        written = given.value if isinstance(given, yaml.ScalarNode) else ""
        return Node(self._content(given, name, line), line, name, self.origin, written)

    def _content(self, given: yaml.Node, name: str, line: int) -> Content:
        if isinstance(given, yaml.MappingNode):
            return self._mapping(given)
        if isinstance(given, yaml.SequenceNode):
            items = enumerate(given.value)
            return tuple(self.node(item, f"{name}[{at}]", item.start_mark.line + 1) for at, item in items)
        assert isinstance(given, yaml.ScalarNode)
        return self._scalar(given, name, line)

    def _mapping(self, given: yaml.MappingNode) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in given.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
                unusable = Node(None, line, "<<" if isinstance(key, yaml.ScalarNode) else "?", self.origin)
                raise unusable.fail("cannot be a key here", "Write plain names as keys, each with its value.")
            # The text as written: a stage may be called `on` or `1`.
            node = self.node(value, key.value, line)
            if key.value in found:
                raise repeated(node, found[key.value])
            found[key.value] = node
        return found

    def _scalar(self, given: yaml.ScalarNode, name: str, line: int) -> Content:
        if given.tag in _CONSTRUCTED:
            try:
                scalar: Content = self.constructor.construct_object(given)
            except (ValueError, KeyError):
                raise self._unknown(given, name, line) from None
            return scalar
        if given.tag not in _TEXT:
            raise self._unknown(given, name, line)
        text = str(given.value)
        plain = given.style is None
        # YAML 1.1 takes 1e9 for text, for want of a point.
        return float(text) if plain and _EXPONENT.fullmatch(text) else text

    def _unknown(self, given: yaml.Node, name: str, line: int) -> Exception:
        node = Node(None, line, name, self.origin)
        return node.fail(
            f"is {given.value!r} of type {given.tag}", "Write plain text, a number, true or false."
        )
