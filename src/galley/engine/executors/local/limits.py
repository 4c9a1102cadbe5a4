"""What one attempt may use: setting the kernel's limits, and saying which one was hit."""

import resource
import signal

import msgspec

from galley.core.runs.plan import Limits
from galley.engine.executors.local import processes

MEMORY, PROCESSES, DISK, CPU = "memory", "processes", "disk", "cpu"
_MIB = 1024 * 1024
_CPU_GRACE_S = 5
_SPARE_TASKS = 1000
_MEMORY_WORDS = (
    b"MemoryError",
    b"Cannot allocate memory",
    b"std::bad_alloc",
    b"out of memory",
    b"Out of memory",
    b"OutOfMemory",
    b"Out Of Memory",
    b"Out of Memory",
    b"needs more memory than it has",
    b"failed to map segment from shared object",
    b"memory exhausted",
)
_DISK_WORDS = (b"File too large", b"file size limit exceeded", b"File size limit exceeded")


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, never above the one that holds already."""
    _, present = resource.getrlimit(kind)
    ceiling = soft if hard is None else hard
    if present != resource.RLIM_INFINITY:
        ceiling = min(ceiling, present)
    resource.setrlimit(kind, (min(soft, ceiling), ceiling))


def apply_to_shim(limits: Limits, baseline_bytes: int) -> None:
    """Limit this process, which runs our own step kinds: its memory counts from `baseline_bytes`.

    Only the soft limits are set, so that another step or a program can have its own, whole amount.
    """
    for kind, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _scaled(limits.disk_mb, _MIB)),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_AS, _scaled(limits.memory_mb, _MIB, baseline_bytes)),
    ):
        _, hard = resource.getrlimit(kind)
        soft = hard if wanted is None else wanted
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard) if soft != resource.RLIM_INFINITY else hard
        resource.setrlimit(kind, (soft, hard))


def _scaled(amount: int | None, unit: int, base: int = 0) -> int | None:
    return None if amount is None else base + amount * unit


def most_tasks(most_processes: int) -> int:
    """How many tasks (processes and threads) the kernel itself lets a step's programs have.

    More than the processes that the watch allows, since every thread counts: it is there so that
    programs that only fork cannot outrun the watch.
    """
    return 2 * most_processes + _SPARE_TASKS


def apply_to_program(limits: Limits, tasks: int | None) -> None:
    """Limit this process, which is about to become a user's program, for good.

    `tasks` is how many processes and threads the machine has now, for a program without a control
    group: the limit that it gets instead counts all of a user's.
    """
    if limits.processes is not None and tasks is not None:
        _lower(resource.RLIMIT_NPROC, tasks + most_tasks(limits.processes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.disk_mb is not None:
        _lower(resource.RLIMIT_FSIZE, limits.disk_mb * _MIB)
    if limits.cpu_s is not None:
        _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + _CPU_GRACE_S)
    if limits.memory_mb is not None:
        _lower(resource.RLIMIT_AS, limits.memory_mb * _MIB)
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


class LimitWatch:
    """Counts what all programs of a step use together, and remembers which limit was hit.

    The kernel's own limits hold for one process each, and its process limit for all of a user's
    processes and threads (root is exempt), so the sum over the tree is looked at from outside.
    The control group, where there is one, sees to it that the tree cannot outgrow these looks.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._hit: list[str] = []

    def note(self, which: str) -> None:
        """Remember that a limit was hit."""
        if which not in self._hit:
            self._hit.append(which)

    def exceeded(self, pids: list[int]) -> str | None:
        """Which limit these processes are over now, or None."""
        if self.limits.processes is not None and len(pids) > self.limits.processes:
            self.note(PROCESSES)
            return PROCESSES
        if self.limits.memory_mb is None:
            return None
        allowed = self.limits.memory_mb * _MIB
        over = processes.resident_bytes(pids) > allowed
        if over and processes.proportional_bytes(pids) > allowed:
            self.note(MEMORY)
            return MEMORY
        return None

    def judge_program(self, exit_code: int, tail: bytes) -> None:
        """Note the limit that ended a program, as far as its exit and last words tell."""
        if exit_code == 0:
            return
        if exit_code == -signal.SIGXCPU:
            self.note(CPU)
        if exit_code == -signal.SIGXFSZ or any(word in tail for word in _DISK_WORDS):
            self.note(DISK)
        if self.limits.memory_mb is not None and any(word in tail for word in _MEMORY_WORDS):
            self.note(MEMORY)

    def explain(self, reason: str) -> str:
        """The reason of a failure, with the limits that were hit and how to raise them."""
        if not self._hit:
            return reason
        told = " ".join(describe(which, self.limits) for which in self._hit)
        return f"{reason.rstrip('. ')}. {told}" if reason else told


_SETTINGS = {
    MEMORY: ("memory_mb", "{} MB of memory"),
    PROCESSES: ("processes", "{} processes at once"),
    DISK: ("disk_mb", "{} MB for one file"),
    CPU: ("cpu_s", "{} s of processor time"),
}


def describe(which: str, limits: Limits) -> str:
    """One sentence: the limit, and how to raise it."""
    setting, words = _SETTINGS[which]
    amount = msgspec.structs.asdict(limits)[setting]
    advice = _advice(setting)
    return f"The step reached its limit of {words.format(amount)}: {advice}, or make it need less."


def disk_advice() -> str:
    """How to let a step write more."""
    return f"{_advice('disk_mb')}, or make it write less"


def _advice(setting: str) -> str:
    return (
        f"raise `{setting}` among the limits of the step or of its run, or the installation's "
        f"default, GALLEY_STEP_LIMITS__{setting.upper()}"
    )


def memory_words_in(text: str) -> bool:
    """Whether an error's text speaks of too little memory."""
    data = text.encode("utf-8", "replace")
    return any(word in data for word in _MEMORY_WORDS)
