"""Keeps values from changing the JSON text that a template writes them into.

The template's syntax tree is walked with a small JSON scanner: an expression inside a quoted
string is escaped as part of that string, one outside becomes a JSON value (text stays as it is,
since it may well be JSON already).
"""

import json
from collections.abc import Callable
from typing import Any

from jinja2 import Undefined, nodes


class _Scanner:
    """Whether the text read so far ends inside a quoted JSON string."""

    def __init__(self) -> None:
        self.is_inside = False
        self._is_escaped = False

    def feed(self, text: str) -> None:
        """Read on."""
        if "\\" not in text and not self._is_escaped:
            self.is_inside ^= text.count('"') % 2 == 1
            return
        for char in text:
            if self._is_escaped:
                self._is_escaped = False
            elif self.is_inside and char == "\\":
                self._is_escaped = True
            elif char == '"':
                self.is_inside = not self.is_inside


def guard_json(tree: nodes.Template) -> None:
    """Wrap every expression that the template prints, by its place in the JSON text."""
    _guard(tree.body, _Scanner())


def json_writer() -> Callable[[Any, str], str]:
    """What writes values into a JSON text as `guard_json` would, told the text before each."""
    scanner = _Scanner()

    def write(value: Any, before: str) -> str:
        scanner.feed(before)
        return json_inside(value) if scanner.is_inside else json_outside(value)

    return write


def json_inside(value: Any) -> str:
    """A value as part of a quoted JSON string."""
    if isinstance(value, dict | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return json.dumps(text, ensure_ascii=False)[1:-1]


def json_outside(value: Any) -> str:
    """A value as a JSON value; text is taken to be JSON already."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value) or "null"
    return json.dumps(value, ensure_ascii=False, default=str)


def _guard(body: list[nodes.Node], scanner: _Scanner) -> None:
    for node in body:
        if isinstance(node, nodes.Output):
            node.nodes = [_wrapped(item, scanner) for item in node.nodes]
        elif isinstance(node, nodes.If):
            _guard_if(node, scanner)
        elif isinstance(node, nodes.For):
            _guard(node.body, scanner)
            _guard(node.else_, scanner)
        elif isinstance(node, nodes.With | nodes.Scope | nodes.Block):
            _guard(node.body, scanner)


def _guard_if(node: nodes.If, scanner: _Scanner) -> None:
    """Every branch starts from the same place in the text; the first one tells where it ends."""
    start = scanner.is_inside
    _guard(node.body, scanner)
    end = scanner.is_inside
    for branch in node.elif_:
        scanner.is_inside = start
        _guard(branch.body, scanner)
    scanner.is_inside = start
    _guard(node.else_, scanner)
    scanner.is_inside = end


def _wrapped(item: nodes.Expr, scanner: _Scanner) -> nodes.Expr:
    if isinstance(item, nodes.TemplateData):
        scanner.feed(item.data)
        return item
    name = "galley_inside" if scanner.is_inside else "galley_outside"
    wrapped = nodes.Filter(item, name, [], [], None, None, lineno=item.lineno)
    if item.environment is not None:
        wrapped.set_environment(item.environment)
    return wrapped
