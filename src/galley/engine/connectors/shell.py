"""Programs on this machine, run under the attempt's limits."""

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import paths, tables
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result
from galley.engine.faults import StepError, ended
from galley.engine.network import NO_NETWORK_HINT, network_of

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
_MAX_RESULT_BYTES = 1024 * 1024
_SHOWN_BYTES = 64 * 1024


def clean_environment(home: Path) -> dict[str, str]:
    """The little of this process's environment that a user's program gets."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    kept.setdefault("LANG", "C.UTF-8")
    return {**kept, "HOME": str(home), "TMPDIR": str(home)}


class ShellConnector:
    """Runs a key's `command` in the run's folder. Configuration: `environment`, `network`.

    As a source, the file `path` that the program leaves is the data, else what it prints. A
    result is what it prints, without the last line's end. Option of a key: `timeout-s`.
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"program", "read_file"}),
        runs=frozenset({"program"}),
        options=frozenset({"timeout-s", "delimiter", "encoding", "null"}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """The configuration is one that programs can have."""
        self._environment(config)

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Refuse: programs are not found by a pattern."""
        del config
        raise StepError(f"The wildcard {pattern} does not go with programs; name the keys.")

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Run the program and take the file that it made, or its output."""
        target = into / "content"
        style = tables.csv_style(key.options, key.path or "", key.header)
        layout = tables.format_of(key.path or "", key.format)
        if key.path:
            self._run(config, key)
            paths.fetch(self._place, paths.find(self._place, key.path), target)
        else:
            with target.open("x+b") as output:
                self._captured(config, key, output)
                _check_kept(output, target)
        return Batch(target, layout, csv=style, is_file=True, wish_header=key.header)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Refuse: a program is no place for data."""
        del config, batch
        raise StepError(f"The operation {key.operation} does not go with programs as a sink.")

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Run the program; its output is the result."""
        folder = self._place.segments
        folder.mkdir(exist_ok=True)
        target = folder / f".output-{os.urandom(6).hex()}"
        try:
            with target.open("x+b") as output:
                self._captured(config, key, output)
                if _size(output) > _MAX_RESULT_BYTES:
                    raise StepError(
                        f"The program printed more than {_MAX_RESULT_BYTES} bytes; let it write a"
                        " file, and name that in `path`."
                    )
                output.seek(0)
                text = output.read().decode("utf-8", errors="replace").rstrip("\n")
        finally:
            target.unlink(missing_ok=True)
        for line in text.splitlines():
            self._place.console.info(line)
        return Result(value=text)

    def _captured(self, config: dict[str, Any], key: KeySpec, output: BinaryIO) -> None:
        """Run with the output going to a file of ours.

        Afterwards only this handle tells what was printed: under the file's name there may be
        something else by then. The shell parses nothing, but runs scripts without a `#!` too.
        """
        argv = ("/bin/sh", "-c", 'exec "$@"', "sh", *self._command(key))
        try:
            self._run(config, key, argv=argv, stdout=output.fileno())
        except StepError:
            self._show_end(output)
            raise

    def _show_end(self, output: BinaryIO) -> None:
        """Put the end of what a failed program printed into the log."""
        left_out = max(_size(output) - _SHOWN_BYTES, 0)
        output.seek(left_out)
        if left_out:
            output.readline()  # it may begin inside a secret, which the mask would not know
            left_out = output.tell()
            self._place.console.info(f"(The first {left_out} bytes that it printed are left out.)")
        text = output.read().decode("utf-8", errors="replace")
        for line in text.splitlines():
            self._place.console.info(line)

    def _run(
        self,
        config: dict[str, Any],
        key: KeySpec,
        *,
        argv: tuple[str, ...] | None = None,
        stdout: int | None = None,
    ) -> None:
        command = self._command(key)
        timeout = key.options.get("timeout-s")
        place = self._place
        environment = self._environment(config)
        _check_program(command[0], place.work, environment["PATH"])
        readable = [path for path in (place.tree, *place.roots) if path is not None]
        try:
            code = place.console.run_program(
                argv or command,
                cwd=place.work,
                env=environment,
                stdout=stdout,
                network=network_of(bool(config.get("network"))),
                readable=readable,
                writable=[place.work],
                timeout_s=float(timeout) if timeout else None,
                hint=NO_NETWORK_HINT,
            )
        except TimeoutError as error:
            raise StepError(f"The program {command[0]} took longer than {timeout} s.") from error
        except OSError as error:
            raise StepError(
                f"The program {command[0]} could not be started: {error.strerror}."
            ) from error
        if code:
            raise StepError(
                f"The program {command[0]} {ended(code)}; the log has its output.",
                retryable=True,
            )

    def _command(self, key: KeySpec) -> tuple[str, ...]:
        if not key.command:
            raise StepError("The key names no program; give it a `command`.")
        return key.command

    def _environment(self, config: dict[str, Any]) -> dict[str, str]:
        own = config.get("environment") or {}
        if not isinstance(own, dict):
            raise StepError("`environment` must be an object of names and texts.")
        return clean_environment(self._place.work) | {str(k): str(v) for k, v in own.items()}


def _size(output: BinaryIO) -> int:
    return os.fstat(output.fileno()).st_size


def _check_kept(output: BinaryIO, path: Path) -> None:
    """See that the path still means the file that was opened there."""
    kept = os.path.lexists(path) and os.path.samestat(path.lstat(), os.fstat(output.fileno()))
    if not kept:
        raise StepError("The program replaced the file that takes its output; let it only print.")


def _check_program(name: str, folder: Path, path: str) -> None:
    """See that there is such a program, for the shell that starts it would say so less clearly."""
    if shutil.which(str(folder / name) if "/" in name else name, path=path) is None:
        raise StepError(
            f"There is no program {name}, or it cannot be executed (PATH is {path}). Install it, or"
            " correct `command`."
        )
