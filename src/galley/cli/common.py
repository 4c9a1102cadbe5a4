"""What several commands share: the data folder, settings, and the account's store."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from galley.app.store import Store
    from galley.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command, *, required: bool = True) -> Command:
    """The option that says where Galley keeps its files."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="GALLEY_DATA",
        required=required,
        help="The folder of everything that Galley keeps (GALLEY_DATA).",
    )(command)


def say(line: str) -> None:
    """Print a line that others wait for, in one piece: logs may go to the same place."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def load_settings(**options: Any) -> "Settings":
    """The settings: options that were given, then GALLEY_* variables, then DATA/galley.toml.

    Raises:
        click.UsageError: a value cannot be; the message names the setting.
    """
    import tomllib

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from galley.settings import Settings

    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "\n".join(f"  {_told(dict(fault))}" for fault in error.errors())
        raise click.UsageError(f"These settings cannot be:\n{faults}") from None
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{_file(given)} is not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{_file(given)} is not UTF-8 (byte {error.start}); save it as UTF-8."
        ) from None


def _file(given: dict[str, Any]) -> Path:
    from galley.settings import FILE_NAME

    return Path(str(given.get("data", "."))) / FILE_NAME


def _told(fault: dict[str, Any]) -> str:
    """One fault of the settings: its name, its variable, what is wrong and what to write."""
    kind, given, bounds = fault["type"], fault.get("input"), fault.get("ctx") or {}
    name = ".".join(str(part) for part in fault["loc"])
    if kind == "value_error":
        text = str(fault["msg"]).removeprefix("Value error, ")
    elif kind == "extra_forbidden":
        text = "there is no such setting; docs/reference/settings.md lists them all."
    elif kind.startswith(("int_", "float_")):
        text = f"{given!r} is no {'whole ' * kind.startswith('int_')}number; write one."
    elif kind in {"less_than_equal", "greater_than_equal", "greater_than"}:
        ((word, bound),) = bounds.items()
        most = {"le": "at most", "ge": "at least", "gt": "more than"}[word]
        text = f"{given} cannot be; write {most} {bound:g}."
    elif kind == "literal_error":
        text = f"{given!r} cannot be; write {bounds['expected']}."
    else:
        text = f"{fault['msg']}."
    if not name:
        return text
    return f"{name} (GALLEY_{name.upper().replace('.', '__')}): {text}"


def require_installation(settings: "Settings") -> None:
    """Refuse a folder in which no server was ever started: its name may be mistyped.

    Raises:
        click.ClickException: it is none; nothing was made.
    """
    from galley.storage import migrations
    from galley.storage.db import Database

    data = settings.data
    if settings.database_url is None:
        is_there = settings.database_file.is_file()
    else:
        database = Database(settings.database_address)
        try:
            is_there = data.is_dir() and migrations.current_version(database) is not None
        finally:
            database.close()
    if not is_there:
        raise click.ClickException(
            f"{data} holds no Galley. Give the folder of one with --data, or begin one there:"
            f" `galley serve --data {data}` (`galley migrate --data {data}` makes it without"
            " starting a server)."
        )


@contextmanager
def opened(data: Path) -> Iterator["Store"]:
    """The account's store, which must be there; works beside a running server.

    Raises:
        click.ClickException: there is none.
    """
    from galley.app.store import open_store

    settings = load_settings(data=data)
    require_installation(settings)
    store = open_store(settings)
    try:
        yield store
    finally:
        store.database.close()
