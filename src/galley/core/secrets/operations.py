"""The secrets that Galley seals itself: writing, listing and opening them, scope by scope.

Values go in and to running steps; no call shows them. Which vault a kitchen or the account has, its
own or one elsewhere, is the business of `core.vaults`, which calls this.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid, TooLarge
from galley.core.events import audit
from galley.core.secrets.errors import SecretNotFound
from galley.core.secrets.models import Secret, VaultConfig
from galley.core.secrets.sealing import Sealer
from galley.kit.clock import Clock

ACCOUNT_SCOPE = "account"
REFERENCE = "vault://"
MAX_VALUE_BYTES = 1024 * 1024
MAX_PATH_LENGTH = 255
_SEGMENT = re.compile(r"[A-Za-z0-9_.\-]+\Z")


class SecretHome(Protocol):
    """What can have secrets of its own: a kitchen."""

    @property
    def id(self) -> int:
        """The row's key; part of the scope's name."""
        ...

    def policy_kind(self) -> str:
        """The word the policy table uses for it."""
        ...


def put_secret(
    session: Session,
    caller: Caller,
    sealer: Sealer,
    *,
    path: str,
    value: str,
    clock: Clock,
    kitchen: SecretHome | None = None,
) -> int:
    """Write a secret of the account, or of a kitchen; returns its version, counted from 1.

    `path` is with or without `vault://` in front.

    Raises:
        Invalid: the path cannot be one.
        TooLarge: the value has more than 1 MiB.
        Forbidden, NotFound: the caller may not, or may not see the kitchen.
    """
    caller.require("secret.write", kitchen)
    name, scope = checked_path(path), scope_of(kitchen)
    content = checked_value(value)
    now = clock.now()
    row = _locked(session, scope, name) or _made(session, scope, name, now)
    row.version += 1
    row.sealed = sealer.seal(content, row.seal_place())
    row.updated_at, row.updated_by = now, caller.user_id
    session.flush()
    act = "secret.write"
    audit.append(
        session, [audit.entry(caller, act, "secret", f"{scope}:{name}@{row.version}", at=now)]
    )
    return row.version


def delete_secret(
    session: Session,
    caller: Caller,
    *,
    path: str,
    clock: Clock,
    kitchen: SecretHome | None = None,
) -> None:
    """Remove a secret.

    Raises:
        SecretNotFound: there is none at the path.
    """
    caller.require("secret.write", kitchen)
    name, scope = checked_path(path), scope_of(kitchen)
    row = _locked(session, scope, name)
    if row is None:
        raise SecretNotFound(f"There is no secret {REFERENCE}{name}.")
    session.delete(row)
    session.flush()
    audit.append(
        session,
        [audit.entry(caller, "secret.delete", "secret", f"{scope}:{name}", at=clock.now())],
    )


def paths_of(session: Session, scope: str, below: str = "") -> list[str]:
    """The paths (without `vault://`) of a scope's secrets, A to Z; whoever asks may see them.

    `below` keeps those at that path or under it.
    """
    found = session.scalars(sa.select(Secret.path).where(Secret.scope == scope))
    stem = below.removeprefix(REFERENCE).strip("/")
    return sorted(path for path in found if not stem or path == stem or path.startswith(f"{stem}/"))


def open_values(
    session: Session, sealer: Sealer, scope: str, paths: Iterable[str]
) -> dict[str, str]:
    """The values at those of the paths where the scope has one.

    For steps only: the result must not reach a row, a log or an answer.

    Raises:
        SealBroken: a value does not open.
    """
    mine = (Secret.scope == scope) & Secret.path.in_(set(paths))
    rows = session.scalars(sa.select(Secret).where(mine))
    return {row.path: sealer.open(row.sealed, row.seal_place()).decode() for row in rows}


def delete_scope(session: Session, kitchen: SecretHome) -> int:
    """Remove all secrets of a kitchen that is being deleted, and its vault; how many secrets."""
    session.execute(sa.delete(VaultConfig).where(VaultConfig.scope == scope_of(kitchen)))
    gone = session.execute(sa.delete(Secret).where(Secret.scope == scope_of(kitchen)))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def rewrap_all(session: Session, sealer: Sealer) -> int:
    """Bring every secret and every vault's token under the current key; how many changed.

    Safe to repeat. Once it has run, the older keys can leave the key file.

    Raises:
        SealBroken: a value does not open; nothing is changed then.
    """
    changed = 0
    for row in session.scalars(sa.select(Secret).order_by(Secret.id).with_for_update()):
        if not sealer.is_current(row.sealed):
            row.sealed = sealer.rewrap(row.sealed, row.seal_place())
            changed += 1
    for vault in session.scalars(sa.select(VaultConfig).order_by(VaultConfig.id).with_for_update()):
        if vault.sealed_token is not None and not sealer.is_current(vault.sealed_token):
            vault.sealed_token = sealer.rewrap(vault.sealed_token, vault.seal_place())
            changed += 1
    session.flush()
    return changed


def scope_of(kitchen: SecretHome | None) -> str:
    """The name of a kitchen's scope; of the account's for None."""
    return ACCOUNT_SCOPE if kitchen is None else f"{kitchen.policy_kind()}:{kitchen.id}"


def checked_path(path: str) -> str:
    """The path without `vault://`, if it can be one.

    Raises:
        Invalid: empty, too long, or with characters other than letters, digits, `_`, `-`, `.`.
    """
    bare = _bare(path)
    segments = bare.split("/")
    good = len(bare) <= MAX_PATH_LENGTH and all(
        _SEGMENT.match(segment) and segment.strip(".") for segment in segments
    )
    if not good:
        raise Invalid(
            f"{path[:MAX_PATH_LENGTH]!r} cannot be a secret's path: it is made of letters, digits, "
            f"'_', '-' and '.', in parts with '/' between them, {MAX_PATH_LENGTH} at most."
        )
    return bare


def _bare(path: str) -> str:
    return path.removeprefix(REFERENCE)


def checked_value(value: str) -> bytes:
    """The value as bytes, if it can be one.

    Raises:
        Invalid: it has halves of characters.
        TooLarge: it has more than 1 MiB.
    """
    try:
        content = value.encode()
    except UnicodeEncodeError as error:
        raise Invalid("A secret's value is text without broken characters.") from error
    if len(content) > MAX_VALUE_BYTES:
        raise TooLarge(f"A secret has at most {MAX_VALUE_BYTES} bytes; this has {len(content)}.")
    return content


def _locked(session: Session, scope: str, path: str) -> Secret | None:
    """The secret at the path, kept from others until the commit."""
    mine = (Secret.scope == scope) & (Secret.path == path)
    return session.scalar(sa.select(Secret).where(mine).with_for_update())


def _made(session: Session, scope: str, path: str, now: datetime) -> Secret:
    """A secret without a value yet; of two writers at once both get the same one, in turn."""
    row = Secret(scope=scope, path=path, version=0, sealed="", created_at=now, updated_at=now)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        found = _locked(session, scope, path)
        if found is None:  # it came and went
            raise
        return found
    return row
