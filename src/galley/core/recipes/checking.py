"""Finds, before anything runs, what would fail in a step: faulty files and unknown variables.

A step's files are rendered with stand-ins for what only a run knows. A file that needs none is
judged in full; of the others only what does not depend on a stand-in is reported.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from galley.core.recipes.faults import Faults, SourceFault
from galley.core.recipes.formats import system
from galley.core.recipes.formats.checks import may_keep_history
from galley.core.recipes.formats.folders import StepFolder
from galley.core.recipes.formats.scripts import CONFIG
from galley.core.recipes.formats.steps import CONDITIONS, DEFERRED, NOTEBOOK, StepReader, exports_of
from galley.core.recipes.functions import FUNCTIONS
from galley.core.recipes.graph import Ancestry, Graph
from galley.core.recipes.references import find_references
from galley.core.recipes.spec import PAST, CheckSpec, StepSpec
from galley.core.recipes.templating import LATER, is_template, names_in
from galley.core.recipes.values import NAME
from galley.core.recipes.variables import Resolved
from galley.core.runs.plan import Environment, Limits
from galley.core.runs.ports import CompileRequest
from galley.kit.nearest import did_you_mean

_ALWAYS = system.RESERVED | FUNCTIONS.keys() | {"True", "False", "None", "load_text"}
_ORIGINS = {CONDITIONS: "variations.json", DEFERRED: "variables.json"}
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPE = re.compile(rb"\\(?:[nrtbf]|u[0-9A-Fa-f]{4})")
_ORDER = "the order"
_MOST_SEARCHED = 2_000_000
_READ_ALIKE = {"noop"}
"""Step kinds whose files, templates and secrets aside, are read alike whatever the variables."""
_CURE = (
    "Define it in variables.json, an override set, the kitchen or the order's parameters, or have"
    " an earlier step set it."
)


@dataclass(slots=True)
class Trial:
    """What one step's files say, as far as it is known before a run.

    `is_settled`: no run can make them say anything else, and nothing in them needs a warning.
    """

    step: StepSpec
    limits: Limits = field(default_factory=Limits)
    environment: Environment = field(default_factory=Environment)
    exports: set[str] = field(default_factory=set)
    needed: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    is_opaque: bool = False
    keeps_history: bool = False
    is_settled: bool = False


class Checker:
    """Tries steps with what is known; then checks the names that they use against each other."""

    def __init__(
        self,
        resolved: Resolved,
        system_values: Mapping[str, Any],
        read_file: Callable[[str], str],
        faults: Faults,
    ) -> None:
        self._resolved = resolved
        self._known = {**resolved.values, **system_values}
        self._read_file = read_file
        self._faults = faults
        self._later = dict.fromkeys((*resolved.deferred, *system.RUN_TIME), LATER)
        self.trials: dict[str, Trial] = {}

    def try_step(self, folder: StepFolder) -> Trial:
        """Render and read the step's files; remember what it exports and needs."""
        needed, used, dynamic = self._names(folder)
        unknown = used - self._known.keys() - self._later.keys()
        context = {**self._known, **self._later}
        context.update(dict.fromkeys(unknown, LATER))
        found = Faults()
        reader = StepReader(
            folder.text,
            context,
            self._read_file,
            secrets=None,
            faults=found,
            below=f"{folder.name}/",
        )
        step = reader.read(folder.kind)
        self._report(folder, found, dynamic)
        trial = Trial(
            step,
            limits=reader.limits if NOTEBOOK not in dynamic else Limits(),
            environment=step.environment if not dynamic & {NOTEBOOK, CONFIG} else Environment(),
            exports=exports_of(step) - {""},
            needed=needed,
            used=used,
            references=find_references(msgspec.to_builtins(step)),
            is_opaque=step.kind == "script" and not step.scripts and not step.program,
            keeps_history=_keeps_history(step)
            or any(may_keep_history(folder.text[file]) for file in dynamic),
            is_settled=step.kind in _READ_ALIKE
            and not found.issues
            and not any(map(is_template, folder.text.values()))
            and not find_references(folder.text),
        )
        for file, names in _checked_names(step):
            for name in names:
                trial.needed.setdefault(name, file)
        self.trials[folder.name] = trial
        return trial

    def check_names(self, graph: Graph) -> None:
        """Report variables that nothing defines, or that are set too late."""
        exporters: dict[str, list[str]] = {}
        for name, trial in self.trials.items():
            for exported in trial.exports:
                exporters.setdefault(exported, []).append(name)
        opaque = [name for name, trial in self.trials.items() if trial.is_opaque]
        ancestry = Ancestry(graph.needs)
        for step, trial in self.trials.items():
            for name, file in trial.needed.items():
                if self._is_given(name) or name in trial.exports or trial.is_opaque:
                    continue
                setters = exporters.get(name, [])
                if (setters or opaque) and ancestry.precedes([*setters, *opaque], step):
                    continue
                self._faults.error(
                    _ORIGINS.get(file, f"{step}/{file}"), _missing(name, setters, step)
                )
        for name, places in self._resolved.unknown.items():
            if name not in exporters and not opaque:
                for file, where in places:
                    self._faults.error(file, f"`{where}` {_missing(name, [], '')}")

    def _is_given(self, name: str) -> bool:
        return name in self._known or name in self._later or name in _ALWAYS

    def _names(self, folder: StepFolder) -> tuple[dict[str, str], set[str], set[str]]:
        """Needed name -> file that needs it; all names used; files that only a run can render."""
        needed: dict[str, str] = {}
        used: set[str] = set()
        dynamic: set[str] = set()
        for file, source in folder.text.items():
            if not is_template(source):
                continue
            here = self._names_of_file(source, file, set(), needed, folder.name)
            used |= here
            if here - self._known.keys() - {system.KEY_NAME}:
                dynamic.add(file)
        return needed, used, dynamic

    def _names_of_file(
        self, source: str, file: str, seen: set[str], needed: dict[str, str], step: str
    ) -> set[str]:
        try:
            names = names_in(source, file)
        except SourceFault as fault:
            own = _ORIGINS.get(file, f"{step}/{file}")
            place = fault.file if seen else own
            self._faults.error(place, fault.text)
            return set()
        for name in names.needed:
            needed.setdefault(name, file)
        used = set(names.used)
        for path in sorted(names.files - seen):
            seen.add(path)
            try:
                used |= self._names_of_file(self._read_file(path), path, seen, needed, step)
            except (KeyError, SourceFault):
                continue
        return used

    def _report(self, folder: StepFolder, found: Faults, dynamic: set[str]) -> None:
        """Keep what is sure: with a stand-in's fault in one file, links to it prove nothing."""
        is_shaken = any(issue.file in dynamic for issue in found.issues)
        for issue in found.issues:
            is_open = issue.file in dynamic or (is_shaken and issue.file == NOTEBOOK)
            if is_open and not found.is_sure(issue):
                continue
            if dynamic and issue.file not in folder.text and issue.severity == "error":
                continue
            place = _place(folder, issue.file)
            if issue.severity == "warning":
                self._faults.warning(place, issue.description)
            else:
                self._faults.error(place, issue.description)


def warn_of_unused(request: CompileRequest, known: Iterable[str], faults: Faults) -> None:
    """Tell of what an order gives under names that stand nowhere else: slips, most often.

    Searched are the source's files and the values of the levels above them; sources of more than
    2 MB are not searched.
    """
    levels = dict(request.levels)
    given = levels.get("parameter", {}).keys() - levels.get("kitchen", {}).keys()
    left = {name for name in given if NAME.match(name)}
    if not left or sum(map(len, request.files.values())) > _MOST_SEARCHED:
        return
    values = (json.dumps(list(level.values()), default=str) for level in levels.values())
    texts = [*request.files.values(), *map(str.encode, values)]
    words = {word for text in texts for word in _words(text)}
    unused = {name for name in left if name.encode() not in words}
    for name in sorted(unused):
        near = did_you_mean(name, set(known) - unused)
        faults.warning(_ORDER, f"what it gives as `{name}` is used by nothing in the recipe{near}.")


def _words(text: bytes) -> Iterable[bytes]:
    """Every word of a text, read as it is and as JSON, where a name may follow an escape."""
    yield from _WORD.findall(text)
    yield from _WORD.findall(_ESCAPE.sub(b" ", text))


def _place(folder: StepFolder, file: str) -> str:
    """The file as the recipe's author knows it."""
    if file in _ORIGINS:
        return _ORIGINS[file]
    return f"{folder.name}/{file}" if file in folder.text else file


def _missing(name: str, setters: list[str], step: str) -> str:
    if setters:
        return (
            f"uses the variable {name}, which is set by the step {setters[0]}; that step does not"
            f' run before {step}. Add the edge ["{setters[0]}", "{step}"].'
        )
    return f"uses the variable {name}, which nothing defines. {_CURE}"


def _checked_names(step: StepSpec) -> Iterable[tuple[str, set[str]]]:
    """The variables that a step's checks and conditions look at, by file."""
    yield NOTEBOOK, _names_of_checks(step.checks)
    yield CONDITIONS, {condition.variable for condition in step.conditions} - {""}
    places = (("data_sources", step.sources), ("data_sinks", step.sinks), ("actions", step.actions))
    for folder, endpoints in places:
        for endpoint in endpoints:
            yield f"{folder}/{endpoint.name}.json", _names_of_checks(endpoint.checks)


def _keeps_history(step: StepSpec) -> bool:
    ends = (*step.sources, *step.sinks, *step.actions)
    checks = (*step.checks, *(check for end in ends for check in end.checks))
    return any(check.keep_history for check in checks)


def _names_of_checks(checks: Iterable[CheckSpec]) -> set[str]:
    found: set[str] = set()
    for check in checks:
        if check.variable and not find_references(check.variable):
            found.add(check.variable.split(".")[0].split("[")[0].strip())
        if check.expression:
            past = PAST if check.keep_history else ()
            found |= _names_of_expression(check.expression) - set(past)
    return found - {""}


def _names_of_expression(text: str) -> set[str]:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    bound = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return names - bound
