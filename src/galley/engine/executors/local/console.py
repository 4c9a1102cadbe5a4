"""The console that a step's code sees in the shim: the attempt's log and its programs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from galley.engine.executors.local.logfile import DEBUG, ERROR, INFO, WARNING, LogFile

if TYPE_CHECKING:
    from galley.engine.executors.local.programs import Programs

_AT_CANCEL_S = 10.0


class ShimConsole:
    """Implements `engine.console.Console` over a log file and the shim's programs.

    `programs` is asked when there is a first one to run: most steps run none.
    """

    def __init__(self, log: LogFile, programs: "Callable[[], Programs]") -> None:
        self._log = log
        self._programs = programs
        self._at_cancel: list[list[str]] = []

    def debug(self, text: str) -> None:
        """Log what only a developer wants to see."""
        self._log.say(DEBUG, text)

    def info(self, text: str) -> None:
        """Log the ordinary course of things."""
        self._log.write(INFO, text)

    def warning(self, text: str) -> None:
        """Log what went on, but should be looked at."""
        self._log.write(WARNING, text)

    def error(self, text: str) -> None:
        """Log what ended the step; its outcome tells it, too."""
        self._log.say(ERROR, text)

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
        """See `engine.console.Console.run_program` and `Programs.run`."""
        return self._programs().run(
            argv,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            network=network,
            readable=readable,
            writable=writable,
            timeout_s=timeout_s,
            sandboxed=sandboxed,
            hint=hint,
        )

    def at_cancel(self, argv: Sequence[str]) -> None:
        """Run this program if the attempt is canceled or times out from now on."""
        self._at_cancel.append([str(word) for word in argv])

    def clean_up(self) -> None:
        """Run what was asked for by `at_cancel`, the latest first; faults are only logged."""
        import subprocess

        while self._at_cancel:
            argv = self._at_cancel.pop()
            try:
                done = subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_AT_CANCEL_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                self.warning(f"Cleaning up by {argv[0]} failed: {error}")
                continue
            if done.returncode != 0:
                said = done.stderr.decode("utf-8", "replace").strip()
                self.warning(f"Cleaning up by {argv[0]} ended with {done.returncode}: {said}")
