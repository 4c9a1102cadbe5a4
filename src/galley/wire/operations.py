"""A surface's operations: what its `operations.toml` lists, and that it tells the truth.

One `[[operation]]` has `id`, `method`, `path`, `action` (of the policy table; `public` needs nobody
to be known), `state` (`done`, or `planned`: answers 501), `test` (`file::name` of the test that
asserts answer and effect; needed when done) and perhaps a `note`.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match, Mount

from galley.core.errors import NotBuilt
from galley.wire.call import WRITING_METHODS
from galley.wire.routes import CallRoute

STATES = frozenset({"done", "planned"})
_FIELDS = frozenset({"id", "method", "path", "action", "state", "test", "note"})
_NEEDED = ("id", "method", "path", "action", "state")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_PARAMETER = re.compile(r"\{[^}]*\}")


class OperationsFault(RuntimeError):
    """A surface and its list of operations do not agree; the server does not start."""

    def __init__(self, surface: str, faults: Sequence[str]) -> None:
        super().__init__(f"{surface}: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the contract: its name, address, the action that it is, and its state."""

    id: str
    method: str
    path: str
    action: str
    state: str
    test: str = ""
    note: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it is built."""
        return self.state == "done"

    @property
    def place(self) -> tuple[str, str]:
        """Method and path with nameless parameters: what must be unique."""
        return self.method, _PARAMETER.sub("{}", self.path)


class Operations:
    """All operations of one surface, in the file's order."""

    def __init__(self, surface: str, operations: Iterable[Operation]) -> None:
        self.surface = surface
        self._all = tuple(operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def planned(self) -> tuple[Operation, ...]:
        """Those that are not built yet."""
        return tuple(operation for operation in self._all if not operation.is_done)

    def add_planned(
        self, target: FastAPI | APIRouter, *, dependencies: Sequence[Any] = (), prefix: str = ""
    ) -> None:
        """Add a route for each planned operation: 501 in the dialect's shape (`NotBuilt`).

        `dependencies` (the dialect's authentication) come first; `prefix` is taken off the paths.
        """
        for operation in self.planned:
            target.add_api_route(
                operation.path.removeprefix(prefix),
                _not_built(operation),
                methods=[operation.method],
                operation_id=operation.id,
                dependencies=list(dependencies),
                response_model=None,
            )

    def check(self, app: FastAPI, actions: frozenset[str], *, prefix: str = "") -> None:
        """Hold the list against the application's routes (`prefix` stands before those).

        Raises:
            OperationsFault: a route that is not listed, an operation without a route, an action
                that the policy table does not know, a route that an earlier one hides.
        """
        found = list(_routes(app, prefix))
        listed = {operation.place: operation for operation in self._all}
        served = {(method, _PARAMETER.sub("{}", path)) for method, path in found}
        faults = [
            f"{operation.id} declares the action {operation.action}, which the policy table lacks"
            for operation in self._all
            if operation.action not in actions
        ]
        faults += [
            f"{method} {path} is served but not listed"
            for method, path in found
            if (method, _PARAMETER.sub("{}", path)) not in listed
        ]
        faults += [
            f"{method} {path} lacks route_class=CallRoute, so that keys do nothing there"
            for method, path in _keyless(app, prefix, self._all)
        ]
        faults += [
            f"{operation.id} ({operation.method} {operation.path}) is listed but has no route"
            for operation in self._all
            if operation.place not in served
        ]
        faults += [
            f"{operation.id} ({operation.method} {operation.path}) is hidden by {other}"
            for operation in self._all
            if (other := _answering(app, operation, prefix)) not in {None, operation.place[1]}
        ]
        if faults:
            raise OperationsFault(self.surface, faults)


def load_operations(source: Path | Traversable, surface: str) -> Operations:
    """Read an `operations.toml`.

    Raises:
        OperationsFault: a field is missing or unknown, two operations are the same, or one that
            is done names no test.
    """
    document = tomllib.loads(source.read_text(encoding="utf-8"))
    rows = document.get("operation", [])
    faults = [fault for number, row in enumerate(rows, 1) for fault in _faults(number, row)]
    if faults or not rows:
        raise OperationsFault(surface, faults or ["no operation is listed"])
    operations = [Operation(**row) for row in rows]
    faults = [
        *_twice("id", [operation.id for operation in operations]),
        *_twice("address", [" ".join(operation.place) for operation in operations]),
    ]
    if faults:
        raise OperationsFault(surface, faults)
    return Operations(surface, operations)


def _faults(number: int, row: dict[str, Any]) -> Iterator[str]:
    name = f"operation {row.get('id', number)}"
    missing = [key for key in _NEEDED if not row.get(key)]
    if missing:
        yield f"{name} lacks {', '.join(missing)}"
        return
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        yield f"{name} has unknown fields: {', '.join(unknown)}"
    if row["state"] not in STATES:
        yield f"{name} has the unknown state {row['state']}"
    if row["method"] not in _METHODS:
        yield f"{name} has the unknown method {row['method']}"
    if not row["path"].startswith("/"):
        yield f"{name} has a path that does not begin with a slash"
    if row["state"] == "done" and "::" not in row.get("test", ""):
        yield f"{name} is done but names no test (file::name)"


def _twice(what: str, names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"the {what} {name} is listed twice"
        seen.add(name)


def _not_built(operation: Operation) -> Callable[[], None]:
    def refuse() -> None:
        raise NotBuilt(
            f"{operation.method} {operation.path} is known but not built yet; the parity table in"
            " the documentation lists what is."
        )

    return refuse


def _routes(app: FastAPI, prefix: str) -> Iterator[tuple[str, str]]:
    """Method and path of every route, in the order of matching; HEAD beside GET is left out."""
    for route in _flat(app.routes):
        methods = set(getattr(route, "methods", None) or {"GET"})
        path = prefix + (getattr(route, "path", None) or "")
        for method in sorted(methods - ({"HEAD"} if "GET" in methods else set())):
            yield method, path


def _keyless(
    app: FastAPI, prefix: str, operations: Iterable[Operation]
) -> Iterator[tuple[str, str]]:
    """Built writes whose routes do not heed idempotency keys."""
    built = {operation.place for operation in operations if operation.is_done}
    for context in _flat(app.routes):
        path = prefix + (getattr(context, "path", None) or "")
        for method in sorted(WRITING_METHODS & set(getattr(context, "methods", None) or ())):
            is_built = (method, _PARAMETER.sub("{}", path)) in built
            if is_built and not isinstance(context.original_route, CallRoute):
                yield method, path


def _answering(app: FastAPI, operation: Operation, prefix: str) -> str | None:
    """The nameless path of the route that a call of this operation reaches first."""
    sample = _PARAMETER.sub("sample", operation.path.removeprefix(prefix))
    scope = {"type": "http", "method": operation.method, "path": sample, "root_path": ""}
    for context in _flat(app.routes):
        match, _ = context.matches(scope)
        if match is Match.FULL:
            return _PARAMETER.sub("{}", prefix + (context.path or ""))
    return None


def _flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    for context in iter_route_contexts(routes):
        if not isinstance(context.original_route, Mount):
            yield context
