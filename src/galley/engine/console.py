"""What a step's code sees of the process that runs it: a log, and a way to run programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Console(Protocol):
    """The attempt's log and its only way to start programs; the executor implements it.

    Texts may hold several lines; the implementation splits, stamps and masks them.
    """

    def debug(self, text: str) -> None:
        """Log what only a developer wants to see."""
        ...

    def info(self, text: str) -> None:
        """Log the ordinary course of things."""
        ...

    def warning(self, text: str) -> None:
        """Log what went on, but should be looked at."""
        ...

    def error(self, text: str) -> None:
        """Log what ended the step."""
        ...

    def run_program(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes | None = None,
        stdout: int | None = None,
        network: bool = False,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        timeout_s: float | None = None,
        sandboxed: bool = True,
        hint: str = "",
    ) -> int:
        """Run a program to its end under the attempt's limits; its output goes to the log.

        `env` is the whole environment. `cwd` and `writable` may be written, `readable` only
        read; where a sandbox is at hand nothing else of the user's files is visible. `stdout` is
        an open file that takes the standard output instead of the log. `hint` is logged when the
        program fails behind a wall without the network.
        `sandboxed=False` is for programs of the installation that bring walls of their own (a
        container engine).

        Returns:
            The exit code; minus the signal's number when a signal ended it.

        Raises:
            OSError: the program could not be started at all.
            TimeoutError: `timeout_s` passed; the program and its children are gone.
        """
        ...

    def at_cancel(self, argv: Sequence[str]) -> None:
        """Run this program (10 s at most) if the attempt is canceled or times out from now on.

        For what does not die with the attempt's processes: a container is removed by its name.
        """
        ...
