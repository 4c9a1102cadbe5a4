"""`galley secret`: what steps may know and nobody may read. Values come from standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galley.cli.common import data_option, load_settings, opened

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from galley.app.store import Store
    from galley.core.projects.models import Kitchen

kitchen_option = click.option(
    "--kitchen", "kitchen_name", metavar="K", help="The kitchen's own secrets, not the account's."
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
    from galley.core.identity.actors import system_caller
    from galley.core.identity.policy import JUDGE
    from galley.core.secrets import operations as secrets

    value = _read_value()
    with _changing(data, kitchen_name) as (store, session, kitchen):
        version = secrets.put_secret(
            session,
            system_caller(JUDGE),
            store.sealer,
            path=path,
            value=value,
            clock=store.clock,
            kitchen=kitchen,
        )
    click.echo(f"Wrote version {version} of vault://{secrets.checked_path(path)}.")


@secret.command("rm")
@click.argument("path")
@kitchen_option
@data_option
def remove_secret(path: str, kitchen_name: str | None, data: Path) -> None:
    """Remove the secret PATH."""
    from galley.core.identity.actors import system_caller
    from galley.core.identity.policy import JUDGE
    from galley.core.secrets import operations as secrets

    with _changing(data, kitchen_name) as (store, session, kitchen):
        secrets.delete_secret(
            session, system_caller(JUDGE), path=path, clock=store.clock, kitchen=kitchen
        )
    click.echo(f"Removed vault://{secrets.checked_path(path)}.")


@secret.command("list")
@kitchen_option
@data_option
def list_secrets(kitchen_name: str | None, data: Path) -> None:
    """Print the paths, A to Z, one a line."""
    from galley.core.identity.actors import system_caller
    from galley.core.identity.policy import JUDGE
    from galley.core.secrets import operations as secrets

    with _changing(data, kitchen_name) as (_, session, kitchen):
        for path in secrets.list_paths(session, system_caller(JUDGE), kitchen=kitchen):
            click.echo(f"vault://{path}")


@secret.command("rewrap")
@data_option
def rewrap(data: Path) -> None:
    """Bring every secret under the newest key; then older keys can leave the key file."""
    from galley.core.secrets import operations as secrets

    with _changing(data, None) as (store, session, _):
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
def _changing(
    data: Path, kitchen_name: str | None
) -> Iterator[tuple["Store", "Session", "Kitchen | None"]]:
    """The store, a transaction of its own, and the kitchen (None: the account)."""
    from galley.core.projects.repository import KitchenRepository

    with opened(data) as store, store.database.writing() as session:
        kitchen = None if kitchen_name is None else KitchenRepository(session).get(kitchen_name)
        yield store, session, kitchen


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
