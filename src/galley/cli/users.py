"""`galley user` and `galley token`: people and credentials, also while the server runs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galley.cli.common import data_option, opened

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from galley.app.store import Store
    from galley.core.identity.models import User
    from galley.kit.pages import Page, PageRequest

BUILT_KINDS = {"datakitchen": "pair"}
"""Kinds of tokens that some API takes today, and what the core calls them."""

PLANNED_KINDS = {
    "personal": "the GitLab dialect",
    "trigger": "the GitLab dialect",
    "apinode-admin": "the Dataiku API-node dialect",
    "opendatasoft": "the Opendatasoft dialect",
}
"""Kinds that belong to dialects still to be built."""

_NOT_BUILT = 2


@click.group()
def user() -> None:
    """Add, list and change users; it acts with their next request."""


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


@user.command("list")
@data_option
def list_users(data: Path) -> None:
    """Print the users, A to Z, one a line: e-mail address, roles, state, last sign-in."""
    from galley.core.identity import operations as identity

    with opened(data) as store, store.database.reading() as session:
        system = identity.system_caller()
        for one in _all(lambda page: identity.list_users(session, system, page)):
            state = "active" if one.is_active else "disabled"
            signed_in = _moment(one.last_login_at, "never signed in")
            click.echo(f"{one.login}\t{','.join(sorted(one.roles))}\t{state}\t{signed_in}")


@user.command("disable")
@click.argument("email")
@data_option
def disable_user(email: str, data: Path) -> None:
    """Let the user EMAIL in no more: sign-ins end, tokens sleep until `enable`."""
    from galley.core.identity import operations as identity

    with _changing(data, email) as (store, session, found):
        identity.disable_user(session, found, clock=store.clock)
        login = found.login
    click.echo(f"Disabled {login}.")


@user.command("enable")
@click.argument("email")
@data_option
def enable_user(email: str, data: Path) -> None:
    """Let the disabled user EMAIL in again."""
    from galley.core.identity import operations as identity

    with _changing(data, email) as (store, session, found):
        identity.enable_user(session, found, clock=store.clock)
        login = found.login
    click.echo(f"Enabled {login}.")


@user.command("password")
@click.argument("email")
@click.option(
    "--stdin",
    "from_stdin",
    is_flag=True,
    help="Read the password from standard input (one line) instead of asking.",
)
@data_option
def set_password(email: str, from_stdin: bool, data: Path) -> None:
    """Give the user EMAIL a new password, and end all of the user's sign-ins."""
    from galley.core.identity import operations as identity

    if from_stdin:
        password = _read_password()
    else:
        with opened(data) as store, store.database.reading() as session:
            _user(session, email)  # before anybody types a password for nothing
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    with _changing(data, email) as (store, session, found):
        identity.set_password(session, found, password, clock=store.clock)
        login = found.login
    click.echo(f"Set the password of {login}.")


@user.command("role")
@click.argument("email")
@click.argument("roles", nargs=-1, required=True)
@data_option
def set_roles(email: str, roles: tuple[str, ...], data: Path) -> None:
    """Give the user EMAIL exactly these ROLES: `member`, `operator` or `admin`.

    Each of them is a member too. Operators also look after the workers, read the metrics
    and write the secrets of the account; administrators may do everything.
    """
    from galley.core.identity import operations as identity

    with _changing(data, email) as (store, session, found):
        identity.set_roles(session, found, roles, clock=store.clock)
        told = f"{found.login} is now {' and '.join(sorted(found.roles))}."
    click.echo(told)


@click.group()
def token() -> None:
    """Issue, list and revoke tokens."""


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

    `datakitchen` prints `id:secret`, the pair that DKUtils sends as Basic. The other kinds belong
    to APIs that are not built yet.
    """
    if kind in PLANNED_KINDS:
        click.echo(
            f"Tokens of kind {kind} belong to {PLANNED_KINDS[kind]}, which is not built yet;"
            " nothing would take one. docs/reference/parity.md says what is built.",
            err=True,
        )
        sys.exit(_NOT_BUILT)
    from galley.core.identity import operations as identity

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _changing(data, login) as (store, session, owner):
        issued = identity.issue_token(
            session,
            owner,
            kind=BUILT_KINDS[kind],
            name=name,
            scopes=wanted or None,
            clock=store.clock,
        )
    click.echo(issued.text)


@token.command("list")
@click.option("--user", "login", required=True, help="Whose tokens: a user's e-mail address.")
@data_option
def list_tokens(login: str, data: Path) -> None:
    """Print a user's tokens, newest first: number, kind, name, state, last use."""
    from galley.core.identity import operations as identity

    words = {core: kind for kind, core in BUILT_KINDS.items()}
    with opened(data) as store, store.database.reading() as session:
        owner, system = _user(session, login), identity.system_caller()
        now = store.clock.now()
        for one in _all(lambda page: identity.list_tokens(session, system, owner, page=page)):
            state = _state(one.revoked_at, one.expires_at, now)
            used = _moment(one.last_used_at, "never used")
            kind = words.get(one.kind, one.kind)
            click.echo(f"{one.id}\t{kind}\t{one.name}\t{state}\t{used}")


@token.command("revoke")
@click.argument("number", type=int)
@data_option
def revoke_token(number: int, data: Path) -> None:
    """End the token NUMBER (of `galley token list`) for good."""
    from galley.core.identity import operations as identity

    with opened(data) as store, store.database.writing() as session:
        found = identity.get_token(session, identity.system_caller(), number)
        identity.revoke_token(session, found, clock=store.clock)
    click.echo(f"Revoked the token {number}.")


@contextmanager
def _changing(data: Path, login: str) -> "Iterator[tuple[Store, Session, User]]":
    """One transaction on a user, who must be there."""
    with opened(data) as store, store.database.writing() as session:
        yield store, session, _user(session, login)


def _user(session: "Session", login: str) -> "User":
    from galley.core.errors import NotFound
    from galley.core.identity import operations as identity

    found = identity.find_user(session, login)
    if found is None:
        raise NotFound(f"There is no user {login}; add one with `galley user add`.")
    return found


def _all(read: "Callable[[PageRequest], Page[Any]]") -> Iterator[Any]:
    """Every row of a list that comes in pages."""
    from galley.kit.pages import PageRequest

    offset = 0
    while items := read(PageRequest(offset=offset)).items:
        yield from items
        offset += len(items)


def _state(revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> str:
    if revoked_at is not None:
        return "revoked"
    if expires_at is None:
        return "has no end"
    return f"{'ended' if expires_at <= now else 'until'} {_moment(expires_at, '')}"


def _moment(at: datetime | None, never: str) -> str:
    return never if at is None else at.isoformat(timespec="seconds")


def _read_password() -> str:
    line = sys.stdin.readline()
    return line.removesuffix("\n").removesuffix("\r")
