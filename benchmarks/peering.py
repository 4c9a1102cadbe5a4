"""Brings the peers in: each in its own environment from a hashed lock, driven by its own script."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import ROOT

PEERS = ("prefect", "dbos", "celery", "dagster")
_LIMIT_S = 1200


@dataclass(frozen=True, slots=True)
class Measured:
    """A peer's figures: name of the work -> figures, and what was measured."""

    peer: str
    version: str
    figures: dict[str, dict[str, float]]


def measure(peer: str, postgres_address: str | None) -> list[Measured]:
    """Install the peer if need be and do all its work; DBOS twice, where there is a Postgres."""
    python = _environment(peer)
    script = ROOT / "benchmarks" / "peers" / f"drive_{peer}.py"
    found = [_drive(python, script)]
    if peer == "dbos" and postgres_address is not None:
        found.append(_drive(python, script, postgres_address, "dbos on Postgres"))
    return found


def _environment(peer: str) -> Path:
    """The interpreter of `.envs/PEER`, made anew when its lock is another."""
    lock = ROOT / "requirements" / "peers" / f"{peer}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = ROOT / ".envs" / peer
    python, mark = folder / "bin" / "python", folder / ".installed"
    if not mark.exists() or mark.read_text() != digest:
        print(f"installing {peer} into .envs/{peer}", file=sys.stderr, flush=True)
        uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
        env = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        base = f"{sys.version_info.major}.{sys.version_info.minor}"
        make = [uv, "venv", "--quiet", "--clear", "--python", base, str(folder)]
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
        subprocess.run(make, env=env, check=True)
        subprocess.run([*install, "--require-hashes", "-r", str(lock)], env=env, check=True)
        mark.write_text(digest)
    return python


def _drive(python: Path, script: Path, *argv: str) -> Measured:
    """Let the driver work; one that takes too long is asked to end, and ends its services."""
    process = subprocess.Popen([str(python), str(script), *argv], stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=_LIMIT_S)
    except BaseException:
        process.terminate()
        process.wait(60)
        raise
    if process.returncode:
        raise SystemExit(f"{script.name} ended with {process.returncode}; see above.")
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    return Measured(said["peer"], said["version"], said["figures"])
