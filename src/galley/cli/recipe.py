"""`galley recipe check DIR`: everything that is wrong with a recipe, before it is ordered."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from galley.core.runs.ports import CompileRequest

_MAX_FILES = 100_000
_MAX_BYTES = 500_000_000
_IGNORED = frozenset({".git", ".dk", "compiled-recipe", "__pycache__", ".DS_Store"})


@click.group()
def recipe() -> None:
    """Check recipes."""


@recipe.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--variation", default="", help="Only this variation; all of them if left out.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter as an order would give it; VALUE is JSON, or else text. May be repeated.",
)
def check(folder: Path, variation: str, parameters: tuple[str, ...]) -> None:
    """Print every issue of the recipe in FOLDER as `file: what, where and cure`.

    Keys that Galley does not know, or that have no effect yet, are warnings. Exits with 1 if
    anything forbids a run, with 0 otherwise.
    """
    from galley.engine.compiling import ChildCompiler

    with ChildCompiler() as compiler:
        issues = compiler.check(_request(folder, variation, parameters))
    for issue in issues:
        word = "" if issue.severity == "error" else f"{issue.severity}: "
        place = f"{issue.file}: " if issue.file else ""
        click.echo(f"{place}{word}{issue.description}")
    shown = folder if folder.name else folder.resolve()
    errors = sum(issue.severity == "error" for issue in issues)
    if errors:
        click.echo(f"{errors} error{'s' if errors > 1 else ''} in {shown}.", err=True)
        raise SystemExit(1)
    warned = f" There are warnings: {len(issues)}." if issues else ""
    click.echo(f"The recipe in {shown} can run.{warned}", err=True)


def _request(folder: Path, variation: str, parameters: tuple[str, ...]) -> "CompileRequest":
    from galley.core.runs.ports import CompileRequest

    return CompileRequest(
        kind="recipe",
        project="",
        branch="",
        commit="",
        tree="",
        path=folder.resolve().name,
        variation=variation,
        files=_read_files(folder),
        levels=(("parameter", dict(map(_parameter, parameters))),),
        system={"kitchen": "local", "parent": "local", "now": datetime.now(UTC)},
    )


def _parameter(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"'{text}' is no parameter; write NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _read_files(folder: Path) -> dict[str, bytes]:
    """The recipe's files by their path below the folder; links are not followed."""
    found: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if _IGNORED.intersection(below.parts) or path.is_symlink() or not path.is_file():
            continue
        found[below.as_posix()] = content = path.read_bytes()
        size += len(content)
        if len(found) > _MAX_FILES or size > _MAX_BYTES:
            raise click.UsageError(
                f"{folder} holds more than {_MAX_FILES:,} files or {_MAX_BYTES:,} bytes."
                " Name the recipe's own folder."
            )
    return found
