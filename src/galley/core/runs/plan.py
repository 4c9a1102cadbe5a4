"""A plan: the immutable graph of steps that a source compiled to. Plain data, cheap to store.

Every struct encodes to JSON by msgspec; `digest()` names a plan by its content.
"""

import hashlib
from typing import Any

import msgspec

MAX_STEPS = 20_000


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often a failing step is tried; the pause between is `backoff_s * factor**n`, jittered."""

    attempts: int = 1
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 300.0


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one attempt may use; None means the installation's default."""

    memory_mb: int | None = None
    disk_mb: int | None = None
    cpu_s: int | None = None
    processes: int | None = None

    def above(self, default: "Limits") -> "Limits":
        """These limits, and the default's where they name none (the same object if none at all)."""
        if self == _NO_LIMITS:
            return default
        pairs = {name: (getattr(self, name), getattr(default, name)) for name in _LIMIT_NAMES}
        return Limits(
            **{name: other if own is None else own for name, (own, other) in pairs.items()}
        )


_NO_LIMITS = Limits()
_LIMIT_NAMES = Limits.__struct_fields__


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where user code runs: a container image, or an interpreter with these requirements."""

    image: str | None = None
    registry: str | None = None
    registry_user: str | None = None
    registry_password: str | None = None
    requirements: tuple[str, ...] = ()
    apt_packages: tuple[str, ...] = ()


class Need(msgspec.Struct, frozen=True, omit_defaults=True):
    """An edge: this step comes after `step`, and only if that step chose the branch `when`.

    With `when` None the edge is taken whenever `step` succeeded.
    """

    step: str
    when: str | None = None


class StepPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step. `body` belongs to the step kind; `text` holds files still to be rendered in it.

    `keeps_history`: a check of it looks at the values of earlier runs, or may. `brief`: it only
    checks and chooses, and takes no time worth a slot.
    """

    key: str
    kind: str
    title: str = ""
    needs: tuple[Need, ...] = ()
    body: dict[str, Any] = {}
    text: dict[str, str] = {}
    retry: Retry = Retry()
    timeout_s: float | None = None
    limits: Limits = Limits()
    environment: Environment = Environment()
    tags: tuple[str, ...] = ()
    on_crash: str = "retry"
    allow_failure: bool = False
    keeps_history: bool = False
    brief: bool = False


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a plan was compiled from: a folder (`path`) of a project at a tree, a variation."""

    kind: str
    project: str
    path: str
    variation: str
    branch: str = ""
    commit: str = ""
    tree: str = ""


class Thresholds(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a run is worth an alert: too many warnings, too long; and whether too long stops it."""

    warnings: int | None = None
    duration_s: float | None = None
    stop_on_duration: bool = False


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole run's worth of steps with the variables they start from.

    `variables` are resolved (level 3 and below); `origins` names the level of each
    (`parameter`, `kitchen`, `variation`, `base`). `max_parallel` bounds the run's own steps.
    `warnings` are (file, text): what its author should look at, such as a key with a slip in it.
    """

    source: Source
    steps: tuple[StepPlan, ...]
    variables: dict[str, Any] = {}
    origins: dict[str, str] = {}
    max_parallel: int | None = None
    limits: Limits = Limits()
    thresholds: Thresholds = Thresholds()
    alerts: dict[str, list[str]] = {}
    warnings: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        """The plan as JSON, always the same bytes for the same plan."""
        return msgspec.json.encode(self, order="deterministic")

    def digest(self) -> str:
        """SHA-256 of `encoded()`, in hex."""
        return hashlib.sha256(self.encoded()).hexdigest()


class ScheduleSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """When an order runs: once now (`cron` None), or by a cron line in a time zone between bounds.

    `catch_up` is what happens to missed times: `skip`, `latest`, or `all` (up to `catch_up_limit`).
    """

    cron: str | None = None
    zone: str = "UTC"
    start_at: str | None = None
    end_at: str | None = None
    catch_up: str = "skip"
    catch_up_limit: int = 10


class CompiledSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the compiler gives back: the plan, and the schedule that the source itself asks for."""

    plan: Plan
    schedule: ScheduleSpec | None = None
