"""What an executor is given to run one attempt, and what comes back from it."""

import re
from typing import Any

import msgspec

from galley.core.runs.plan import Environment, Limits

_UNFIT = re.compile("[\0\ud800-\udfff]")
MOST_RUNS = 100
"""How many earlier runs a check looks back on."""


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of one step, with everything that its process needs.

    `variables` are merged (plan, parameters, run time; system variables among them);
    `secrets` maps `vault://...` references to their values and never touches a disk;
    `tree` is the folder that holds the source's files, read-only, or None;
    `folder` is the attempt's own folder (`task` control files, `out/` for staged files);
    `work` is the run's shared folder; `log` is the file the attempt's output goes to;
    `environments` is the installation's folder of cached interpreters (None: the user's cache);
    `history` maps a check (see `check_key`) to the values that it kept in earlier runs of the same
    source and variation, oldest first.
    """

    key: str
    run_id: int
    step_id: int
    attempt_id: int
    number: int
    fence: int
    run_uid: str
    order_uid: str
    step_key: str
    kind: str
    body: dict[str, Any]
    text: dict[str, str]
    variables: dict[str, Any]
    folder: str
    work: str
    log: str
    tree: str | None = None
    roots: tuple[str, ...] = ()
    secrets: dict[str, str] = {}
    environment: Environment = Environment()
    limits: Limits = Limits()
    timeout_s: float | None = None
    tags: tuple[str, ...] = ()
    history: dict[str, list[Any]] = {}
    environments: str | None = None


class CheckResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one check (a test as a gate).

    `status` is `passed`, `failed`, `warning` or `logged`; `action` is what a failure does
    (`stop`, `warn`, `log`); `place` tells where in the step it stands, as
    (`notebook` | `source` | `sink` | `action`, file name without its ending). With `keeps_history`
    later runs look at the value.
    """

    name: str
    status: str
    action: str
    text: str
    value: Any = None
    metric: Any = None
    place: tuple[str, str] = ("notebook", "")
    description: str = ""
    keeps_history: bool = False


def check_key(place: tuple[str, str], name: str) -> str:
    """What names a check within its step."""
    return f"{place[0]}/{place[1]}/{name}"


class Staged(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that the step leaves for publishing: its name, where it lies, and its SHA-256."""

    name: str
    path: str
    sha256: str
    size_bytes: int
    media_type: str = "application/octet-stream"


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt ended: what its exit file says.

    `state` is `succeeded`, `failed` or `canceled`; `reason` is for people (what, where, how to
    mend it); `exports` become run-time variables; `branches` are the conditions it chose;
    `timings` maps a part (`source/name`, `notebook`, ...) to seconds.
    """

    state: str
    reason: str = ""
    exit_code: int | None = None
    exports: dict[str, Any] = {}
    branches: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    staged: tuple[Staged, ...] = ()
    timings: dict[str, float] = {}
    usage: dict[str, float] = {}
    retryable: bool = True


def storable(outcome: Outcome) -> Outcome:
    """The outcome with what no database keeps (NUL, lone surrogates) shown as U+FFFD."""
    try:
        if b"\\u0000" not in msgspec.json.encode(outcome):
            return outcome
    except UnicodeEncodeError:
        pass
    return msgspec.convert(_cleaned(msgspec.to_builtins(outcome)), Outcome)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
