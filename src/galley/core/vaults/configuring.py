"""Configuring the vaults of kitchens and of the account."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.projects.models import Kitchen
from galley.core.projects.sight import see_kitchen
from galley.core.secrets.errors import VaultConfigInvalid, VaultConfigMissing
from galley.core.secrets.models import VaultConfig, VaultService
from galley.core.secrets.operations import scope_of
from galley.core.secrets.sealing import Sealer
from galley.core.vaults.finding import Vault, config_of, vault_of_account, vault_of_kitchen
from galley.kit.clock import Clock
from galley.kit.destinations import fault_of_destination

MAX_PREFIX = 255
MAX_TOKEN = 4096
_PREFIX = re.compile(r"[A-Za-z0-9_.\- ]+(/[A-Za-z0-9_.\- ]+)*\Z")
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")


@dataclass(frozen=True, slots=True)
class WantedVault:
    """A vault as somebody wants it; `url` and what follows say something of an external one.

    Without a `token` the one that is stored stays, as long as `url` does. `is_inheritable` None
    leaves it as it is, and lets a new one be inherited.
    """

    service: VaultService
    url: str = ""
    token: str = field(default="", repr=False)
    prefix: str = ""
    is_private: bool = False
    is_inheritable: bool | None = None


def show_vaults(
    session: Session, caller: Caller, kitchen: str | None
) -> tuple[Vault, Vault | None]:
    """The account's vault, and the one that the kitchen has of its own or inherits.

    Where the account's is, and its prefix, is told to those who may configure it.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
    """
    caller.require("secret.read")
    account = vault_of_account(session)
    if not caller.may("secret.write"):
        account = replace(account, url="", prefix="")
    if kitchen is None:
        return account, None
    row = see_kitchen(session, caller, kitchen, "secret.read")
    return account, vault_of_kitchen(session, row)


def configure(
    session: Session,
    caller: Caller,
    sealer: Sealer,
    wanted: Mapping[str | None, WantedVault],
    clock: Clock,
) -> None:
    """Give kitchens (by name) and the account (None) these vaults; all of them or none.

    No secret is removed: a vault of Galley's own that comes back has what it had.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller may not.
        VaultConfigInvalid: a value that cannot be; the message names it.
    """
    for name in sorted(wanted, key=str):
        kitchen = _to_change(session, caller, name)
        _set(session, caller, sealer, kitchen, wanted=wanted[name], clock=clock)


def remove_config(session: Session, caller: Caller, name: str | None, clock: Clock) -> None:
    """Take a kitchen's own configuration away, so that it inherits; None: the account's.

    The account has Galley's own store then. No secret is removed.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller may not.
        VaultConfigMissing: it has none of its own.
    """
    kitchen = _to_change(session, caller, name)
    row = config_of(session, scope_of(kitchen))
    if row is None:
        raise VaultConfigMissing(_whose(kitchen))
    before = _document(row)
    session.delete(row)
    session.flush()
    _note(session, caller, "vault.remove", row.scope, clock, before=before)


def make_default(session: Session, caller: Caller, kitchen: Kitchen, clock: Clock) -> None:
    """Give a kitchen that has no vault one of Galley's own, which nobody inherits."""
    now = clock.now()
    row = VaultConfig(
        scope=scope_of(kitchen),
        service=VaultService.DEFAULT.value,
        version=1,
        created_at=now,
        updated_at=now,
        updated_by=caller.user_id,
    )
    session.add(row)
    session.flush()
    _note(session, caller, "vault.configure", row.scope, clock, after=_document(row))


def _to_change(session: Session, caller: Caller, name: str | None) -> Kitchen | None:
    """The kitchen, kept from others until the commit; None for the account."""
    if name is not None:
        return see_kitchen(session, caller, name, "secret.write", to_change=True)
    caller.require("secret.write")
    return None


def _set(
    session: Session,
    caller: Caller,
    sealer: Sealer,
    kitchen: Kitchen | None,
    *,
    wanted: WantedVault,
    clock: Clock,
) -> None:
    now, scope = clock.now(), scope_of(kitchen)
    row = config_of(session, scope)
    before = None if row is None else _document(row)
    token = _token(sealer, row, wanted, _whose(kitchen))
    if row is None:
        row = VaultConfig(scope=scope, version=0, is_inheritable=True, created_at=now)
        session.add(row)
    row.version += 1
    row.service = wanted.service.value
    row.url, row.prefix, row.is_private = wanted.url, wanted.prefix, wanted.is_private
    if wanted.service is VaultService.DISABLED:
        row.is_inheritable = False
    elif wanted.is_inheritable is not None:
        row.is_inheritable = wanted.is_inheritable
    row.sealed_token = None if token is None else sealer.seal(token.encode(), row.seal_place())
    row.updated_at, row.updated_by = now, caller.user_id
    session.flush()
    _note(session, caller, "vault.configure", scope, clock, before=before, after=_document(row))


def _token(sealer: Sealer, row: VaultConfig | None, wanted: WantedVault, whose: str) -> str | None:
    """The token to keep, once everything else about the wish is found good.

    Raises:
        VaultConfigInvalid: something cannot be; the message names it.
    """
    if wanted.service is not VaultService.EXTERNAL:
        given = [key for key in ("url", "token", "prefix", "is_private") if getattr(wanted, key)]
        if given:
            raise VaultConfigInvalid(
                f"The vault of {whose}: only an external vault has a url, token or prefix, or is"
                " private. Leave these out, or name the service custom."
            )
        return None
    if fault := _fault(wanted):
        raise VaultConfigInvalid(f"The vault of {whose}: {fault}")
    if wanted.token:
        return wanted.token
    if row is None or row.sealed_token is None or row.url != wanted.url:
        raise VaultConfigInvalid(
            f"The vault of {whose}: an external vault needs its token; give one that opens"
            f" {wanted.url}."
        )
    return sealer.open(row.sealed_token, row.seal_place()).decode()


def _fault(wanted: WantedVault) -> str | None:
    """What is wrong with an external vault's wish; None if nothing is."""
    if fault := _fault_of_url(wanted.url):
        return fault
    if wanted.token and (len(wanted.token) > MAX_TOKEN or not _TOKEN.match(wanted.token)):
        return f"its token must be up to {MAX_TOKEN} visible ASCII characters."
    if wanted.prefix and not _is_prefix(wanted.prefix):
        return (
            "its prefix is a path such as secret/dev, of letters, digits, '_', '-', '.' and"
            f" blanks, {MAX_PREFIX} characters at most."
        )
    return None


def _fault_of_url(url: str) -> str | None:
    if "://" not in url:
        return "an external vault needs its url, such as https://vault.example.com:8200."
    if "?" in url or "#" in url:
        return "its url is the server's address, without anything from a ? or # on."
    fault = fault_of_destination(url)
    return None if fault is None else f"its url {fault}."


def _is_prefix(text: str) -> bool:
    if len(text) > MAX_PREFIX or not _PREFIX.match(text):
        return False
    return all(part.strip(". ") for part in text.split("/"))


def _whose(kitchen: Kitchen | None) -> str:
    return "the account" if kitchen is None else f"kitchen {kitchen.name}"


def _document(row: VaultConfig) -> dict[str, Any]:
    """What the audit chain digests of a configuration: the token only by its write's number."""
    return {
        "service": row.service,
        "url": row.url,
        "prefix": row.prefix,
        "is_private": row.is_private,
        "is_inheritable": row.is_inheritable,
        "version": row.version,
    }


def _note(
    session: Session,
    caller: Caller,
    action: str,
    scope: str,
    clock: Clock,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    made = audit.entry(caller, action, "vault", scope, before=before, after=after, at=clock.now())
    audit.append(session, [made])
