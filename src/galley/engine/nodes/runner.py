"""Runs one script in the user's own interpreter: started as a program, needs nothing but Python.

Its instructions come as JSON on standard input (they may hold secrets, so never on disk): `path`,
`parameters`, `exports`, `result` (the file for what came out), `secrets`, `facts`. The result is
`{"ok", "error", "exports", "missing"}`. It imports nothing but the standard library.
"""

import json
import logging
import math
import os
import re
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEVEL_MARK = "\x02"
"""What a line begins with that tells its level; the executor's log knows it too."""
LETTERS = ((logging.ERROR, "E"), (logging.WARNING, "W"), (logging.INFO, "I"))
_REFERENCE = re.compile(r"#\{\s*(vault://[^{}\s]+)\s*\}")


class Helpers:
    """What a script finds as HELPERS: its folders, its facts, and the run's variables."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.work = facts["work"]
        self.out = facts["out"]
        self.share = facts["share"]
        self.run = facts["run"]
        self.step = facts["step"]
        self.attempt = facts["attempt"]
        self.variables = facts["variables"]

    def output(self, name: str) -> str:
        """The path for a file that is to be published."""
        return str(Path(self.out, name))

    def shared(self, name: str) -> str:
        """The path of a file in the run's folder, which later steps see."""
        return str(Path(self.work, name))


def source_of(path: str) -> str:
    """A script's text; of a notebook the code cells, one after the other."""
    text = Path(path).read_text(encoding="utf-8")
    if not path.endswith(".ipynb"):
        return text
    lines = []
    for cell in json.loads(text).get("cells", []):
        if cell.get("cell_type") == "code":
            source = cell.get("source", [])
            for line in ("".join(source) if isinstance(source, list) else source).splitlines():
                magic = line.lstrip().startswith(("%", "!"))
                lines.append("# " + line if magic else line)
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    """A value as JSON can hold it.

    Raises:
        TypeError: it cannot.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__name__ in {"Decimal", "UUID"}:
        return str(value)
    raise TypeError(type(value).__name__)


def resolver(secrets: dict[str, str]) -> dict[str, Callable[[Any], Any]]:
    """The functions by which a script resolves references to secrets."""

    def vault_resolve(text: Any) -> Any:
        def value(match: re.Match[str]) -> str:
            if match.group(1) not in secrets:
                raise KeyError("the secret " + match.group(1) + " was not given to this step")
            return secrets[match.group(1)]

        return _REFERENCE.sub(value, text) if isinstance(text, str) else text

    def vault_resolve_dict(document: Any) -> Any:
        if isinstance(document, dict):
            return {key: vault_resolve_dict(item) for key, item in document.items()}
        if isinstance(document, list):
            return [vault_resolve_dict(item) for item in document]
        return vault_resolve(document)

    return {"vault_resolve": vault_resolve, "vault_resolve_dict": vault_resolve_dict}


class Marked(logging.Formatter):
    """Puts the mark and the letter of its level before every line, as the step's log reads it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text, traceback included."""
        letter = next((one for least, one in LETTERS if record.levelno >= least), "D")
        lines = super().format(record).splitlines() or [""]
        return "\n".join(LEVEL_MARK + letter + " " + line for line in lines)


def logger() -> logging.Logger:
    """A logger that prints to the step's log, each line with its level."""
    made = logging.getLogger("script")
    made.setLevel(logging.DEBUG)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Marked("%(message)s"))
    made.addHandler(handler)
    made.propagate = False
    return made


def run(order: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Run the script; returns the error's one line or None, and the script's globals."""
    path = order["path"]
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__dict__.update(resolver(order["secrets"]))
    module.__dict__.update(LOGGER=logger(), HELPERS=Helpers(order["facts"]), **order["parameters"])
    sys.modules["__main__"] = module
    sys.argv = [path]
    sys.path.insert(0, str(Path(path).parent))
    try:
        exec(compile(source_of(path), path, "exec"), module.__dict__)  # noqa: S102 - this is the user's own process
    except SystemExit as ending:
        if ending.code not in (None, 0):
            kind = "exit code " if isinstance(ending.code, int) else ""
            return "it ended with " + kind + str(ending.code), {}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames or error.__traceback__)
        return traceback.format_exception_only(type(error), error)[-1].strip(), {}
    return None, module.__dict__


def collect(
    names: list[str], found: dict[str, Any]
) -> tuple[dict[str, Any], list[str], str | None]:
    """The wanted globals as JSON values, the names that are not there, and a fault or None."""
    exports: dict[str, Any] = {}
    missing: list[str] = []
    for name in names:
        if name not in found:
            missing.append(name)
            continue
        try:
            exports[name] = plain(found[name])
        except TypeError as error:
            return (
                {},
                [],
                (
                    "the variable "
                    + name
                    + " is a "
                    + str(error)
                    + ", which cannot be exported; use text, numbers, lists or dictionaries"
                ),
            )
    return exports, missing, None


def main() -> int:
    """Read the order, run it, write the result."""
    order = json.loads(sys.stdin.buffer.read())
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    error, found = run(order)
    exports: dict[str, Any] = {}
    missing: list[str] = []
    if error is None:
        exports, missing, error = collect(order["exports"], found)
    result = {"ok": error is None, "error": error, "exports": exports, "missing": missing}
    with Path(order["result"]).open("w", encoding="utf-8") as file:
        json.dump(result, file)
    sys.stdout.flush()
    sys.stderr.flush()
    return 0 if error is None else 1


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.exit(code)
