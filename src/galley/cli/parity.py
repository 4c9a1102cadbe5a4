"""`make parity`: the table of what Galley answers, from every surface's `operations.toml`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import galley.dialects
from galley.wire.operations import Operation, Operations, load_operations

PAGE = Path("docs/reference/parity.md")
_TITLES = {
    "datakitchen": "DataKitchen",
    "gitlab": "DataOps.live (GitLab)",
    "opendatasoft": "Opendatasoft",
    "dataiku": "Dataiku API node",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; with `--check`, only say whether it is what it should be (status 1: no)."""
    wanted = render(load_all())
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--check" in given:
        is_same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
        if not is_same:
            print(f"{PAGE} is out of date; run `make parity`.", file=sys.stderr)
        return 0 if is_same else 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(wanted, encoding="utf-8")
    print(f"Wrote {PAGE}.")
    return 0


def load_all() -> list[Operations]:
    """The operations of every dialect that lists them, A to Z."""
    folders = [Path(place) for place in galley.dialects.__path__]
    files = sorted(file for folder in folders for file in folder.glob("*/operations.toml"))
    return [load_operations(file, file.parent.name) for file in files]


def render(surfaces: Sequence[Operations]) -> str:
    """The page, in Markdown."""
    lines = [
        "# What Galley answers",
        "",
        "Every operation of the four APIs, made by `make parity` from the lists that the server",
        "itself starts from. *Done*: built, and a test asserts the whole answer and its effect.",
        "*Planned*: answers 501 in the API's own shape.",
        "",
        "| API | done | planned | all |",
        "|---|---:|---:|---:|",
        *(_summary(surface) for surface in surfaces),
        "",
    ]
    for surface in surfaces:
        lines += [f"## {_title(surface)}", ""]
        lines += ["| operation | address | state | action | note |", "|---|---|---|---|---|"]
        lines += [_row(operation) for operation in surface]
        lines.append("")
    return "\n".join(lines)


def _summary(surface: Operations) -> str:
    planned = len(surface.planned)
    return f"| {_title(surface)} | {len(surface) - planned} | {planned} | {len(surface)} |"


def _row(operation: Operation) -> str:
    address = f"`{operation.method} {operation.path}`"
    note = operation.note.replace("|", "\\|")
    return f"| {operation.id} | {address} | {operation.state} | {operation.action} | {note} |"


def _title(surface: Operations) -> str:
    return _TITLES.get(surface.surface, surface.surface)


if __name__ == "__main__":
    sys.exit(main())
