"""Writing, listing and resolving secrets. Values go in and to running steps; no call shows them."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid, NotFound, Refused, TooLarge
from galley.core.events import audit
from galley.core.secrets.models import Secret
from galley.core.secrets.sealing import Sealer
from galley.kit.clock import Clock

ACCOUNT_SCOPE = "account"
REFERENCE = "vault://"
MAX_VALUE_BYTES = 64 * 1024
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


class SecretsMissing(Refused):
    """A run needs secrets that nobody has written."""

    code = "secrets_missing"


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
        TooLarge: the value has more than 64 KiB.
        Forbidden, NotFound: the caller may not, or may not see the kitchen.
    """
    caller.require("secret.write", kitchen)
    name, scope = checked_path(path), scope_of(kitchen)
    content = _encoded(value)
    now = clock.now()
    row = session.scalar(_one(scope, name).with_for_update())
    if row is None:
        row = Secret(scope=scope, path=name, version=0, sealed="", created_at=now)
        session.add(row)
    row.version += 1
    row.sealed = sealer.seal(content, _aad(row))
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
        NotFound: there is none at the path.
    """
    caller.require("secret.write", kitchen)
    name, scope = checked_path(path), scope_of(kitchen)
    row = session.scalar(_one(scope, name).with_for_update())
    if row is None:
        raise NotFound(f"There is no secret {REFERENCE}{name}.")
    session.delete(row)
    session.flush()
    audit.append(
        session,
        [audit.entry(caller, "secret.delete", "secret", f"{scope}:{name}", at=clock.now())],
    )


def list_paths(
    session: Session, caller: Caller, *, kitchen: SecretHome | None = None, below: str = ""
) -> list[str]:
    """The paths (without `vault://`) of the account's or a kitchen's secrets, A to Z.

    `below` keeps those at that path or under it.
    """
    caller.require("secret.read", kitchen)
    found = session.scalars(
        sa.select(Secret.path).where(Secret.scope == scope_of(kitchen)).order_by(Secret.path)
    )
    stem = _bare(below).strip("/")
    if not stem:
        return list(found)
    return [path for path in found if path == stem or path.startswith(f"{stem}/")]


def resolve(
    session: Session, sealer: Sealer, references: Iterable[str], scopes: Sequence[str]
) -> dict[str, str]:
    """The values of `vault://...` references, each from the first of `scopes` that has it.

    The account's own secrets come last and need not be named. For steps only: the result must
    not reach a row, a log or an answer.

    Raises:
        SecretsMissing: some are nowhere; the message names them all.
        SealBroken: a value does not open.
    """
    wanted = {reference: checked_path(reference) for reference in references}
    if not wanted:
        return {}
    order = [*dict.fromkeys((*scopes, ACCOUNT_SCOPE))]
    rows = session.scalars(
        sa.select(Secret).where(Secret.scope.in_(order), Secret.path.in_(set(wanted.values())))
    )
    best: dict[str, Secret] = {}
    for row in sorted(rows, key=lambda row: order.index(row.scope)):
        best.setdefault(row.path, row)
    missing = sorted(reference for reference, path in wanted.items() if path not in best)
    if missing:
        raise SecretsMissing(
            f"No such secret: {', '.join(missing)}. Write it for the kitchen or for the account, "
            "or correct the reference."
        )
    return {
        reference: sealer.open(best[path].sealed, _aad(best[path])).decode()
        for reference, path in wanted.items()
    }


def delete_scope(session: Session, kitchen: SecretHome) -> int:
    """Remove all secrets of a kitchen that is being deleted; returns how many."""
    gone = session.execute(sa.delete(Secret).where(Secret.scope == scope_of(kitchen)))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def rewrap_all(session: Session, sealer: Sealer) -> int:
    """Bring every secret under the current key; returns how many changed.

    Safe to repeat. Once it has run, the older keys can leave the key file.

    Raises:
        SealBroken: a value does not open; nothing is changed then.
    """
    changed = 0
    for row in session.scalars(sa.select(Secret).order_by(Secret.id).with_for_update()):
        if not sealer.is_current(row.sealed):
            row.sealed = sealer.rewrap(row.sealed, _aad(row))
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


def _encoded(value: str) -> bytes:
    try:
        content = value.encode()
    except UnicodeEncodeError as error:
        raise Invalid("A secret's value is text without broken characters.") from error
    if len(content) > MAX_VALUE_BYTES:
        raise TooLarge(f"A secret has at most {MAX_VALUE_BYTES} bytes; this has {len(content)}.")
    return content


def _one(scope: str, path: str) -> sa.Select[Secret]:
    return sa.select(Secret).where(Secret.scope == scope, Secret.path == path)


def _aad(row: Secret) -> str:
    return f"secret|{row.scope}|{row.path}|{row.version}"
