"""Who may run an attempt: one name that exactly one process can put there.

A request may still lie in a dead server's template while its successor recovers. Both must not
win: whoever puts `pid` into the attempt's folder first decides whether the attempt runs. An
abandoned claim is followed by `pid.1`, `pid.2`, ... when the same server hands the attempt to a
fresh template, so that a fork that was on its way meets a claim that is taken.

A claim is a symbolic link that points at nothing: its target is the claim's text. One system call
makes it, whole or not at all, where a file with a content needs five.
"""

import os
from contextlib import suppress

import msgspec

from galley.engine.executors.local.processes import Mark


class Claim(msgspec.Struct, frozen=True):
    """The content of a claim: the process that runs the attempt, or that nobody ever may.

    `started` is the kernel's start time of `pid` in ticks since the boot named `boot`.
    """

    pid: int
    started: int
    boot: str = ""
    abandoned: bool = False

    @property
    def mark(self) -> Mark:
        """The claiming process."""
        return Mark(pid=self.pid, started=self.started, boot=self.boot)


_ABANDONED = Claim(pid=0, started=0, abandoned=True)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Claim).decode


def _name(generation: int) -> str:
    return f"pid.{generation}" if generation else "pid"


def claim(folder: str, generation: int, mark: Mark) -> bool:
    """Claim the attempt for a process; False if somebody else was first."""
    return _place(folder, generation, Claim(pid=mark.pid, started=mark.started, boot=mark.boot))


def abandon(folder: str, generation: int) -> bool:
    """Claim the attempt so that nobody can run it any more; False if somebody does."""
    return _place(folder, generation, _ABANDONED)


def _place(folder: str, generation: int, content: Claim) -> bool:
    """Make the claim appear with its content, or not at all."""
    path, text = f"{folder}/{_name(generation)}", _encode(content)
    try:
        try:
            os.symlink(text, path)  # noqa: PTH211 (on the hot path)
        except FileNotFoundError:
            _make(folder)
            os.symlink(text, path)  # noqa: PTH211
    except FileExistsError:
        return False
    return True


def _make(folder: str) -> None:
    """Make an attempt's folder and its run's, but none above: then the data folder's disk is away.

    Paths as text: objects for them stay in memory on Python 3.12.

    Raises:
        FileNotFoundError: there is no folder of attempts.
    """
    for wanted in (folder.rpartition("/")[0], folder):
        with suppress(FileExistsError):
            os.mkdir(wanted, 0o700)  # noqa: PTH102


def find(folder: str, generation: int = 0) -> Claim | None:
    """The claim of that generation, or None."""
    try:
        return _decode(os.readlink(f"{folder}/{_name(generation)}"))  # noqa: PTH115 (likewise)
    except FileNotFoundError:
        return None


def is_there(folder: str) -> bool:
    """Whether the attempt was ever claimed or abandoned."""
    return os.path.lexists(f"{folder}/{_name(0)}")


def settle(folder: str) -> Claim | None:
    """Find the process that claimed the attempt; if there is none, see that there never will be.

    Returns None in the second case.
    """
    generation = 0
    while True:
        found = find(folder, generation)
        if found is None:
            if abandon(folder, generation):
                return None
        elif found.abandoned:
            generation += 1
        else:
            return found
