"""`galley secret`: what steps may know and nobody may read. Values come from standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galley.cli.common import data_option, load_settings, opened

if TYPE_CHECKING:
    from galley.core.caller import Caller
    from galley.core.vaults.desk import Vaults

kitchen_option = click.option(
    "--kitchen",
    "kitchen_name",
    metavar="K",
    help="The secrets of this kitchen's vault, not of the account's.",
)


@click.group()
def secret() -> None:
    """Write, remove and list secrets; no command shows a value."""


@secret.command("set")
@click.argument("path")
@click.option(
    "--stdin",
    "from_stdin",
    is_flag=True,
    required=True,
    help="Read the value from standard input; one line end after it is left out.",
)
@kitchen_option
@data_option
def set_secret(path: str, *, from_stdin: bool, kitchen_name: str | None, data: Path) -> None:
    """Write the secret PATH, which recipes name as vault://PATH."""
    del from_stdin  # the one way there is: an argument would show in the list of processes
    from galley.core.secrets.operations import checked_path
    from galley.core.vaults import operations

    value = _read_value()
    with _vaults(data) as (vaults, caller):
        version = operations.write_secret(
            vaults, vaults.database, caller, path=path, value=value, kitchen=kitchen_name
        )
    what = "" if version is None else f"version {version} of "
    where = "" if version is not None else " to the vault elsewhere"
    click.echo(f"Wrote {what}vault://{checked_path(path)}{where}.")


@secret.command("rm")
@click.argument("path")
@kitchen_option
@data_option
def remove_secret(path: str, kitchen_name: str | None, data: Path) -> None:
    """Remove the secret PATH."""
    from galley.core.secrets.operations import checked_path
    from galley.core.vaults import operations

    with _vaults(data) as (vaults, caller):
        operations.delete_secret(vaults, vaults.database, caller, path=path, kitchen=kitchen_name)
    click.echo(f"Removed vault://{checked_path(path)}.")


@secret.command("list")
@kitchen_option
@data_option
def list_secrets(kitchen_name: str | None, data: Path) -> None:
    """Print the paths, A to Z, one a line."""
    from galley.core.vaults import operations

    with _vaults(data) as (vaults, caller):
        for path in operations.list_secrets(vaults, caller, kitchen=kitchen_name):
            click.echo(f"vault://{path}")


@secret.command("rewrap")
@data_option
def rewrap(data: Path) -> None:
    """Bring secrets and tokens under the newest key; then older keys can leave the key file."""
    from galley.core.secrets import operations as secrets

    with opened(data) as store, store.database.writing() as session:
        changed = secrets.rewrap_all(session, store.sealer)
    click.echo(f"Secrets brought under the newest key: {changed}.")


@click.command("webhook-key")
@data_option
def webhook_key(data: Path) -> None:
    """Print the key that webhooks are signed with, for those who receive them.

    It is written as Standard Webhooks has it, whsec_ and base64. After a change of the secret key
    the newest is printed; until the older one leaves the key file, webhooks carry both signatures.
    """
    from galley.app.signing import as_text, webhook_keys

    with opened(data) as store:
        click.echo(as_text(webhook_keys(load_settings(data=data), store.sealer)[0]))


@contextmanager
def _vaults(data: Path) -> Iterator[tuple["Vaults", "Caller"]]:
    """The installation's vaults, and who calls from its own machine."""
    from galley.app.parts import tell_steps, vaults_of
    from galley.core.identity.actors import system_caller
    from galley.core.identity.policy import JUDGE

    with opened(data) as store:
        tell_steps(load_settings(data=data))  # which addresses a vault elsewhere may have
        yield vaults_of(store), system_caller(JUDGE)


def _read_value() -> str:
    from galley.core.errors import Invalid

    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Invalid("A secret's value is UTF-8 text; this is not.") from error
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Invalid("There is no value on standard input; nothing was written.")
    return value
