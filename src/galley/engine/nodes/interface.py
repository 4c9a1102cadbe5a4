"""The progress-file interface of container images: what they are told, and what they tell back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from galley.core.runs.task import CheckResult
from galley.engine.connectors import paths
from galley.engine.faults import StepError
from galley.engine.nodes.base import MAX_VALUE_BYTES, CheckStopped, Step

PROGRESS_FILE = "progress.json"
LOG_FILE = "ac_process.log"
_MAX_BYTES = MAX_VALUE_BYTES * 10
_RESERVED = frozenset({"container-return-status", "start-time", "end-time", "test-data"})
_STATUS = {"TestPassed": "passed", "TestFailed": "failed", "TestWarning": "warning"}
_ACTIONS = {"stop-on-error": "stop", "warning": "warn", "log": "log"}


def variables(mount: str, share: str, config_file: str) -> dict[str, str]:
    """The environment that tells an image where its files are; `share` is relative to `mount`."""
    folder = f"{mount}/{share}" if share else mount
    return {
        "INSIDE_CONTAINER_FILE_MOUNT": mount,
        "INSIDE_CONTAINER_FILE_DIRECTORY": share,
        "CONTAINER_INPUT_CONFIG_FILE_PATH": folder,
        "CONTAINER_INPUT_CONFIG_FILE_NAME": config_file,
        "CONTAINER_OUTPUT_PROGRESS_FILE": PROGRESS_FILE,
        "CONTAINER_OUTPUT_LOG_FILE": LOG_FILE,
    }


def read_progress(step: Step, folder: Path, *, place: str) -> None:
    """Take over what an image left in its progress file: variables, checks, its own verdict.

    Raises:
        StepError: the file is not readable, or says that the work failed.
        CheckStopped: one of the image's own stop checks failed.
    """
    path = folder / PROGRESS_FILE
    if path.is_symlink() or not path.is_file():
        return
    with paths.opened_in((step.place.folder.resolve(),), path) as file:
        document = _document(file)
    for name, value in document.items():
        if name not in _RESERVED and name.isidentifier():
            step.export(name, value)
    failed = _take_checks(step, document.get("test-data") or {}, place)
    status = document.get("container-return-status")
    if status == "error":
        raise StepError(f"The image says in {PROGRESS_FILE} that its work failed; see the log.")
    if failed:
        first = failed[0]
        raise CheckStopped(
            f"The check {first.name} of step {step.task.step_key} (made by the image) failed:"
            f" {first.text}."
        )


def _document(file: BinaryIO) -> dict[str, Any]:
    content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise StepError(f"The image's {PROGRESS_FILE} is too large.")
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StepError(f"The image's {PROGRESS_FILE} is not a JSON object: {error}.") from error


def _take_checks(step: Step, found: Any, place: str) -> list[CheckResult]:
    """The image's own checks as results; gives those that stop the step."""
    stopping = []
    for name, entry in (found if isinstance(found, Mapping) else {}).items():
        result = _result(str(name), entry if isinstance(entry, Mapping) else {}, place)
        step.results.append(result)
        if result.status == "failed" and result.action == "stop":
            stopping.append(result)
    return stopping


def _result(name: str, entry: Mapping[str, Any], place: str) -> CheckResult:
    action = _ACTIONS.get(str(entry.get("test-action")), "stop")
    status = _STATUS.get(str(entry.get("test-result")), "failed")
    if action == "log":
        status = "logged"
    elif action == "warn" and status == "failed":
        status = "warning"
    value = entry.get("test-value")
    logic = entry.get("test-logic")
    text = f"{value} {logic}" if logic else str(value)
    return CheckResult(
        name=name, status=status, action=action, text=text, value=value, place=("notebook", place)
    )
