"""The folder in which a script step's programs work: a copy of the step's own files."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galley.core.recipes.references import find_references
from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch
from galley.engine.connectors.file import shaped
from galley.engine.faults import StepError
from galley.engine.nodes.base import MAX_VALUE_BYTES, Step


@dataclass(frozen=True, slots=True)
class Workshop:
    """`folder` is where programs start, `share` the folder in it that holds their files."""

    folder: Path
    share: Path

    def path(self, text: str) -> Path:
        """A file that a specification names: below the folder, or below `share`.

        Raises:
            StepError: the path leads out of the folder.
        """
        for base in (self.folder, self.share):
            path = base / text
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise StepError(f"The path {text} leads out of the step's folder.")
            if path.exists():
                return path
        return self.folder / text

    def script(self, text: str) -> Path:
        """A program's file.

        Raises:
            StepError: it is not there, or its text holds a reference to a secret.
        """
        path = self.path(text)
        if not path.is_file():
            raise StepError(f"The script {text} was not found in the step's folder; check it.")
        if find_references(path.read_bytes().decode("utf-8", errors="ignore")):
            raise StepError(
                f"The script {text} holds a reference to a secret. Give the secret as a parameter"
                " of the script instead."
            )
        return path


def open_workshop(step: Step) -> Workshop:
    """Copy the step's files; links are left out, since nothing may lead outside."""
    spec = step.spec
    folder = Path(step.task.folder) / "step"
    source = step.place.tree / (spec.folder or step.task.step_key) if step.place.tree else None
    folder.mkdir(mode=0o700)
    if source is not None and source.is_dir():
        shutil.copytree(source, folder, ignore=_links, dirs_exist_ok=True, symlinks=True)
        _own(folder)
    share = folder / spec.share
    share.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(folder, share)
    for name, text in spec.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise StepError(f"The path {name} leads out of the step's folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return workshop


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118


def _own(folder: Path) -> None:
    """Let the step write its copy, whatever the original's modes are."""
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(base, name)
            path.chmod(path.stat().st_mode | 0o600 | (0o100 if name in folders else 0))


def put_inputs(step: Step, workshop: Workshop) -> None:
    """Write what the sources read into the files that the programs expect.

    Raises:
        StepError: an input names a key that no source has.
    """
    for source, filename in step.spec.inputs:
        batch = _batch(step, source)
        key = KeySpec(source, "write_file", path=filename)
        written = shaped(step.place, batch, key, filename)
        target = workshop.share / filename
        if not target.resolve().is_relative_to(workshop.folder.resolve()):
            raise StepError(f"The path {filename} leads out of the step's folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(written.path, target)


def _batch(step: Step, text: str) -> Batch:
    endpoint, _, key = text.partition(".")
    if (endpoint, key) not in step.batches:
        known = ", ".join(f"{e}.{k}" for e, k in step.batches) or "none"
        raise StepError(f"The input {text} is no key of a source (known: {known}).")
    return step.batches[endpoint, key]


def take_outputs(step: Step, workshop: Workshop) -> dict[tuple[str, str], Batch]:
    """The files that the programs left for sinks, by (sink, key).

    Raises:
        StepError: a file is not there, or leads outside.
    """
    given: dict[tuple[str, str], Batch] = {}
    for filename, sink in step.spec.outputs:
        path = workshop.share / filename
        real = path.resolve()
        if not real.is_relative_to(workshop.folder.resolve()) or not real.is_file():
            raise StepError(
                f"The output {filename} is not there. The step's program must write it into its"
                " folder."
            )
        target = step.new_segment()
        shutil.copyfile(real, target / "content")
        endpoint, _, key = sink.partition(".")
        layout = tables.format_of(filename, None)
        style = tables.csv_style({}, filename, None)
        given[endpoint, key] = Batch(target / "content", layout, csv=style, is_file=True)
    return given


def assign(step: Step, workshop: Workshop, wanted: dict[str, str]) -> None:
    """Read files into run-time variables.

    Raises:
        StepError: a file is not there, not text, or too large.
    """
    for variable, text in wanted.items():
        path = workshop.path(text)
        if not path.resolve().is_file():
            raise StepError(
                f"The file {text} for the variable {variable} is not there. The step's program"
                " must write it."
            )
        if path.stat().st_size > MAX_VALUE_BYTES:
            raise StepError(
                f"The file {text} for the variable {variable} is larger than"
                f" {MAX_VALUE_BYTES} bytes."
            )
        try:
            step.export(variable, path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise StepError(
                f"The file {text} for the variable {variable} is not UTF-8 text."
            ) from error


def facts(step: Step, workshop: Workshop, out: Path) -> dict[str, Any]:
    """What a script may know of its step."""
    task = step.task
    return {
        "work": task.work,
        "out": str(out),
        "share": str(workshop.share),
        "run": task.run_uid,
        "step": task.step_key,
        "attempt": task.key,
        "variables": step.variables,
    }
