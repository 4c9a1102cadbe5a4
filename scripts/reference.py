"""Writes the reference pages that are read off the code: settings, errors, commands.

    .venv/bin/python scripts/reference.py [--check]

With --check nothing is written; the exit status tells whether a page is out of date.
"""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import galley
from galley.core.errors import GalleyError
from galley.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs/reference"


def _default(field: Any) -> str:
    if field.default_factory is not None or field.default is PydanticUndefined:
        return "needed" if field.is_required() else "see below"
    return "none" if field.default in {None, ()} else f"`{field.default}`"


def _values(field: Any) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return f" One of {', '.join(f'`{value}`' for value in get_args(field.annotation))}."


def _rows(model: type[BaseModel], prefix: str, table: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += _rows(inner, f"{prefix}{name.upper()}__", f"{table}{name}.")
        else:
            told = (field.description or "").replace("|", "\\|") + _values(field)
            rows.append(
                f"| `{prefix}{name.upper()}` | `{table}{name}` | {_default(field)} | {told} |"
            )
    return rows


def settings_page() -> str:
    """Every setting: its variable, its name in galley.toml, its default, what it does."""
    rows = "\n".join(_rows(Settings, "GALLEY_", ""))
    return f"""# Settings

Options of `galley serve` win over environment variables, variables over `DATA/galley.toml`, in
which a name with a dot is a key of that table (`[limits]`). Networks and folders are lists: in a
variable with commas between them (`10.0.0.0/8,192.0.2.1/32`), in the file as `["...", "..."]`.

| variable | in galley.toml | default | what it is |
|---|---|---|---|
{rows}

`GALLEY_SECRET_KEY` holds the key that seals secrets (instead of `DATA/secret.key`).
"""


def _errors(kind: type[GalleyError]) -> list[type[GalleyError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += _errors(child)
    return found


def errors_page() -> str:
    """Every error code, its family, and what it means."""
    for module in pkgutil.walk_packages(galley.__path__, "galley."):
        if ".core." in module.name or module.name.startswith("galley.engine."):
            importlib.import_module(module.name)
    rows = []
    seen = set()
    for kind in sorted(_errors(GalleyError)[1:], key=lambda k: (k.kind, k.code, k.__name__)):
        if kind.code in seen or "code" not in vars(kind):
            continue
        seen.add(kind.code)
        first = (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{kind.code}` | {kind.kind} | {' '.join(first.split())} |")
    table = "\n".join(rows)
    return f"""# Errors

Each refusal has a stable code. The families decide the status code that a dialect answers with.

| code | family | meaning |
|---|---|---|
{table}
"""


def _commands(group: click.Group, context: click.Context) -> list[str]:
    blocks = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = click.Context(
            command, parent=context, info_name=name, help_option_names=context.help_option_names
        )
        if isinstance(command, click.Group):
            blocks += _commands(command, own)
            continue
        blocks.append(f"## {own.command_path}\n\n```text\n{command.get_help(own)}\n```\n")
    return blocks


def commands_page() -> str:
    """The help of every command."""
    main: Any = importlib.import_module("galley.cli").cli
    context = main.make_context("galley", ["--"], resilient_parsing=True, terminal_width=80)
    return f"# Commands\n\n{COMMANDS_INTRODUCTION}\n" + "\n".join(_commands(main, context))


COMMANDS_INTRODUCTION = """\
All may be used while the server runs. Only `serve`, `migrate`, `restore` and `worker` make a data
folder; the others refuse one that holds no Galley, for its name may be mistyped. What a user can
mend is told in one line on standard error, with exit status 1; wrong options and settings end with
2.
"""

PAGES = {"settings.md": settings_page, "errors.md": errors_page, "cli.md": commands_page}


def main() -> int:
    """Write the pages, or check them."""
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale:
        print(("Out of date: " if "--check" in sys.argv else "Wrote ") + ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
