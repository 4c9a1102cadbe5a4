"""The foreign clients' own environments, built on demand from their locks below `.envs/`."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements" / "clients"
ENVIRONMENTS = ROOT / ".envs"
BUILD_MINUTES = 10


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError("uv is missing: run `make install`")
    return found


def _run(*argv: str) -> None:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=BUILD_MINUTES * 60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")


def environment(name: str) -> Path:
    """The folder of the client's environment, made or renewed if its lock changed.

    Safe to call from several processes at once: one builds, the others wait.
    """
    lock = LOCKS / f"{name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = ENVIRONMENTS / name
    stamp = folder / "lock.sha256"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        _run(_uv(), "venv", "--quiet", "--python", sys.executable, str(folder))
        _run(
            _uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
            "--python", str(folder / "bin" / "python"),
            "--build-constraint", str(lock), "-r", str(lock),
        )  # fmt: skip
        stamp.write_text(digest)
    return folder


def clean_environment(**extra: str) -> dict[str, str]:
    """The variables a client is started with: no proxies, no analytics, no Python of ours."""
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}}
    return {
        **kept,
        "NO_PROXY": "*",
        "PYTHONWARNINGS": "ignore",
        "PYTHONIOENCODING": "utf-8",
        "DKCLI_SKIP_VERSION_CHECK": "1",
        **extra,
    }
