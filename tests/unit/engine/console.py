"""A console for tests: keeps the log in memory, runs programs without walls."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class MemoryConsole:
    lines: list[tuple[str, str]] = field(default_factory=list)
    programs: list[dict[str, Any]] = field(default_factory=list)
    at_cancel_argv: list[list[str]] = field(default_factory=list)

    def debug(self, text: str) -> None:
        self.lines.append(("D", text))

    def info(self, text: str) -> None:
        self.lines.append(("I", text))

    def warning(self, text: str) -> None:
        self.lines.append(("W", text))

    def error(self, text: str) -> None:
        self.lines.append(("E", text))

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
        self.programs.append(
            {
                "argv": list(argv),
                "env": dict(env),
                "network": network,
                "readable": list(readable),
                "writable": list(writable),
                "sandboxed": sandboxed,
                "hint": hint,
            }
        )
        try:
            ended = subprocess.run(
                list(argv),
                cwd=cwd,
                env=dict(env),
                input=stdin if stdin is not None else b"",
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        for line in (ended.stdout or ended.stderr or b"").decode(errors="replace").splitlines():
            self.lines.append(("O", line))
        return ended.returncode

    def at_cancel(self, argv: Sequence[str]) -> None:
        self.at_cancel_argv.append(list(argv))

    @property
    def text(self) -> str:
        return "\n".join(f"{level} {text}" for level, text in self.lines)
