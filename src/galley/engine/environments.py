"""Cached interpreters for users' Python: one per set of requirements, built once, by uv.

A build happens in a temporary folder and appears by a rename. Whoever uses an environment holds
its lock shared, so that the sweep of the least recently used takes only what nobody uses.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from galley.engine.console import Console
from galley.engine.faults import StepError
from galley.kit.failpoints import failpoint

MAX_SIZE_VARIABLE = "GALLEY_ENVIRONMENTS_MAX_MB"
_DEFAULT_MAX_MB = 20_000
_BUILD_S = 1800.0
_LITTER, _LITTER_S = ("tmp", "old", "build"), 6 * _BUILD_S
_PAUSE_S = 0.1
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[A-Za-z0-9._,\s-]*\])?\s*"
    r"((===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*(;[^#@\\]*)?"
)
_PASSED_ON = (
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_CONFIGURATIONS = ("/etc/uv/uv.toml", "~/.config/uv/uv.toml")


class _UvRefused(StepError):
    """Uv ran, and says that it cannot do it."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A usable environment: its folder and its python program."""

    folder: Path

    @property
    def python(self) -> Path:
        """The program to run."""
        return self.folder / "bin" / "python"


def default_folder() -> Path:
    """Where environments lie when the task does not say."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "galley", "environments")


def environment_key(requirements: Sequence[str]) -> str:
    """The name of the environment with these requirements, on this python and platform."""
    facts = [
        sorted(requirements),
        platform.python_implementation(),
        platform.python_version(),
        sys.platform,
        platform.machine(),
    ]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]


def checked_requirements(lines: Sequence[str]) -> tuple[str, ...]:
    """Requirements without blanks and comments.

    Raises:
        StepError: a line is not a plain `name==version`: no options, addresses or paths.
    """
    found = []
    for line in lines:
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        if not _REQUIREMENT.fullmatch(text):
            raise StepError(
                f"The requirement {text!r} is not of the form name==version. Options, addresses"
                " and paths are not taken."
            )
        found.append(text)
    return tuple(found)


class EnvironmentStore:
    """The environments below one folder. `max_mb` is how much all of them may take."""

    def __init__(self, folder: Path, *, max_mb: int | None = None) -> None:
        self._folder = folder
        self._max_mb = max_mb or int(os.environ.get(MAX_SIZE_VARIABLE) or _DEFAULT_MAX_MB)

    @contextlib.contextmanager
    def using(self, requirements: Sequence[str], console: Console) -> Iterator[Interpreter]:
        """The environment, built first if need be, and kept from the sweep while in use.

        Raises:
            StepError: a requirement cannot be installed, or another build takes too long.
        """
        wanted = checked_requirements(requirements)
        key = environment_key(wanted)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        target = self._folder / key
        lock = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not self._hold(lock, target):
                self._build(wanted, target, console)
            (self._folder / f"{key}.lock").touch()
            yield Interpreter(target)
        finally:
            os.close(lock)

    def _hold(self, lock: int, target: Path) -> bool:
        """Take the lock: shared if the environment is there, else alone, to build it."""
        _lock(lock, fcntl.LOCK_SH)
        if target.is_dir():
            return True
        _lock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            _lock(lock, fcntl.LOCK_SH)
            return target.is_dir()
        return False

    def _build(self, requirements: tuple[str, ...], target: Path, console: Console) -> None:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shown = ", ".join(requirements) or "no requirements"
        console.info(f"Building the Python environment {target.name[:12]} ({shown})")
        begun = time.monotonic()
        try:
            self._install(requirements, temporary, console)
            failpoint("environment.built")
            temporary.rename(target)
            failpoint("environment.named")
        except StepError as error:
            raise StepError(
                f"The Python environment with {shown} could not be built: {error.message}",
                retryable=True,
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        console.info(f"Built in {time.monotonic() - begun:.1f} s")
        self._sweep(keep=target.name)

    def _install(self, requirements: tuple[str, ...], target: Path, console: Console) -> None:
        """Fill a new environment: from wheels, or else from sources.

        Unpacking a wheel runs nothing of its author's as long as nothing starts the environment's
        interpreter, which would obey a wheel's .pth files. A source does run its author's code:
        its build may write its own folders alone, neither other environments nor their cache.
        """
        python = str(target / "bin" / "python")
        self._uv(["venv", "--relocatable", "--python", _python(), str(target)], console)
        if not requirements:
            return
        install = ["pip", "install", "--no-compile-bytecode", "--python", python]
        try:
            self._uv([*install, "--only-binary", ":all:", *requirements], console)
        except _UvRefused:
            console.info("Not all of it is there as wheels; building from source, apart")
            own = target.with_suffix(".build")
            own.mkdir(mode=0o700)
            try:
                self._uv([*install, *requirements], console, apart=own, writable=[own, target])
            finally:
                shutil.rmtree(own, ignore_errors=True)
        _compile(target, console)

    def _uv(
        self,
        arguments: list[str],
        console: Console,
        *,
        apart: Path | None = None,
        writable: Sequence[Path] | None = None,
    ) -> None:
        program = _uv_program()
        environment, readable = _uv_surroundings((apart or self._folder) / ".cache")
        code = _run(
            [str(program), "--no-progress", "--quiet", *arguments],
            console,
            cwd=apart or self._folder,
            env=environment,
            network=True,
            readable=[program, *readable],
            writable=[self._folder] if writable is None else writable,
        )
        if code:
            raise _UvRefused(
                f"uv ended with exit code {code}; the log has its words. Check the names and"
                " versions of the requirements."
            )

    def _sweep(self, keep: str) -> None:
        """Delete the least recently used environments while all together are too large.

        What killed builds and deletions left is older than any build may take, and goes first.
        """
        for litter in chain(*(self._folder.glob(f".*.{kind}") for kind in _LITTER)):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - litter.stat().st_mtime > _LITTER_S:
                    shutil.rmtree(litter, ignore_errors=True)
        locks = [path for path in self._folder.glob("*.lock") if path.stem != keep]
        aged = sorted(locks, key=lambda path: path.stat().st_mtime)
        sizes = {path: _size(path.with_suffix("")) for path in aged}
        too_much = sum(sizes.values()) + _size(self._folder / keep) - self._max_mb * 1024 * 1024
        for path in aged:
            if too_much <= 0:
                return
            if sizes[path] and _delete_unused(path):
                too_much -= sizes[path]


def _compile(target: Path, console: Console) -> None:
    """Compile the modules once, since steps may only read them; files that cannot be are left.

    By the bare interpreter without site: nothing of the environment itself is run.
    """
    _run(
        [_python(), "-I", "-S", "-m", "compileall", "-q", "-q", str(target / "lib")],
        console,
        cwd=target,
        env={"PATH": "/usr/bin:/bin"},
        network=False,
        readable=[],
        writable=[target],
    )


def _run(
    argv: list[str],
    console: Console,
    *,
    cwd: Path,
    env: dict[str, str],
    network: bool,
    readable: Sequence[Path],
    writable: Sequence[Path],
) -> int:
    """Run a program of a build; its exit code."""
    try:
        return console.run_program(
            argv,
            cwd=cwd,
            env=env,
            network=network,
            readable=readable,
            writable=writable,
            timeout_s=_BUILD_S,
        )
    except TimeoutError as error:
        raise StepError(f"it took longer than {_BUILD_S:g} s.") from error
    except OSError as error:
        name = Path(argv[0]).name
        raise StepError(f"{name} could not be started: {error.strerror}.") from error


def _delete_unused(lock_path: Path) -> bool:
    """Delete an environment unless somebody uses it."""
    lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        trash = lock_path.with_name(f".{lock_path.stem}.{os.getpid()}.old")
        lock_path.with_suffix("").rename(trash)
        failpoint("environment.doomed")
        shutil.rmtree(trash, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def _lock(handle: int, kind: int) -> None:
    """Take a lock, waiting no longer than a build may take."""
    deadline = time.monotonic() + _BUILD_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StepError(
                    "Another step has been building the same Python environment for too long.",
                    retryable=True,
                ) from None
            time.sleep(_PAUSE_S)
        else:
            return


def _size(folder: Path) -> int:
    """Bytes below a folder; 0 if it is not there."""
    total = 0
    for base, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(base, name).lstat().st_size
    return total


def _python() -> str:
    """The interpreter that environments are made from: the one below ours."""
    return os.path.realpath(sys.executable)


def _uv_program() -> Path:
    import uv

    return Path(uv.find_uv_bin()).resolve()


def _uv_surroundings(cache: Path) -> tuple[dict[str, str], list[Path]]:
    """The environment of uv, and the files of its configuration that it must see."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("UV_")
    }
    environment |= {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(cache),
        "UV_CACHE_DIR": str(cache),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    readable = [Path(environment[n]) for n in ("SSL_CERT_FILE", "SSL_CERT_DIR") if n in environment]
    for text in _CONFIGURATIONS:
        path = Path(text).expanduser()
        if path.is_file() and "UV_CONFIG_FILE" not in environment:
            environment["UV_CONFIG_FILE"] = str(path)
    if "UV_CONFIG_FILE" in environment:
        readable.append(Path(environment["UV_CONFIG_FILE"]))
    return environment, readable
