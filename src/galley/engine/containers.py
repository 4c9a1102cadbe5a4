"""Container engines: which one is there, and how an image is run with it."""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from galley.core.runs.plan import Environment, Limits
from galley.engine.faults import StepError

ENGINES = ("podman", "docker")
CHOICE_VARIABLE = "GALLEY_CONTAINER_ENGINE"
PULL_POLICIES = ("missing", "always", "never")
MOUNT = "/galley/step"
"""Where the step's working folder stands inside a container."""

_ANSWER_S = 20.0
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_DEFAULT_REGISTRY = "docker.io"
_PRIVATE = 0o600
_CLIENT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST", "TMPDIR")


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """A program that runs images."""

    name: str
    program: str


def find_engine() -> ContainerEngine | None:
    """The first engine that is installed and answers; GALLEY_CONTAINER_ENGINE chooses or says none.

    A docker client without its server does not count.
    """
    choice = os.environ.get(CHOICE_VARIABLE)
    for name in (choice,) if choice else ENGINES:
        program = shutil.which(name)
        if program is not None and _answers(program):
            return ContainerEngine(Path(name).name, program)
    return None


def _answers(program: str) -> bool:
    try:
        asked = subprocess.run(
            [program, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def image_name(environment: Environment) -> str:
    """The image, with its registry where it names one.

    Raises:
        StepError: it is not an image's name.
    """
    image = environment.image or ""
    if not _IMAGE.fullmatch(image):
        raise StepError(f"{image!r} is not the name of a container image.")
    return image


@dataclass(frozen=True, slots=True)
class ContainerRun:
    """One use of an image.

    `variables` is the file of the environment that programs in the image find: no value stands
    in a command line, and none reaches the engine's own client, which no wall surrounds.
    """

    name: str
    image: str
    folder: Path
    mounts: tuple[tuple[Path, str, bool], ...]
    variables: Path
    limits: Limits
    network: bool
    pull: str = "missing"
    command: tuple[str, ...] = ()


def run_argv(
    engine: ContainerEngine, wanted: ContainerRun, credentials: Path | None = None
) -> list[str]:
    """The command that runs the image in the foreground and removes the container at its end.

    `mounts` are (folder here, folder inside, whether it may be written).

    Raises:
        StepError: an unknown pull policy.
    """
    if wanted.pull not in PULL_POLICIES:
        raise StepError(f"The pull policy {wanted.pull} is not one of {', '.join(PULL_POLICIES)}.")
    argv = [engine.program]
    if credentials is not None and engine.name == "docker":
        argv += ["--config", str(credentials)]
    argv += ["run", "--rm", "--name", wanted.name, f"--pull={wanted.pull}"]
    if credentials is not None and engine.name != "docker":
        argv += ["--authfile", str(credentials / "config.json")]
    if engine.name == "docker" and os.getuid() != 0:
        argv += ["--user", f"{os.getuid()}:{os.getgid()}"]  # else its files would be root's
    argv += ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    argv += ["--network", "bridge" if wanted.network else "none"]
    argv += ["--volume", f"{wanted.folder}:{MOUNT}:rw", "--workdir", MOUNT]
    for here, inside, writable in wanted.mounts:
        argv += ["--volume", f"{here}:{inside}:{'rw' if writable else 'ro'}"]
    argv += ["--env-file", str(wanted.variables)]
    return [*argv, *_limits(wanted.limits), wanted.image, *wanted.command]


def _limits(limits: Limits) -> list[str]:
    words = []
    if limits.memory_mb:
        words += ["--memory", f"{limits.memory_mb}m"]
    if limits.processes:
        words += ["--pids-limit", str(limits.processes)]
    return words


def remove_argv(engine: ContainerEngine, name: str) -> list[str]:
    """The command that ends and removes a container, whatever it does."""
    return [engine.program, "rm", "--force", name]


@contextmanager
def registry_credentials(environment: Environment) -> Iterator[Path | None]:
    """A folder with the registry's credentials, in memory where the system offers that."""
    if not environment.registry_user:
        yield None
        return
    pair = f"{environment.registry_user}:{environment.registry_password or ''}".encode()
    auths = {environment.registry or _DEFAULT_REGISTRY: {"auth": base64.b64encode(pair).decode()}}
    with _private_folder() as folder:
        path = folder / "config.json"
        path.touch(mode=_PRIVATE)
        path.write_bytes(msgspec.json.encode({"auths": auths}))
        yield folder


def missing_engine(image: str) -> str:
    """What to say when an image cannot be run here."""
    return (
        f"The step needs the container image {image}, and no container engine answers here."
        " Install podman (or docker) on this machine and let Galley's user run it."
    )


def client_environment() -> dict[str, str]:
    """The environment of the engine's client: what it needs of this process's, nothing else."""
    return {name: os.environ[name] for name in _CLIENT if name in os.environ}


@contextmanager
def environment_file(values: Mapping[str, str]) -> Iterator[Path]:
    """A private file of these variables (UTF-8), in memory where the system offers that.

    Raises:
        StepError: a value holds what such a file, or an environment, cannot.
    """
    content = b"".join(_line_of(name, value) for name, value in values.items())
    with _private_folder() as folder:
        path = folder / "environment"
        path.touch(mode=_PRIVATE)
        path.write_bytes(content)
        yield path


def _line_of(name: str, value: str) -> bytes:
    if "\n" in value or "\r" in value:
        fault = "has several lines, which a container image cannot be given"
    elif "\0" in value:
        fault = "holds the character NUL, which no environment can"
    else:
        try:
            return f"{name}={value}\n".encode()
        except UnicodeEncodeError:
            fault = "is no valid text: it holds half of a character (a lone surrogate)"
    raise StepError(
        f"The environment variable {name} {fault}. Pass it as a parameter, or write it to a file."
    )


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that goes at the end, in memory where the system offers that."""
    shared = Path("/dev/shm")  # noqa: S108 - memory, private folder
    folder = Path(
        tempfile.mkdtemp(prefix="galley-", dir=shared if os.access(shared, os.W_OK) else None)
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
