"""Turns a source's files and a variation into a plan, or into all the issues that forbid it.

Pure functions: they run in the compiler's child process, never in the server itself.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from galley.core.errors import Issue, Refused
from galley.core.recipes.checking import Checker, Trial, warn_of_unused
from galley.core.recipes.documents import decode, parse_json
from galley.core.recipes.faults import Faults, SourceFault, refusal
from galley.core.recipes.formats import system
from galley.core.recipes.formats.folders import FolderReader, StepFolder
from galley.core.recipes.formats.recipe import (
    DESCRIPTION,
    VARIABLES,
    read_alerts,
    read_variables,
)
from galley.core.recipes.formats.steps import CONDITIONS, DEFERRED, guarded
from galley.core.recipes.formats.variations import (
    FILE,
    LEGACY_GRAPH,
    Variation,
    Variations,
    listed,
)
from galley.core.recipes.graph import Graph
from galley.core.recipes.references import find_references
from galley.core.recipes.spec import SETTLED, is_brief
from galley.core.recipes.templating import ReadFile, Renderer, is_template
from galley.core.recipes.variables import Resolved, gather, resolve
from galley.core.runs.plan import (
    MAX_STEPS,
    CompiledSource,
    Plan,
    Source,
    StepPlan,
)
from galley.core.runs.ports import CompileRequest
from galley.kit.paths import fault_of_path, find_twins

_CLOCK_IN_TEMPLATE = re.compile(
    rb"\{[{%%][^{}]*\b(?:%s)\b" % "|".join(sorted(system.NAMES.clock)).encode()
)


@dataclass(frozen=True, slots=True)
class Compilation:
    """What came of a source: the plan if there is one, all issues, and whether it stays true.

    `is_lasting` is False when the present moment went into the plan.
    """

    compiled: CompiledSource | None
    issues: tuple[Issue, ...]
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """What the files of a variation are rendered with, outside a run.

    `values` are its variables and the system's, `legacy` the names that steps write as `$name`,
    `steps` the folders of its graph. `read_text` gives a file of the source by its path.
    """

    values: Mapping[str, Any]
    legacy: frozenset[str]
    steps: frozenset[str]
    read_text: ReadFile


def compile_recipe(request: CompileRequest) -> CompiledSource:
    """The plan of a variation.

    Raises:
        Refused: the source has faults; `issues` names file, place and cure of each.
    """
    found = compile_source(request)
    if found.compiled is None:
        raise refused(request, found.issues)
    return found.compiled


def refused(request: CompileRequest, issues: Sequence[Issue]) -> Refused:
    """The refusal of a source that has these issues."""
    what = f"The recipe {request.path} (variation {request.variation})"
    return refusal(what, tuple(issues))


def check_recipe(request: CompileRequest) -> list[Issue]:
    """All issues of a variation, or of all variations if the request names none."""
    names = [request.variation] if request.variation else variation_names(request)
    issues: dict[Issue, None] = {}
    for name in names or [""]:
        wanted = dataclasses.replace(request, variation=name)
        issues.update(dict.fromkeys(compile_source(wanted).issues))
    return list(issues)


def variation_names(request: CompileRequest) -> list[str]:
    """The variations that a source has; none if its list cannot be read."""
    return _Compilation(request).variations.names


def compile_source(request: CompileRequest) -> Compilation:
    """The plan or the issues, without raising."""
    return _Compilation(request).run()


def examine_source(request: CompileRequest) -> tuple[Scope | None, tuple[Issue, ...]]:
    """What the variation's files are rendered with, and all its issues.

    There is no scope if the variation or its variables cannot be read at all.
    """
    compilation = _Compilation(request)
    issues = compilation.run().issues
    return compilation.scope, issues


class _Compilation:
    """One source, one variation, one list of faults."""

    def __init__(self, request: CompileRequest) -> None:
        self.request = request
        self.faults = Faults()
        self.scope: Scope | None = None
        self.files = request.files
        self._check_names()
        self.system = system.compile_variables(
            request.system, recipe=request.path, variation=request.variation
        )
        document = self._document(FILE)
        if document is None and FILE not in self.files:
            self.faults.error(FILE, "is missing. Add it with at least one variation and graph.")
        self.variations = Variations({} if document is None else document, self.faults)

    def run(self) -> Compilation:
        if not self.variations.names:
            return Compilation(None, self.faults.issues)
        base, legacy = read_variables(self._document(VARIABLES, {}), self.faults)
        alerts = read_alerts(self._document(DESCRIPTION, {}), self.faults)
        variation = self.variations.find(self.request.variation)
        self.variations.check_ingredients()
        if variation is None:
            return Compilation(None, self.faults.issues)
        resolved = self._resolve(base, variation)
        is_readable = not self.faults.has_errors
        values, read_text = {**resolved.values, **self.system}, guarded(self.read_text)
        renderer = Renderer(values, read_text)
        self.variations.render = lambda value, where: self._rendered(renderer, value, FILE, where)
        now: datetime = system.as_moment(self.request.system.get("now")) or datetime.now(UTC)
        settings = self.variations.settings(variation, now)
        thresholds = self.variations.thresholds(variation)
        legacy_graph = self._document(LEGACY_GRAPH)
        graph, deciding = self.variations.graph(variation, legacy_graph)
        graph = self._wanted(graph)
        if is_readable:
            self.scope = Scope(values, legacy, frozenset(graph.needs), read_text)
        steps = self._steps(graph, deciding, resolved, legacy, renderer)
        if self.faults.has_errors:
            return Compilation(None, self.faults.issues)
        warn_of_unused(self.request, resolved.origins, self.faults)
        plan = Plan(
            source=self._source(),
            steps=steps,
            variables={**resolved.values, **self._lasting_system()},
            origins={**_origins(resolved), **dict.fromkeys(self._lasting_system(), "system")},
            max_parallel=settings.max_parallel,
            limits=settings.limits,
            thresholds=thresholds,
            alerts=alerts,
            warnings=self.faults.warnings,
        )
        compiled = CompiledSource(plan, settings.schedule)
        return Compilation(compiled, self.faults.issues, is_lasting=not self._uses_clock(resolved))

    def read_text(self, path: str) -> str:
        """A file of the source as text; KeyError if there is none."""
        return decode(self.files[path], path)

    def _check_names(self) -> None:
        for path in self.files:
            if fault := fault_of_path(path):
                self.faults.error(path, f"the file's name {fault}. Rename it.")
        if twins := find_twins(self.files):
            self.faults.error(
                twins[1], f"differs from {twins[0]} in nothing but letter case. Rename one of them."
            )

    def _document(self, file: str, otherwise: Any = None) -> Any:
        """What a file holds; `otherwise` if it is not there, or not to be read."""
        if file not in self.files:
            return otherwise
        try:
            return parse_json(self.read_text(file), file)
        except SourceFault as fault:
            self.faults.error(fault.file, fault.text)
            return otherwise

    def _resolve(self, base: Mapping[str, Any], variation: Variation) -> Resolved:
        levels = [("base", VARIABLES, "variable-list", base)]
        for name, values in variation.overrides:
            levels.append(("variation", FILE, f"override-setting-list.{name}", values))
        variables = gather(levels, list(self.request.levels), system.NAMES, self.faults)
        return resolve(variables, self.system, system.NAMES, self.faults)

    def _rendered(self, renderer: Renderer, value: Any, file: str, where: str) -> Any:
        """The value with its texts rendered; a faulty one stays as it is and is reported."""
        if isinstance(value, str) and is_template(value):
            try:
                return renderer.text(value, file)
            except SourceFault as fault:
                self.faults.error(file, f"`{where}` {fault.text}" if where else fault.text)
                return value
        if isinstance(value, dict):
            return {
                key: self._rendered(renderer, item, file, f"{where}.{key}".lstrip("."))
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [
                self._rendered(renderer, item, file, f"{where}[{number}]")
                for number, item in enumerate(value)
            ]
        return value

    def _wanted(self, graph: Graph) -> Graph:
        circle = graph.find_circle()
        if circle:
            self.faults.error(
                FILE, f"the graph runs in a circle: {' -> '.join(circle)}. Remove one of its edges."
            )
            return Graph()
        wanted = self.request.only_steps
        if wanted is None:
            return graph
        for step in wanted:
            if graph.needs and step not in graph.needs:
                self.faults.error(
                    FILE,
                    f"there is no step '{step}' in the graph of this variation. Use one of"
                    f" {listed(graph.needs)}.",
                )
        return graph.only(wanted)

    def _steps(
        self,
        graph: Graph,
        deciding: dict[str, dict[str, Any]],
        resolved: Resolved,
        legacy: frozenset[str],
        renderer: Renderer,
    ) -> tuple[StepPlan, ...]:
        order = graph.sorted_steps()
        if len(order) > MAX_STEPS:
            return ()
        reader = FolderReader(
            _by_folder(self.files),
            legacy,
            lambda value, file: self._rendered(renderer, value, file, ""),
            self.faults,
        )
        checker = Checker(resolved, self.system, self.read_text, self.faults)
        planned = []
        for name in order:
            folder = reader.read(name)
            self._add_conditions(folder, deciding.get(name))
            if folder.kind in {"", "ingredient"}:
                continue
            trial = checker.try_step(folder)
            _add_deferred(folder, trial, resolved)
            planned.append(_step_plan(folder, trial, graph))
        checker.check_names(graph)
        return tuple(planned)

    def _add_conditions(self, folder: StepFolder, conditions: dict[str, Any] | None) -> None:
        if not conditions:
            return
        if folder.kind not in {"", "noop"}:
            self.faults.error(
                FILE,
                f"the step {folder.name} decides {listed(conditions)}, but only NoOp steps can."
                " Put a NoOp step behind it.",
            )
        elif len(conditions) > 1:
            self.faults.error(
                FILE, f"the step {folder.name} decides {listed(conditions)}; give it one condition."
            )
        folder.text[CONDITIONS] = json.dumps(conditions, ensure_ascii=False)

    def _source(self) -> Source:
        wish = self.request
        return Source(
            kind=wish.kind,
            project=wish.project,
            path=wish.path,
            variation=wish.variation,
            branch=wish.branch,
            commit=wish.commit,
            tree=wish.tree,
        )

    def _lasting_system(self) -> dict[str, Any]:
        values = {key: value for key, value in self.system.items() if key not in system.NAMES.clock}
        if self.request.system.get("source_date"):
            values[system.SOURCE_DATE] = self.system[system.SOURCE_DATE]
        return values

    def _uses_clock(self, resolved: Resolved) -> bool:
        return resolved.uses_clock or bool(_CLOCK_IN_TEMPLATE.search(self.files.get(FILE, b"")))


def _origins(resolved: Resolved) -> dict[str, str]:
    return {name: resolved.origins[name] for name in resolved.values}


def _by_folder(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        folder, slash, rest = path.partition("/")
        if slash:
            found.setdefault(folder, {})[rest] = content
    return found


def _add_deferred(folder: StepFolder, trial: Trial, resolved: Resolved) -> None:
    """Give the step the variables that wait for a run, if it may use one."""
    if not resolved.deferred:
        return
    refers = any("config-ref" in text for text in folder.text.values())
    if refers or resolved.deferred.keys() & (trial.used | trial.needed.keys()):
        folder.text[DEFERRED] = json.dumps(resolved.deferred, ensure_ascii=False)


def _step_plan(folder: StepFolder, trial: Trial, graph: Graph) -> StepPlan:
    body: dict[str, Any] = {"description": folder.title} if folder.title else {}
    loaded = trial.references - find_references(folder.text)
    if loaded:
        body["secrets"] = [f"#{{{name}}}" for name in sorted(loaded)]
    is_settled = trial.is_settled and DEFERRED not in folder.text
    if is_settled:
        body[SETTLED] = msgspec.to_builtins(trial.step)
    return StepPlan(
        key=folder.name,
        kind=folder.kind,
        title=folder.title,
        needs=tuple(graph.needs[folder.name]),
        body=body,
        text=folder.text,
        retry=folder.retry,
        timeout_s=folder.timeout_s,
        limits=trial.limits,
        environment=trial.environment,
        tags=folder.tags,
        brief=is_settled and is_brief(trial.step),
        on_crash=folder.on_crash,
        allow_failure=folder.allow_failure,
        keeps_history=trial.keeps_history,
    )
