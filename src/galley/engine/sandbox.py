"""The wall around a user's program: bubblewrap where it works, rlimits and process groups always.

Without bubblewrap a program is kept from mistakes, not from malice; `isolation()` says which.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

_TRIAL_S = 10.0
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "alternatives",
    "ca-certificates",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)


def build_argv(
    argv: Sequence[str],
    *,
    cwd: str,
    readable: Iterable[str] = (),
    writable: Iterable[str] = (),
    temporary: str | None = None,
    network: bool = False,
) -> list[str]:
    """The command line that runs `argv` behind bubblewrap.

    The program sees the system's programs and libraries, the interpreter that Galley runs on and
    `readable` read-only, and `writable` to write. `temporary` is the folder that stands at /tmp
    (else an empty one in memory). Paths that do not exist are left out. It has its own processes,
    its own network with loopback only unless `network`, no privileges, and dies with its parent.
    """
    command = [_program() or "bwrap", "--ro-bind", "/usr", "/usr", *_system(), *_etc()]
    command += ["--proc", "/proc", "--dev", "/dev"]
    command += ["--bind", temporary, "/tmp"] if temporary else ["--tmpfs", "/tmp"]  # noqa: S108
    command += ["--symlink", "/tmp", "/var/tmp"]  # noqa: S108 (names inside the sandbox)
    command += _binds(readable, writable)
    command += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += [] if network else ["--unshare-net"]
    command += ["--cap-drop", "ALL", "--die-with-parent", "--new-session", "--chdir", cwd]
    return [*command, "--", *argv]


def _system() -> list[str]:
    """Links or read-only binds for the folders that stand beside /usr."""
    words: list[str] = []
    for name in _SYSTEM_FOLDERS:
        path = Path(name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            words += ["--ro-bind", name, name]
    return words


@lru_cache(maxsize=1)
def _etc_names() -> tuple[str, ...]:
    return tuple(name for name in _ETC if Path("/etc", name).exists())


def _etc() -> list[str]:
    """The few files of /etc that programs need; links are followed, their targets bound."""
    words: list[str] = []
    for name in _etc_names():
        words += ["--ro-bind", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
    return words


def _binds(readable: Iterable[str], writable: Iterable[str]) -> list[str]:
    """Binds from the outermost folder in, so that none hides what was bound before it."""
    wanted: dict[str, str] = {}
    for path in (sys.base_prefix, *readable):
        wanted[os.path.abspath(path)] = "--ro-bind"  # noqa: PTH100 (text in, text out)
    for path in writable:
        wanted[os.path.abspath(path)] = "--bind"  # noqa: PTH100
    words: list[str] = []
    for path in sorted(wanted, key=lambda path: path.count("/")):
        if path != "/" and not _inside_system(path, wanted[path]) and Path(path).exists():
            words += [wanted[path], path, path]
    return words


def _inside_system(path: str, how: str) -> bool:
    """Whether the path is there already, since the whole of /usr is."""
    return how == "--ro-bind" and (path == "/usr" or path.startswith("/usr/"))


@lru_cache(maxsize=1)
def _program() -> str | None:
    return shutil.which("bwrap")


@lru_cache(maxsize=1)
def unavailable_because() -> str | None:
    """Why bubblewrap cannot be used here, or None if it can. Tried once for real, then known."""
    if _program() is None:
        return "the program bwrap is not installed"
    command = build_argv(["true"], cwd="/", network=False)
    try:
        trial = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_S,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap could not be run: {error}"
    if trial.returncode == 0:
        return None
    said = trial.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"bwrap failed: {said[-1] if said else f'exit status {trial.returncode}'}"


def available() -> bool:
    """Whether programs can run behind bubblewrap on this machine."""
    return unavailable_because() is None


def isolation(*, sandboxed: bool) -> tuple[str, ...]:
    """The walls that programs get, for people and for `capabilities()`."""
    base = ("process per attempt", "own process group", "rlimits", "process and memory watch")
    if sandboxed:
        return (*base, "bubblewrap: own files and processes, network only where allowed")
    return (*base, "no bubblewrap: files and network open; against mistakes, not hostile code")
