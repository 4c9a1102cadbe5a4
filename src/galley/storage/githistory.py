"""Who changed what and when: the commits of a branch, newest first."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from galley.storage.gitprogram import run_git


@dataclass(frozen=True, slots=True)
class PastCommit:
    """One commit of a history: its hash, `Name <email>`, whole message, and author's time (UTC)."""

    sha: str
    author: str
    message: str
    at: datetime


def author_line(name: str, email: str) -> str:
    """`Name <email>` without the characters that would break git's format."""
    clean = [re.sub(r"[<>\x00-\x1f\x7f]+", " ", part).strip() for part in (name, email)]
    return f"{clean[0] or clean[1] or 'unknown'} <{clean[1]}>"


def read_history(folder: Path, tip: str, path: str | None, limit: int) -> list[PastCommit]:
    """The newest commits up to `tip`, at most `limit`; with `path` those that changed it."""
    fields = "%H%x00%an <%ae>%x00%at%x00%B"
    wanted = ["--", path] if path else []
    said = run_git(folder, "log", "-z", f"-n{limit}", f"--format=tformat:{fields}", tip, *wanted)
    parts = said.decode(errors="replace").split("\0")
    return [
        PastCommit(sha, author, message.rstrip("\n"), datetime.fromtimestamp(int(at), UTC))
        for sha, author, at, message in zip(*[iter(parts)] * 4, strict=False)
    ]
