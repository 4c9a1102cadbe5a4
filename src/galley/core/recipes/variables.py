"""Variables: their levels, where each value came from, and templates that use other variables.

Only values in the source's own files are templates. What comes from above (a kitchen's overrides,
an order's parameters, run-time values) is data and is never rendered. Each template is rendered
once, after those that it uses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from galley.core.recipes.faults import Faults, SourceFault
from galley.core.recipes.templating import Renderer, is_template, names_in
from galley.core.recipes.values import MAX_VALUE_BYTES, NAME, fitted, kind_of, shown

_LEVEL_WORDS = {"kitchen": "the kitchen's overrides", "parameter": "the order's parameters"}


@dataclass(frozen=True, slots=True)
class SystemNames:
    """The names that the server fills in: all of them, those of a run only, those of the clock."""

    reserved: frozenset[str]
    run_time: frozenset[str]
    clock: frozenset[str]


@dataclass(slots=True)
class Variable:
    """A value with the level that gave it; `file` and `where` say where it is written."""

    value: Any
    origin: str
    file: str
    where: str
    is_text_to_render: bool = False


@dataclass(slots=True)
class Resolved:
    """All variables of a source and a variation.

    `deferred` are raw values that need run-time variables; `unknown` maps each name that nobody
    defines so far to the (file, place) of its uses. `uses_clock`: whether the present moment went
    into a value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    deferred: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    uses_clock: bool = False


def gather(
    files_levels: Iterable[tuple[str, str, str, Mapping[str, Any]]],
    levels: Sequence[tuple[str, Mapping[str, Any]]],
    names: SystemNames,
    faults: Faults,
) -> dict[str, Variable]:
    """The value of each variable at its highest level.

    `files_levels` are the source's own, lowest first, as (origin, file, place, values); `levels`
    stand above them, lowest first, as (origin, values).
    """
    levels_read = _Gathering(names.reserved, faults)
    put = levels_read.put
    for origin, file, where, values in files_levels:
        for name, value in values.items():
            variable = Variable(value, origin, file, f"{where}.{name}", _has_template(value))
            put(name, variable)
    for origin, values in levels:
        for name, value in values.items():
            place = _LEVEL_WORDS.get(origin, origin)
            put(name, Variable(value, origin, place, name))
    return levels_read.found


def resolve(
    variables: Mapping[str, Variable],
    system_values: Mapping[str, Any],
    names: SystemNames,
    faults: Faults,
) -> Resolved:
    """Render the templates among the variables, each after those that it uses."""
    return _Resolver(variables, system_values, names, faults).run()


def resolve_deferred(
    waiting: Mapping[str, Any], known: Mapping[str, Any], names: SystemNames, faults: Faults
) -> dict[str, Any]:
    """What became of deferred variables now that run-time values are known.

    Those whose names are still unknown are left out: using them is then an error.
    """
    variables = {
        name: Variable(value, "base", "variables.json", name, is_text_to_render=True)
        for name, value in waiting.items()
        if name not in known
    }
    resolved = _Resolver(variables, known, names, faults).run()
    return {name: resolved.values[name] for name in variables if name in resolved.values}


class _Gathering:
    """Puts levels on top of each other, lowest first, and checks each value against the base."""

    def __init__(self, reserved: frozenset[str], faults: Faults) -> None:
        self.found: dict[str, Variable] = {}
        self._base: dict[str, Variable] = {}
        self._reserved = reserved
        self._faults = faults

    def put(self, name: str, variable: Variable) -> None:
        """One value of one level."""
        where = f"`{variable.where}` "
        if not NAME.match(name):
            self._faults.error(
                variable.file,
                f"{where}is no name of a variable: use a-z, A-Z, digits, underscores; no digit"
                " first.",
            )
        elif name in self._reserved:
            self._faults.error(
                variable.file,
                f"{where}is a system variable, which only the server sets. Use another name.",
            )
        elif _size(variable.value) > MAX_VALUE_BYTES:
            self._faults.error(
                variable.file,
                f"{where}is larger than {MAX_VALUE_BYTES:,} bytes. Keep data in a file.",
            )
        else:
            self._fit(name, variable, where)
            self.found[name] = variable

    def _fit(self, name: str, variable: Variable, where: str) -> None:
        below = self._base.setdefault(name, variable)
        if below is variable:
            return
        variable.value, why = fitted(below.value, variable.value)
        if why is not None:
            self._faults.error(
                variable.file,
                f"{where}{why} ({shown(below.value)} in {below.file}). Give a"
                f" {kind_of(below.value)}.",
            )


class _Resolver:
    """Walks from variable to variable as their templates name each other."""

    def __init__(
        self,
        variables: Mapping[str, Variable],
        system_values: Mapping[str, Any],
        names: SystemNames,
        faults: Faults,
    ) -> None:
        self._variables = variables
        self._system = system_values
        self._system_names = names
        self._faults = faults
        self._found = Resolved()
        self._path: list[str] = []
        self._done: set[str] = set()

    def run(self) -> Resolved:
        for name in self._variables:
            self._visit(name)
        return self._found

    def _visit(self, name: str) -> None:
        if name in self._done:
            return
        if name in self._path:
            self._report_cycle([*self._path[self._path.index(name) :], name])
            return
        variable = self._variables[name]
        if not variable.is_text_to_render:
            self._settle(name, variable, variable.value)
            return
        self._path.append(name)
        used = self._names(variable)
        for other in sorted(used - {name}):
            if other in self._variables and len(self._path) < 200:  # noqa: PLR2004 - a chain's end
                self._visit(other)
        self._path.pop()
        if name not in self._done:
            self._render(name, variable, used)

    def _names(self, variable: Variable) -> set[str]:
        found: set[str] = set()
        for text in _texts(variable.value):
            try:
                found |= names_in(text, variable.file).used
            except SourceFault as fault:
                self._faults.error(variable.file, f"`{variable.where}` {fault.text}")
                variable.is_text_to_render = False
        return found

    def _render(self, name: str, variable: Variable, used: set[str]) -> None:
        self._done.add(name)
        if not variable.is_text_to_render:
            return
        if name in used and not isinstance(variable.value, dict):
            self._report_cycle([name, name])
            return
        if used & self._system_names.clock:
            self._found.uses_clock = True
        here = self._found
        unknown = used - here.values.keys() - self._system.keys() - {name}
        waiting = unknown & (here.deferred.keys() | self._system_names.run_time)
        lost = unknown - waiting - self._variables.keys()
        for other in lost:
            here.unknown.setdefault(other, []).append((variable.file, variable.where))
        if unknown:
            here.deferred[name] = variable.value
            here.origins[name] = variable.origin
            return
        try:
            value = self._rendered(name, variable)
        except SourceFault as fault:
            self._faults.error(variable.file, f"`{variable.where}` {fault.text}")
        else:
            self._settle(name, variable, value)

    def _rendered(self, name: str, variable: Variable) -> Any:
        """Leaves that use the variable itself come last, in their order."""
        context = {**self._system, **self._found.values}
        plain = _map(variable.value, lambda text: text if not is_template(text) else None)
        context[name] = _without_none(plain)
        renderer = Renderer(context)

        def first(text: str) -> Any:
            own = name in names_in(text, variable.file).used
            return _Kept(text) if own else renderer.text(text, variable.file)

        value = _map(variable.value, first)
        for _ in range(sum(isinstance(leaf, _Kept) for leaf in _leaves(value))):
            context[name] = _without_none(_map_kept(value))
            value = _render_next(value, Renderer(context), variable.file)
        return value

    def _settle(self, name: str, variable: Variable, value: Any) -> None:
        self._done.add(name)
        self._found.values[name] = value
        self._found.origins[name] = variable.origin

    def _report_cycle(self, circle: list[str]) -> None:
        variable = self._variables[circle[0]]
        self._faults.error(
            variable.file,
            f"the variables {' -> '.join(circle)} use each other in a circle. Write one of them"
            " out.",
        )
        self._done.update(circle)


class _Kept(str):
    """A template that waits for the other parts of its own variable."""

    __slots__ = ()


def _render_next(value: Any, renderer: Renderer, file: str) -> Any:
    is_done = False

    def render(text: str) -> Any:
        nonlocal is_done
        if isinstance(text, _Kept) and not is_done:
            is_done = True
            return renderer.text(str(text), file)
        return text

    return _map(value, render)


def _map_kept(value: Any) -> Any:
    return _map(value, lambda text: None if isinstance(text, _Kept) else text)


def _without_none(value: Any) -> Any:
    """The value without entries that are not there yet, so that using them is an error."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    return value


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _texts(value: Any) -> Iterable[str]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, str) and is_template(leaf))


def _has_template(value: Any) -> bool:
    return next(iter(_texts(value)), None) is not None


def _size(value: Any) -> int:
    return sum(len(leaf) if isinstance(leaf, str) else 8 for leaf in _leaves(value))
