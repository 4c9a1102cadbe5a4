"""Puts uv into a local folder, on a machine that may have no uv, no pip and no ensurepip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def _runs(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _have_pip() -> bool:
    """Find pip; as root on Debian, install it."""
    if _runs(sys.executable, "-m", "pip", "--version"):
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _runs("apt-get", "update", "-qq")
        _runs("apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-pip")
    return _runs(sys.executable, "-m", "pip", "--version")


def main() -> int:
    """Install uv below the folder given."""
    folder = Path(sys.argv[1]).resolve()
    if not _have_pip():
        print("Neither uv nor pip is here. Install one (Debian: apt install python3-pip).")
        return 1
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "uv"]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
