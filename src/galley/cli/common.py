"""What several commands share: the data folder, settings, and the account's store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from galley.app.store import Store
    from galley.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command) -> Command:
    """The option that says where Galley keeps its files."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="GALLEY_DATA",
        required=True,
        help="The folder of everything that Galley keeps (GALLEY_DATA).",
    )(command)


def load_settings(**options: Any) -> "Settings":
    """The settings: options that were given, then GALLEY_* variables, then DATA/galley.toml.

    Raises:
        click.UsageError: a value cannot be; the message names the setting.
    """
    import tomllib

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from galley.settings import FILE_NAME, Settings

    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(str(part) for part in fault['loc']) or 'settings'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise click.UsageError(f"These settings cannot be:\n{faults}") from None
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except tomllib.TOMLDecodeError as error:
        place = Path(str(given.get("data", "."))) / FILE_NAME
        raise click.UsageError(f"{place} is not valid TOML: {error}") from None


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
