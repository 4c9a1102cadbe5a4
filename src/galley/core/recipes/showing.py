"""A recipe's files as a variation renders them outside a run, for their authors to read.

What only a run knows stays as it is written: an expression `{{ ... }}` that needs such a name is
left alone, and a file with a statement (`{% ... %}`) that needs one is shown unrendered, for nobody
can tell what it would become. References to secrets stay references. Pure functions, which run in
the compiler's child process. Source: contract 2.9.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from galley.core.errors import Issue
from galley.core.recipes.compile import Scope, examine_source, refused
from galley.core.recipes.documents import decode, parse_json
from galley.core.recipes.faults import SourceFault
from galley.core.recipes.formats.folders import is_rendered, with_legacy_names
from galley.core.recipes.plain import parts_of, with_stand_ins
from galley.core.recipes.templating import Renderer, expressions_of, is_template, names_in
from galley.core.runs.ports import CompileRequest, ShownFile

MAX_SHOWN = 20_000_000
_HELD = "galley_held_"


def show_recipe(request: CompileRequest) -> tuple[ShownFile, ...]:
    """Every file of the recipe, A to Z.

    A file without text is binary or too large, or it is one that the variation does not use and
    that does not render.

    Raises:
        Refused: the variation does not compile, or its files become too long together.
    """
    scope, issues = examine_source(request)
    if scope is None or any(issue.severity == "error" for issue in issues):
        raise refused(request, issues)
    preview = _Preview(scope)
    shown = []
    left = MAX_SHOWN
    for path in sorted(request.files):
        try:
            text = _shown(preview, request.files[path], path)
        except SourceFault as fault:
            if path.partition("/")[0] in scope.steps and _is_text(request.files[path], path):
                raise refused(request, [Issue(fault.file, fault.text)]) from fault
            text = None
        left -= len(text or "")
        if left < 0:
            raise refused(request, [Issue(path, _TOO_LONG)])
        shown.append(ShownFile(path, text, text is not None and _is_document(path, text)))
    return tuple(shown)


def show_file(request: CompileRequest, path: str) -> str:
    """One file of the recipe.

    Raises:
        SourceFault: the file has a fault; it bears the file's own name.
        Refused: the variation or its variables cannot be read at all.
    """
    scope, issues = examine_source(request)
    own = [issue for issue in issues if issue.file == path and issue.severity == "error"]
    if own:
        others = f" ({len(own) - 1} more)" if len(own) > 1 else ""
        raise SourceFault(path, f"{own[0].description}{others}")
    if scope is None:
        raise refused(request, issues)
    try:
        return _shown(_Preview(scope), request.files[path], path)
    except SourceFault as fault:
        place = "" if fault.file == path else f"{fault.file}: "
        raise SourceFault(path, f"{place}{fault.text}") from fault


_TOO_LONG = (
    f"with this file the compiled recipe becomes longer than {MAX_SHOWN:,} characters. Compile"
    " single files."
)


def _shown(preview: "_Preview", content: bytes, path: str) -> str:
    """The file as the variation renders it.

    Raises:
        SourceFault: it is no text, or its template fails.
    """
    text = decode(content, path)
    if "\0" in text:
        raise SourceFault(path, "is not text: it holds the character NUL.")
    if not is_rendered(path):
        return text
    if path.partition("/")[0] in preview.scope.steps:
        text = with_legacy_names(text, preview.scope.legacy)
    return preview.shown(text, path)


class _Preview(Renderer):
    """Renders what is known, and leaves the rest as it is written; also in files that it loads."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.values, scope.read_text)
        self.scope = scope
        self._known = scope.values.keys()

    def shown(self, source: str, file: str) -> str:
        """The file, rendered; values in a JSON file are escaped as they are in a run."""
        ready = self._ready(source, file)
        if ready is None:
            return source
        if not file.endswith(".json"):
            return super().text(ready, file)
        return super().json_text(ready, file)

    def text(self, source: str, file: str) -> str:
        """A file that a template loads."""
        ready = self._ready(source, file)
        return source if ready is None else super().text(ready, file)

    def _ready(self, source: str, file: str) -> str | None:
        """The template with a stand-in for each expression that is left; None if all of it is."""
        if not is_template(source):
            return None
        unknown = names_in(source, file).used - self._known
        if not unknown:
            return source
        if parts_of(source) is not None:
            return with_stand_ins(source, unknown, self._hold)
        held = {
            part: self._hold(part)
            for part in expressions_of(source)
            if not unknown.isdisjoint(names_in(part, file).used)
        }
        ready = "".join(held.get(part, part) for part in expressions_of(source, all_parts=True))
        left = names_in(ready, file).used & unknown
        return None if left else ready

    def _hold(self, expression: str) -> str:
        name = f"{_HELD}{len(self._context)}"
        self._context[name] = expression.strip()
        return f"{{{{{name}}}}}"


def _is_text(content: bytes, path: str) -> bool:
    try:
        return "\0" not in decode(content, path)
    except SourceFault:
        return False


def _is_document(path: str, text: str) -> bool:
    """Whether the text is a JSON object, which may be sent on as such."""
    if not path.endswith(".json"):
        return False
    try:
        return isinstance(parse_json(text, path), dict) and _is_strict(text)
    except SourceFault:
        return False


def _is_strict(text: str) -> bool:
    try:
        found: Mapping[str, Any] = msgspec.json.decode(text, type=dict)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return found is not None
