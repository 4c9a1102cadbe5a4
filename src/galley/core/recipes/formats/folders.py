"""A step's folder: its kind, the files it is made of, and how it is tried."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from galley.core.recipes.documents import decode, parse_json
from galley.core.recipes.faults import Faults, SourceFault
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.scripts import CONFIG
from galley.core.recipes.formats.scripts import FOLDER as SHARE
from galley.core.recipes.formats.steps import FOLDERS, NOTEBOOK
from galley.core.runs.plan import Retry

DESCRIPTION = "description.json"
_KINDS = {
    "noop": "noop",
    "datamapper": "transfer",
    "action": "action",
    "container": "script",
    "ingredient": "ingredient",
}
_SHOWN = "DKNode_NoOp, DKNode_DataMapper, DKNode_Action, DKNode_Container"
_NEEDED = {
    "transfer": ("notebook.json", "data_sources/", "data_sinks/"),
    "action": ("notebook.json", "actions/"),
    "script": ("notebook.json",),
}
_CRASH = ("retry", "fail")

Render = Callable[[Any, str], Any]


@dataclass(slots=True)
class StepFolder:
    """What a step's folder says before its files are rendered."""

    name: str
    kind: str = ""
    title: str = ""
    icon: str = ""
    text: dict[str, str] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    tags: tuple[str, ...] = ()
    on_crash: str = "retry"
    allow_failure: bool = False


class FolderReader:
    """Reads step folders among a source's files; `files` maps folder -> path below it -> bytes.

    `render` fills in the templates of a description; `legacy` are names written as `$name`.
    """

    def __init__(
        self,
        files: Mapping[str, Mapping[str, bytes]],
        legacy: frozenset[str],
        render: Render,
        faults: Faults,
    ) -> None:
        self._files = files
        self._render = render
        self._faults = faults
        self._legacy = legacy

    def read(self, name: str) -> StepFolder:
        """The folder; what is missing or unknown becomes an issue."""
        folder = StepFolder(name)
        files = self._files.get(name)
        if not files:
            self._faults.error(
                "variations.json",
                f"the graph has the step '{name}', but there is no folder {name}/. Add it with a"
                f" {DESCRIPTION} and a {NOTEBOOK}, or correct the name.",
            )
            return folder
        self._describe(folder, files)
        if folder.kind in FOLDERS:
            folder.text = self._texts(name, folder.kind, files)
            self._check_complete(folder)
        return folder

    def _describe(self, folder: StepFolder, files: Mapping[str, bytes]) -> None:
        file = f"{folder.name}/{DESCRIPTION}"
        if DESCRIPTION not in files:
            self._faults.error(
                file,
                f'is missing. Add it with the step\'s type, such as {{"type": "{_SHOWN[:11]}"}}.',
            )
            return
        try:
            document = parse_json(decode(files[DESCRIPTION], file), file)
        except SourceFault as fault:
            self._faults.error(fault.file, fault.text)
            return
        section = Section(self._render(document, file), file, "", self._faults)
        folder.kind = _kind(section)
        folder.title = section.text("description")
        folder.icon = section.text("icon")
        if len(section.data) > 1:
            _read_tries(folder, section)
            section.warn_of_unknown()

    def _texts(self, name: str, kind: str, files: Mapping[str, bytes]) -> dict[str, str]:
        found = {}
        prefixes = tuple(f"{part}/" for part in FOLDERS[kind])
        for path in sorted(files) if len(files) > 1 else files:
            is_end = path.startswith(prefixes) and path.count("/") == 1 and path.endswith(".json")
            if path == NOTEBOOK or is_end or (path == CONFIG and kind == "script"):
                try:
                    text = decode(files[path], f"{name}/{path}")
                except SourceFault as fault:
                    self._faults.error(fault.file, fault.text)
                    continue
                found[path] = with_legacy_names(text, self._legacy)
        return found

    def _check_complete(self, folder: StepFolder) -> None:
        for part in _NEEDED.get(folder.kind, ()):
            if part in folder.text or (
                part.endswith("/") and any(path.startswith(part) for path in folder.text)
            ):
                continue
            what = "holds no .json file" if part.endswith("/") else "is missing"
            self._faults.error(
                f"{folder.name}/{part}", f"{what}; a step of this type needs it. Add it."
            )


def is_rendered(path: str) -> bool:
    """Whether a file of a recipe is a template: a container's share is not, but for its settings.

    `path` is below the recipe. Source: contract 2.9.
    """
    _, _, below = path.partition("/")
    return not below.startswith(f"{SHARE}/") or below == CONFIG


def with_legacy_names(text: str, legacy: frozenset[str]) -> str:
    """The text of a step's file with `$name` written as `{{name}}`, for these names."""
    pattern = _legacy_pattern(legacy) if legacy else None
    return pattern.sub(r"{{\1}}", text) if pattern else text


@lru_cache(maxsize=1)
def _legacy_pattern(legacy: frozenset[str]) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(legacy, key=len, reverse=True))
    return re.compile(rf"\$({names})\b")


def _kind(section: Section) -> str:
    text = section.required("type").strip()
    kind = _KINDS.get(text.lower().removeprefix("dknode_"))
    if kind is None:
        if text:
            section.fault(f"is '{text}', an unknown step kind. Use one of {_SHOWN}.", "type")
        return ""
    if kind == "ingredient":
        section.fault(
            f"is '{text}', which is not built yet. Call the ingredient's variation by an order of"
            " its own instead.",
            "type",
        )
    return kind


def _read_tries(folder: StepFolder, section: Section) -> None:
    """Galley's own keys: `retry`, `timeout`, `tags`, `on-crash`, `allow-failure`."""
    if section.has("retry"):
        retry = section.section("retry")
        folder.retry = Retry(
            attempts=retry.whole("attempts", minimum=1, maximum=100) or 1,
            backoff_s=_or(retry.number("backoff", minimum=0), 1.0),
            factor=_or(retry.number("factor", minimum=1), 2.0),
            max_backoff_s=_or(retry.number("max-backoff", minimum=0), 300.0),
        )
        retry.warn_of_unknown()
    folder.timeout_s = section.number("timeout", minimum=0.1)
    folder.tags = section.texts("tags")
    folder.on_crash = section.text("on-crash", default="retry")
    if folder.on_crash not in _CRASH:
        section.fault(f"is '{folder.on_crash}'; write one of {', '.join(_CRASH)}.", "on-crash")
    folder.allow_failure = bool(section.flag("allow-failure", default=False))


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
