"""`galley user` and `galley token`: people and credentials, also while the server runs."""

import sys
from pathlib import Path

import click

from galley.cli.common import data_option, opened

BUILT_KINDS = {"datakitchen": "pair", "personal": "personal"}
"""Kinds of tokens that some API takes today, and what the core calls them."""

PLANNED_KINDS = {
    "trigger": "the GitLab dialect",
    "apinode-admin": "the Dataiku API-node dialect",
    "opendatasoft": "the Opendatasoft dialect",
}
"""Kinds that belong to dialects still to be built."""

_NOT_BUILT = 2


@click.group()
def user() -> None:
    """Add users."""


@user.command("add")
@click.argument("email")
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (one line)."
)
@click.option("--name", default="", help="The user's name.")
@click.option("--admin", is_flag=True, help="The user administers the account.")
@data_option
def add_user(email: str, password_stdin: bool, name: str, admin: bool, data: Path) -> None:
    """Add the user EMAIL; without a password the user can only hold tokens."""
    from galley.core.identity import operations as identity

    password = _read_password() if password_stdin else None
    roles = frozenset({"admin", "member"}) if admin else frozenset({"member"})
    with opened(data) as store, store.database.writing() as session:
        made = identity.create_user(
            session, email=email, name=name, password=password, roles=roles, clock=store.clock
        )
        login = made.login
    kind = "administrator" if admin else "user"
    click.echo(f"Added the {kind} {login}.")


@click.group()
def token() -> None:
    """Issue tokens."""


@token.command("add")
@click.option("--user", "login", required=True, help="Whose token: a user's e-mail address.")
@click.option(
    "--kind",
    required=True,
    type=click.Choice([*BUILT_KINDS, *PLANNED_KINDS]),
    help="Which API takes it.",
)
@click.option("--scopes", default="", help="What it is good for, with commas; all if not given.")
@click.option("--name", default="", help="A name to know it by.")
@data_option
def add_token(login: str, kind: str, scopes: str, name: str, data: Path) -> None:
    """Print a new token, and nothing else. It is shown this once.

    `datakitchen` prints `id:secret`, the pair that DKUtils sends as Basic; `personal` prints a
    token for Galley's own use.
    """
    if kind in PLANNED_KINDS:
        click.echo(
            f"Tokens of kind {kind} belong to {PLANNED_KINDS[kind]}, which is not built yet;"
            " nothing would take one. docs/reference/parity.md says what is built.",
            err=True,
        )
        sys.exit(_NOT_BUILT)
    from galley.core.errors import NotFound
    from galley.core.identity import operations as identity

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with opened(data) as store, store.database.writing() as session:
        owner = identity.find_user(session, login)
        if owner is None:
            raise NotFound(f"There is no user {login}; add one with `galley user add`.")
        issued = identity.issue_token(
            session,
            owner,
            kind=BUILT_KINDS[kind],
            name=name,
            scopes=wanted or None,
            clock=store.clock,
        )
    click.echo(issued.text)


def _read_password() -> str:
    line = sys.stdin.readline()
    return line.removesuffix("\n").removesuffix("\r")
