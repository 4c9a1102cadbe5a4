"""A step's files, rendered and read: what `core.recipes.spec` holds.

`load_step` runs in the step's own process, with all variables; the compiler runs it too, with
stand-ins for what only a run knows, to find faults early.
"""

from collections.abc import Callable, Mapping
from typing import Any

from galley.core.recipes.documents import parse_json
from galley.core.recipes.faults import Faults, SourceFault, refusal
from galley.core.recipes.formats import system
from galley.core.recipes.formats.checks import read_checks
from galley.core.recipes.formats.conditions import read_conditions
from galley.core.recipes.formats.endpoints import KEY_MARK, EndpointReader
from galley.core.recipes.formats.mappings import read_mappings
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.scripts import (
    CONFIG,
    FOLDER,
    OF_IMAGES,
    OF_IMAGES_LATER,
    read_scripts,
)
from galley.core.recipes.references import replace_references
from galley.core.recipes.spec import EndpointSpec, StepSpec
from galley.core.recipes.templating import LATER, Renderer, is_template, names_in
from galley.core.recipes.variables import resolve_deferred
from galley.core.runs.plan import Limits

NOTEBOOK = "notebook.json"
DEFERRED = "@variables.json"
CONDITIONS = "@conditions.json"
ROLES = {"data_sources": "source", "data_sinks": "sink", "actions": "action"}
FOLDERS = {
    "noop": (),
    "transfer": ("data_sources", "data_sinks"),
    "action": ("actions",),
    "script": ("data_sources", "data_sinks"),
}
_MAX_SLEEP_S = 7 * 24 * 3600.0

ReadFile = Callable[[str], str]


def load_step(
    kind: str,
    text: Mapping[str, str],
    variables: Mapping[str, Any],
    *,
    read_file: ReadFile,
    secrets: Mapping[str, str] | None = None,
    warn: Callable[[str, str], None] | None = None,
) -> StepSpec:
    """The step as it runs now: its files rendered with the variables, read and checked.

    `text` is `StepPlan.text`; `read_file` gives a file of the source by its path below the source
    (KeyError or FileNotFoundError if there is none). `secrets` maps `vault://path/item` to values
    and replaces references in what was rendered; None leaves them as they are. `warn` is told the
    file and the text of each warning. Look at `StepSpec.late` for variables that make a second call
    needful.

    Raises:
        Refused: a file does not render or says what cannot be; `issues` names all faults.
    """
    faults = Faults()
    known = _with_deferred(text, variables, faults)
    unknown = names_used(text, read_file) - known.keys()
    late: frozenset[str] = frozenset()
    if unknown:
        stand_ins = {**known, **dict.fromkeys(unknown, LATER)}
        draft = read_step(kind, text, stand_ins, read_file=read_file, faults=Faults())
        late = frozenset(unknown & exports_of(draft))
        known = {**known, **dict.fromkeys(late, LATER)}
    step = read_step(
        kind, text, known, read_file=read_file, secrets=secrets, faults=faults, late=late
    )
    if warn is not None:
        for issue in faults.issues:
            if issue.severity == "warning" and (not late or faults.is_sure(issue)):
                warn(issue.file, issue.description)
    if faults.has_errors:
        raise refusal("The step", faults.issues)
    return step


def read_step(
    kind: str,
    text: Mapping[str, str],
    variables: Mapping[str, Any],
    *,
    read_file: ReadFile,
    faults: Faults,
    secrets: Mapping[str, str] | None = None,
    late: frozenset[str] = frozenset(),
) -> StepSpec:
    """As `load_step`, but faults are only collected, and what is sound is read."""
    reader = StepReader(text, variables, read_file, secrets=secrets, faults=faults)
    step = reader.read(kind, tuple(sorted(late)))
    reader.report_missing_secrets()
    return step


def names_used(text: Mapping[str, str], read_file: ReadFile) -> set[str]:
    """The variables that the step's templates use; faulty templates count as using none."""
    found: set[str] = set()
    for file, source in text.items():
        if file != DEFERRED and is_template(source):
            found |= _names_below(source, file, read_file, set())
    return found - {system.KEY_NAME, system.NOW, system.SOURCE_DATE}


def exports_of(step: StepSpec) -> set[str]:
    """The run-time variables that a step sets."""
    found = {*step.assign}
    for endpoint in (*step.sources, *step.sinks, *step.actions):
        found.update(endpoint.exports.values())
        templates = (endpoint.key_template,) if endpoint.key_template else ()
        for key in (*endpoint.keys, *templates):
            found.update(key.exports.values())
    for script in step.scripts:
        found.update(script.exports, script.assign)
    return found


class StepReader:
    """Renders and reads the files of one step. `limits` are known after `read`."""

    limits: Limits = Limits()

    def __init__(
        self,
        text: Mapping[str, str],
        variables: Mapping[str, Any],
        read_file: ReadFile,
        *,
        secrets: Mapping[str, str] | None,
        faults: Faults,
        below: str = "",
    ) -> None:
        self._text = text
        self._faults = faults
        self._secrets = secrets
        self._missing: set[str] = set()
        self._read_file = guarded(read_file)
        self._variables = {**_clock(variables), **variables, system.KEY_NAME: KEY_MARK}
        self._renderer = Renderer(self._variables, self._read_file, below)

    def read(self, kind: str, late: tuple[str, ...] = ()) -> StepSpec:
        """The step; its faults go to the list."""
        notebook = self._section(NOTEBOOK)
        step = self._read(kind, notebook, late)
        if kind == "script":
            notebook.warn_of_unknown(also=OF_IMAGES, later=OF_IMAGES_LATER)
        else:
            notebook.warn_of_unknown()
        return step

    def _read(self, kind: str, notebook: Section, late: tuple[str, ...]) -> StepSpec:
        ends = {role: self._endpoints(kind, folder) for folder, role in ROLES.items()}
        common: dict[str, Any] = {
            "kind": kind,
            "sources": ends["source"],
            "sinks": ends["sink"],
            "actions": ends["action"],
            "checks": read_checks(notebook),
            "artifacts": notebook.texts("artifacts"),
            "late": late,
        }
        if kind == "noop":
            return StepSpec(
                **common,
                sleep_s=notebook.number("sleep", minimum=0, maximum=_MAX_SLEEP_S) or 0.0,
                conditions=self._conditions(),
            )
        if kind == "script":
            self.limits = Limits(
                memory_mb=notebook.whole("max-ram", minimum=1),
                disk_mb=notebook.whole("max-storage", minimum=1),
            )
            config = self._section(CONFIG) if CONFIG in self._text else None
            parts = read_scripts(notebook, config)
            return StepSpec(
                **common,
                scripts=parts.scripts,
                program=parts.program,
                inputs=parts.inputs,
                outputs=parts.outputs,
                assign=parts.assign,
                environment=parts.environment,
                share=FOLDER,
                files=parts.files,
                interface=parts.interface,
                pull=parts.pull,
                network=parts.network,
            )
        mappings, wildcards = read_mappings(notebook, ends["source"], ends["sink"])
        return StepSpec(**common, mappings=mappings, wildcards=wildcards)

    def report_missing_secrets(self) -> None:
        """Say which secrets the files name and nobody has."""
        for name in sorted(self._missing):
            self._faults.error(
                NOTEBOOK,
                f"the secret #{{{name}}} is not there. Create it, or correct its path.",
            )

    def _endpoints(self, kind: str, folder: str) -> tuple[EndpointSpec, ...]:
        if folder not in FOLDERS.get(kind, ()):
            return ()
        reader = EndpointReader(ROLES[folder], self._variables, self._read_rendered, self._resolved)
        found = []
        for file in sorted(self._text):
            if file.startswith(f"{folder}/"):
                name = file[len(folder) + 1 : -len(".json")]
                found.append(reader.read(name, self._section(file)))
        return tuple(found)

    def _conditions(self) -> Any:
        if CONDITIONS not in self._text:
            return ()
        document = self._document(CONDITIONS)
        return () if document is None else read_conditions(document, CONDITIONS, self._faults)

    def _section(self, file: str) -> Section:
        document = self._document(file)
        return Section({} if document is None else document, file, "", self._faults)

    def _document(self, file: str) -> Any:
        source = self._text.get(file)
        if source is None or not source.strip():
            return None
        try:
            return self._resolved(self._renderer.document(source, file))
        except SourceFault as fault:
            self._faults.error(fault.file, fault.text)
            return None

    def _read_rendered(self, path: str) -> str:
        text: str = self._resolved(self._renderer.text(self._read_file(path), path))
        return text

    def _resolved(self, value: Any) -> Any:
        if self._secrets is None:
            return value
        return replace_references(value, self._secrets, self._missing)


def guarded(read_file: ReadFile) -> ReadFile:
    """The same, with a fault that says which file is missing."""

    def read(path: str) -> str:
        try:
            return read_file(path)
        except (KeyError, OSError) as error:
            raise SourceFault(
                path, "there is no such file. Add it, or correct the path (from the recipe's root)."
            ) from error
        except UnicodeDecodeError as error:
            raise SourceFault(path, "is not UTF-8 text. Save it as UTF-8.") from error

    return read


def _clock(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`now` and the source date, if the caller gave none."""
    facts = {"now": variables.get(system.NOW), "source_date": variables.get(system.SOURCE_DATE)}
    found = system.compile_variables(facts, recipe="", variation="")
    return {name: found[name] for name in (system.NOW, system.SOURCE_DATE)}


def _with_deferred(
    text: Mapping[str, str], variables: Mapping[str, Any], faults: Faults
) -> dict[str, Any]:
    """The variables, with those of the recipe that had to wait for run-time values."""
    known = dict(variables)
    if DEFERRED in text:
        waiting = parse_json(text[DEFERRED], DEFERRED)
        known.update(
            resolve_deferred(waiting, {**_clock(variables), **known}, system.NAMES, faults)
        )
    return known


def _names_below(source: str, file: str, read_file: ReadFile, seen: set[str]) -> set[str]:
    try:
        names = names_in(source, file)
    except SourceFault:
        return set()
    found = set(names.used)
    for path in names.files - seen:
        seen.add(path)
        try:
            found |= _names_below(read_file(path), path, read_file, seen)
        except (KeyError, OSError, UnicodeDecodeError, SourceFault):
            continue
    return found
