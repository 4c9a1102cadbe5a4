"""Listing, checking, writing, deleting and resolving secrets, whichever vault keeps them.

No call to a vault elsewhere is made inside a transaction: it may take its time.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.projects.models import Kitchen
from galley.core.projects.sight import see_kitchen
from galley.core.secrets import operations as secrets
from galley.core.secrets.errors import (
    SecretNotFound,
    SecretsMissing,
    VaultChanged,
    VaultRefused,
    VaultUnreachable,
)
from galley.core.secrets.operations import REFERENCE, checked_path
from galley.core.secrets.sealing import SealBroken
from galley.core.vaults.configuring import make_default
from galley.core.vaults.desk import Transactions, Vaults
from galley.core.vaults.finding import (
    Vault,
    vault_of_account,
    vault_of_kitchen,
    vaults_of_run,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths (without `vault://`) in one vault, A to Z; or why they cannot be listed."""

    paths: tuple[str, ...] = ()
    fault: str | None = None


def list_secrets(
    vaults: Vaults, caller: Caller, *, kitchen: str | None = None, below: str = ""
) -> list[str]:
    """The paths in the kitchen's vault, or in the account's, A to Z, at `below` or under it.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Invalid: `below` cannot be a path.
        VaultRefused, VaultUnreachable, SealBroken: an external vault does not tell.
    """
    stem = _stem(below)
    with vaults.database.reading() as session:
        vault = _seen(session, caller, kitchen)
        if vault is None or vault.is_disabled:
            return []
        if not vault.is_external:
            return secrets.paths_of(session, vault.scope, stem)
    _refuse_private(vault)
    return vaults.external.list_paths(vault.place(vaults.sealer), stem)


def list_both(
    vaults: Vaults, caller: Caller, *, kitchen: str | None = None, below: str = ""
) -> tuple[Listing, Listing | None]:
    """What `list_secrets` gives for the account and, if one is named, for the kitchen.

    A vault that does not tell its paths leaves the other's listing whole.

    Raises:
        KitchenNotFound, Invalid: see `list_secrets`.
    """

    def look(name: str | None) -> Listing:
        try:
            return Listing(tuple(list_secrets(vaults, caller, kitchen=name, below=below)))
        except (VaultRefused, VaultUnreachable, SealBroken) as error:
            return Listing(fault=error.message)

    own = None if kitchen is None else look(kitchen)
    return look(None), own


def has_secret(vaults: Vaults, caller: Caller, path: str, *, kitchen: str | None = None) -> bool:
    """Whether there is a secret at the path of the kitchen's vault, or of the account's.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Invalid: it cannot be a path.
        VaultRefused, VaultUnreachable, SealBroken: an external vault does not tell.
    """
    name = checked_path(path)
    with vaults.database.reading() as session:
        vault = _seen(session, caller, kitchen)
        if vault is None or vault.is_disabled:
            return False
        if not vault.is_external:
            return name in secrets.paths_of(session, vault.scope, name)
    _refuse_private(vault)
    return name in vaults.external.read(vault.place(vaults.sealer), [name])


def write_secret(
    vaults: Vaults,
    transactions: Transactions,
    caller: Caller,
    *,
    path: str,
    value: str,
    kitchen: str | None = None,
) -> int | None:
    """Write a secret into the vault of a kitchen, or of the account.

    A kitchen that neither has nor inherits a vault gets one of Galley's own. The version of the
    secret, counted from 1; None from a vault elsewhere.

    Raises:
        Invalid, TooLarge: the path or the value cannot be.
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller may not.
        VaultReadOnly: the kitchen inherits its vault, or it is disabled or private.
        VaultChanged: it was configured otherwise at this moment.
        VaultRefused, VaultUnreachable, SealBroken: an external vault did not take it.
    """
    name = checked_path(path)
    secrets.checked_value(value)
    with transactions.reading() as session:
        _, vault = _writable(session, caller, kitchen)
    if vault is not None and vault.is_external:
        place = vault.place(vaults.sealer)
        with _told(vaults, transactions, caller, "secret.write", f"{vault.scope}:{name}"):
            vaults.external.write(place, name, value)
        return None
    with transactions.writing() as session:
        row = _own(session, caller, kitchen, vaults)
        return secrets.put_secret(
            session,
            caller,
            vaults.sealer,
            path=name,
            value=value,
            clock=vaults.clock,
            kitchen=row,
        )


def delete_secret(
    vaults: Vaults,
    transactions: Transactions,
    caller: Caller,
    *,
    path: str,
    kitchen: str | None = None,
) -> None:
    """Remove a secret from the vault of a kitchen, or of the account.

    Raises:
        SecretNotFound: there is none at the path.
        KitchenNotFound, Forbidden, VaultReadOnly, VaultChanged, VaultRefused, VaultUnreachable,
        SealBroken: see `write_secret`.
    """
    name = checked_path(path)
    with transactions.reading() as session:
        _, vault = _writable(session, caller, kitchen)
    if vault is None:
        raise SecretNotFound(f"There is no secret {REFERENCE}{name}: kitchen {kitchen} has none.")
    if vault.is_external:
        place = vault.place(vaults.sealer)
        with _told(vaults, transactions, caller, "secret.delete", f"{vault.scope}:{name}"):
            if not vaults.external.delete(place, name):
                raise SecretNotFound(f"There is no secret {REFERENCE}{name} in {vault.name}.")
        return
    with transactions.writing() as session:
        row = _own(session, caller, kitchen, vaults)
        secrets.delete_secret(session, caller, path=name, clock=vaults.clock, kitchen=row)


def resolve_for_run(
    vaults: Vaults, kitchen_id: int | None, references: Iterable[str]
) -> dict[str, str]:
    """The values of `vault://...` references, for the steps of a run in this kitchen.

    Each comes from the kitchen's vault, else from the account's. The result must not reach a row,
    a log or an answer.

    Raises:
        SecretsMissing: some are nowhere; the message names them all.
        VaultRefused, VaultUnreachable: a vault that may hold one does not tell.
        SealBroken: a value, or a vault's token, does not open.
    """
    wanted = {reference: checked_path(reference) for reference in references}
    if not wanted:
        return {}
    with vaults.database.reading() as session:
        places = vaults_of_run(session, kitchen_id)
    found: dict[str, str] = {}
    for vault in places:
        left = set(wanted.values()) - found.keys()
        if not left:
            break
        if vault.is_external:
            found |= vaults.external.read(vault.place(vaults.sealer), left)
            continue
        with vaults.database.reading() as session:
            found |= secrets.open_values(session, vaults.sealer, vault.scope, left)
    missing = sorted(reference for reference, path in wanted.items() if path not in found)
    if missing:
        raise SecretsMissing(
            f"No such secret: {', '.join(missing)}. Write it for the kitchen or for the account, "
            "or correct the reference."
        )
    return {reference: found[path] for reference, path in wanted.items()}


def _seen(session: Session, caller: Caller, kitchen: str | None) -> Vault | None:
    """The vault of the kitchen, or of the account, for whoever may read its paths."""
    if kitchen is None:
        caller.require("secret.read")
        return vault_of_account(session)
    return vault_of_kitchen(session, see_kitchen(session, caller, kitchen, "secret.read"))


def _writable(
    session: Session, caller: Caller, kitchen: str | None, *, to_change: bool = False
) -> tuple[Kitchen | None, Vault | None]:
    """The kitchen (None: the account) and its vault, if the caller may write to it."""
    if kitchen is None:
        caller.require("secret.write")
        row, vault = None, vault_of_account(session)
    else:
        row = see_kitchen(session, caller, kitchen, "secret.write", to_change=to_change)
        found = vault_of_kitchen(session, row)
        if found is None:
            return row, None
        vault = found
    vault.require_writable()
    return row, vault


def _own(session: Session, caller: Caller, kitchen: str | None, vaults: Vaults) -> Kitchen | None:
    """The kitchen whose store in Galley is written to now; it gets one if it has none.

    Raises:
        VaultChanged: its vault is elsewhere by now.
    """
    row, vault = _writable(session, caller, kitchen, to_change=True)
    if vault is not None and vault.is_external:
        raise VaultChanged
    if vault is None and row is not None:
        make_default(session, caller, row, vaults.clock)
    return row


@contextmanager
def _told(
    vaults: Vaults, transactions: Transactions, caller: Caller, action: str, what: str
) -> Iterator[None]:
    """The audit of an act elsewhere: that it begins, and that it is done, or failed.

    Nothing is done that is not written down; if the server dies meanwhile, only its end is missing.
    """

    def note(session: Session, outcome: str) -> None:
        now = vaults.clock.now()
        audit.append(
            session, [audit.entry(caller, action, "secret", what, at=now, outcome=outcome)]
        )

    with vaults.database.writing() as session:
        note(session, "begun")
    try:
        yield
    except Exception:
        with vaults.database.writing() as session:
            note(session, "failed")
        raise
    with transactions.writing() as session:
        note(session, "done")


def _refuse_private(vault: Vault) -> None:
    if vault.is_private:
        raise VaultRefused(
            f"{vault.name[:1].upper()}{vault.name[1:]} is private: only runs reach it, so what it"
            " holds cannot be told here."
        )


def _stem(below: str) -> str:
    bare = below.removeprefix(REFERENCE).strip("/")
    return checked_path(bare) if bare else ""
