"""Renders templates that users wrote, in a sandbox and within limits.

A value is always data: it is never rendered again, and inside a JSON text it is escaped, so that
quotes, newlines or braces in it cannot change the document around it.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, nodes
from jinja2.exceptions import (
    SecurityError,
    TemplateError,
    TemplateSyntaxError,
    UndefinedError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from galley.core.recipes.documents import parse_json
from galley.core.recipes.escaping import guard_json, json_inside, json_outside, json_writer
from galley.core.recipes.faults import SourceFault
from galley.core.recipes.functions import FUNCTIONS, power
from galley.core.recipes.later import LATER
from galley.core.recipes.plain import joined, parts_of, roots_of, values_of
from galley.core.recipes.references import find_references

MAX_OUTPUT = 5_000_000
_MAX_DEPTH = 10
_NAME = "<template>"

ReadFile = Callable[[str], str]

__all__ = [
    "LATER",
    "Names",
    "ReadFile",
    "Renderer",
    "expressions_of",
    "find_references",
    "is_template",
    "names_in",
    "render_text",
]

_watch: list[Callable[[str], None]] = []


def watch_files(tell: Callable[[str], None] | None) -> None:
    """Have `tell` called with the name of each file whose rendering begins, in this process."""
    _watch[:] = [] if tell is None else [tell]


@dataclass(frozen=True, slots=True)
class Names:
    """The variables that a template uses; `needed` are those it cannot do without."""

    used: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without its risky helpers, with bounded powers."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `left ** right` within bounds."""
        del context, operator
        return power(left, right)


def is_template(text: str) -> bool:
    """Whether there is anything to render in the text."""
    return "{{" in text or "{%" in text or "{#" in text


def names_in(source: str, file: str) -> Names:
    """The variables that the text uses, and the files that it loads by a fixed name.

    Raises:
        SourceFault: the template's syntax is wrong.
    """
    if not is_template(source):
        return Names()
    parts = parts_of(source)
    roots = None if parts is None else roots_of(parts, _TAKEN)
    return _names(source, file) if roots is None else Names(roots, roots)


def expressions_of(source: str, *, all_parts: bool = False) -> list[str]:
    """The expressions `{{ ... }}` of a well-formed template, as they are written.

    With `all_parts` the text and the statements between them come, too: joined, the parts are the
    template again, but for white space that a dash (`{{-`) takes away.
    """
    parts: list[str] = []
    part = ""
    for _, kind, value in _SANDBOX.lex(source):
        if kind == "variable_begin":
            if all_parts and part:
                parts.append(part)
            part = "{{"
        elif kind == "variable_end":
            parts.append(f"{part}}}}}")
            part = ""
        else:
            part += value
    if all_parts and part:
        parts.append(part)
    return parts if all_parts else [part for part in parts if part.startswith("{{")]


def render_text(
    source: str,
    variables: Mapping[str, Any],
    *,
    file: str = "template",
    read_file: ReadFile | None = None,
) -> str:
    """The text with its templates filled in; objects and lists appear as JSON.

    Raises:
        SourceFault: wrong syntax, an unknown variable, a forbidden act, too long a result.
    """
    return Renderer(variables, read_file).text(source, file)


class Renderer:
    """Renders several files with the same variables; `read_file` serves `load_text`.

    `below` is the folder that the files lie in, for those who watch.
    """

    def __init__(
        self, variables: Mapping[str, Any], read_file: ReadFile | None = None, below: str = ""
    ) -> None:
        self._read_file = read_file
        self._below = below
        self._depth = 0
        self._context: dict[str, Any] = {
            **FUNCTIONS,
            "load_text": self._load_text,
            **variables,
        }

    def text(self, source: str, file: str) -> str:
        """A text, rendered (see `render_text`)."""
        if not is_template(source):
            return source
        self._tell(file)
        plain = self._plain(source, file, lambda value, _: str(_finalize(value)))
        return (
            self._render(_template(source, file, is_json=False), file) if plain is None else plain
        )

    def document(self, source: str, file: str) -> Any:
        """A JSON document, rendered and parsed.

        Raises:
            SourceFault: as `render_text`, or the result is no valid JSON.
        """
        return parse_json(self.json_text(source, file), file)

    def json_text(self, source: str, file: str) -> str:
        """A JSON text, rendered: values are escaped by their place in it (see `render_text`)."""
        if not is_template(source):
            return source
        self._tell(file)
        plain = self._plain(source, file, json_writer())
        return self._render(_template(source, file, is_json=True), file) if plain is None else plain

    def _plain(self, source: str, file: str, write: Callable[[Any, str], str]) -> str | None:
        """The text of a template that needs no Jinja (see `plain`); None if it does."""
        parts = parts_of(source)
        if parts is None or roots_of(parts, _TAKEN) is None:
            return None
        values = values_of(parts, self._context)
        if values is None:
            return None
        return _join(iter(joined(parts, values, write)), file)

    def _tell(self, file: str) -> None:
        for tell in _watch:
            tell(file if self._depth else f"{self._below}{file}")

    def _render(self, template: Template, file: str) -> str:
        try:
            return _join(template.generate(self._context), file)
        except SourceFault:
            raise
        except UndefinedError as error:
            raise SourceFault(file, _undefined(error)) from error
        except SecurityError as error:
            raise SourceFault(
                file, f"{_line(error)}the template does what is not allowed: {error}. Remove it."
            ) from error
        except RecursionError as error:
            raise SourceFault(file, "the template calls itself without end.") from error
        except MemoryError as error:
            raise SourceFault(
                file, "the template needs too much memory. Make its texts and loops smaller."
            ) from error
        except TemplateError as error:
            raise SourceFault(file, f"{_line(error)}{error}") from error
        except Exception as error:  # whatever an expression raises is its author's
            raise SourceFault(
                file, f"{_line(error)}the template fails: {type(error).__name__}: {error}"
            ) from error

    def _load_text(self, path: Any) -> str:
        """The rendered text of another file of the same source."""
        if self._read_file is None:
            raise SourceFault(str(path), "load_text cannot read files here.")
        if self._depth >= _MAX_DEPTH:
            raise SourceFault(str(path), f"load_text is nested deeper than {_MAX_DEPTH} files.")
        self._depth += 1
        try:
            return self.text(self._read_file(str(path)), str(path))
        finally:
            self._depth -= 1


def _join(parts: Iterator[str], file: str) -> str:
    found: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_OUTPUT:
            raise SourceFault(
                file, f"becomes longer than {MAX_OUTPUT:,} characters when rendered. Shorten it."
            )
        found.append(part)
    return "".join(found)


def _finalize(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _make_environment() -> _Sandbox:
    sandbox = _Sandbox(
        undefined=StrictUndefined,
        finalize=_finalize,
        autoescape=False,
        keep_trailing_newline=True,
        cache_size=0,
    )
    for name in ("lipsum", "cycler", "joiner", "dict"):
        sandbox.globals.pop(name, None)
    sandbox.filters["galley_inside"] = json_inside
    sandbox.filters["galley_outside"] = json_outside
    return sandbox


_SANDBOX = _make_environment()
_TAKEN = FUNCTIONS.keys() | _SANDBOX.globals.keys() | {"load_text"}


@lru_cache(maxsize=1024)
def _parsed(source: str, file: str) -> nodes.Template:
    try:
        return _SANDBOX.parse(source, name=file, filename=_NAME)
    except TemplateSyntaxError as error:
        raise SourceFault(
            file, f"line {error.lineno}: the template is not well formed: {error.message}."
        ) from error
    except RecursionError as error:
        raise SourceFault(file, "the template is nested too deeply.") from error


@lru_cache(maxsize=1024)
def _template(source: str, file: str, *, is_json: bool) -> Template:
    tree = _parsed.__wrapped__(source, file)
    if is_json:
        guard_json(tree)
    try:
        code = _SANDBOX.compile(tree, name=file, filename=_NAME)
    except TemplateError as error:
        raise SourceFault(file, f"{_line(error)}{error}") from error
    except (RecursionError, SyntaxError, MemoryError, ValueError) as error:
        raise SourceFault(file, "the template is too deep or too large.") from error
    return Template.from_code(_SANDBOX, code, dict(_SANDBOX.globals))


@lru_cache(maxsize=1024)
def _names(source: str, file: str) -> Names:
    from jinja2 import meta

    tree = _parsed(source, file)
    try:
        used = frozenset(meta.find_undeclared_variables(tree))
    except TemplateError as error:
        raise SourceFault(file, f"{_line(error)}{error}") from error
    used = frozenset(used - _TAKEN)
    return Names(used, used - _tolerated(tree), frozenset(_loaded(tree)))


def _tolerated(tree: nodes.Template) -> set[str]:
    """Names that the template asks about (`is defined`, `default`) before it uses them."""
    found = {
        test.node.name
        for test in tree.find_all(nodes.Test)
        if test.name in {"defined", "undefined"} and isinstance(test.node, nodes.Name)
    }
    for item in tree.find_all(nodes.Filter):
        if item.name in {"default", "d"} and isinstance(item.node, nodes.Name):
            found.add(item.node.name)
    return found


def _loaded(tree: nodes.Template) -> Iterator[str]:
    for call in tree.find_all(nodes.Call):
        is_load = isinstance(call.node, nodes.Name) and call.node.name == "load_text"
        if is_load and call.args and isinstance(call.args[0], nodes.Const):
            yield str(call.args[0].value)


def _undefined(error: UndefinedError) -> str:
    text = str(error)
    if text.endswith("is undefined"):
        name = text.split("'")[1] if "'" in text else text
        return (
            f"{_line(error)}the variable {name} is not defined. Define it in variables.json, an"
            " override set, the kitchen or the order's parameters."
        )
    return f"{_line(error)}{text}. Check the name, or give the variable that entry."


def _line(error: BaseException) -> str:
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == _NAME
    ]
    return f"line {lines[-1]}: " if lines else ""
