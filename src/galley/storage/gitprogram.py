"""The git program, run so that nothing outside its repository can tell it what to do."""

import os
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "all",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.file.allow": "never",
    "protocol.ext.allow": "never",
    "receive.fsckObjects": "true",
    "transfer.fsckObjects": "true",
}


class GitFailed(Exception):
    """The git program refused or was killed at its deadline; the text is what it said."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without the machine's and the user's git settings, hooks and prompts."""
    settings = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for number, (key, value) in enumerate(_SETTINGS.items()):
        settings[f"GIT_CONFIG_KEY_{number}"] = key
        settings[f"GIT_CONFIG_VALUE_{number}"] = value
    return settings | dict(extra or {})


def run_git(
    repository: Path | None,
    *arguments: str,
    stdin: bytes | IO[bytes] = b"",
    into: Path | None = None,
    timeout_s: float = 60.0,
    extra: Mapping[str, str] | None = None,
    statuses: Collection[int] = (0,),
) -> bytes:
    """Run `git ARGUMENTS` on a bare repository and give its output, or write it to `into`.

    `stdin` is what it reads, or an open file to read from; `extra` are variables of its
    environment; `statuses` the exit statuses that are no failure.

    Raises:
        GitFailed: another exit status, a missing program, or the deadline passed.
    """
    place = [] if repository is None else [f"--git-dir={repository}"]
    sink = subprocess.PIPE if into is None else into.open("wb")
    fed: Any = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    try:
        done = subprocess.run(
            ["git", *place, *arguments],
            **fed,
            stdout=sink,
            stderr=subprocess.PIPE,
            env=clean_environment(extra),
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise GitFailed(
            "the program git was not found on PATH; install git 2.39 or newer"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git {arguments[0]} took longer than {timeout_s:g} s") from error
    finally:
        if not isinstance(sink, int):
            os.fsync(sink.fileno())
            sink.close()
    if done.returncode not in statuses:
        said = done.stderr.decode(errors="replace").strip()
        raise GitFailed(f"git {arguments[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout or b""
