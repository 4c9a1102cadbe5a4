"""Kitchens with files to merge, and how the tests look at what became of them."""

import base64
import os
import subprocess
from typing import Any

from tests.contract.datakitchen.world import new_name
from tests.contract.live import Api, Live

LINES = "".join(f"line {number}\n" for number in range(1, 21))
GIT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}


def edited(*numbers: int, word: str) -> str:
    """The lines, some of them changed."""
    text = LINES
    for number in numbers:
        text = text.replace(f"line {number}\n", f"{word} {number}\n")
    return text


def save(api: Api, kitchen: str, files: dict[str, str | None], recipe: str = "rec") -> None:
    """Commit files of a recipe (None deletes; binary names as base64)."""
    changes: dict[str, Any] = {
        path: {} if text is None else {"contents": text, "isNew": True}
        for path, text in files.items()
    }
    body = {"message": f"change of {kitchen}", "files": changes}
    api.good("POST", f"/v2/recipe/update/{kitchen}/{recipe}", body)


def read(api: Api, kitchen: str, path: str, recipe: str = "rec") -> str | None:
    """A file's text by another operation, None if it is not there."""
    got = api.call("GET", f"/v2/recipe/file/{kitchen}/{recipe}/{path}")
    return str(got.json["contents"]) if got.status == 200 else None


def pair_of_kitchens(api: Api, parent: str) -> str:
    """Give the parent the recipe `rec` with `a.txt` and `b.txt`, and open a child; its name."""
    api.good("POST", f"/v2/recipe/create/{parent}/rec", {"templatename": "qs1"})
    save(api, parent, {"a.txt": LINES, "b.txt": "b\n"})
    child = new_name("child")
    api.good("PUT", f"/v2/kitchen/create/{parent}/{child}", {})
    return child


def preview(api: Api, source: str, target: str) -> Any:
    """The answer of the preview."""
    return api.good("GET", f"/v2/kitchen/merge/{source}/{target}")


def tips(shown: Any) -> dict[str, str]:
    """What a merge is sent of a preview."""
    return {key: shown[key] for key in ("source_kitchen_sha", "target_kitchen_sha")}


def text_of(encoded: str) -> str:
    """The text behind base64."""
    return base64.b64decode(encoded, validate=True).decode()


def encoded(text: str) -> str:
    """Text as base64."""
    return base64.b64encode(text.encode()).decode()


def git(live: Live, *words: str) -> str:
    """What `git` says of the repository of kitchens."""
    folder = next((live.data / "git").glob("*/*.git"))
    done = subprocess.run(
        ["git", f"--git-dir={folder}", *words], capture_output=True, text=True, check=True, env=GIT
    )
    return done.stdout.strip()
