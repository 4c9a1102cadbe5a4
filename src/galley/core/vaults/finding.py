"""Which vault a kitchen, a run or the account reads its secrets from.

A kitchen has the vault that is configured for it, else that of the nearest kitchen above it that
has one, if that one lets itself be inherited, else none. Behind every kitchen stands the account's
vault, which is Galley's own unless configured otherwise, and which can be disabled.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.projects.models import Kitchen
from galley.core.projects.repository import KitchenRepository
from galley.core.secrets.errors import VaultReadOnly
from galley.core.secrets.models import VaultConfig, VaultService
from galley.core.secrets.operations import ACCOUNT_SCOPE, scope_of
from galley.core.secrets.ports import VaultPlace
from galley.core.secrets.sealing import SealBroken, Sealer

_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Vault:
    """A vault as a kitchen, or the account, has it.

    `scope` is where it is configured, and where Galley's own store keeps its secrets; `source` is
    the kitchen that it is inherited from, None for one's own; `name` is what messages call it.
    """

    scope: str
    name: str
    service: VaultService = VaultService.DEFAULT
    url: str = ""
    prefix: str = ""
    is_private: bool = False
    is_inheritable: bool = False
    source: str | None = None
    sealed_token: str | None = field(default=None, repr=False)
    seal_place: str = field(default="", repr=False)

    @property
    def is_external(self) -> bool:
        """Whether it is a vault elsewhere."""
        return self.service is VaultService.EXTERNAL

    @property
    def is_disabled(self) -> bool:
        """Whether it holds nothing and takes nothing."""
        return self.service is VaultService.DISABLED

    def place(self, sealer: Sealer) -> VaultPlace:
        """Where an external one is, with its token.

        Raises:
            SealBroken: the token does not open.
        """
        try:
            token = sealer.open(self.sealed_token or "", self.seal_place).decode()
        except SealBroken as error:
            raise SealBroken(f"The token of {self.name} does not open. {error.message}") from error
        return VaultPlace(self.name, self.url, self.prefix, token)

    def require_writable(self) -> None:
        """Do nothing if secrets can be written to it from here.

        Raises:
            VaultReadOnly: it is another kitchen's, disabled, or private.
        """
        if self.source is not None:
            raise VaultReadOnly(
                f"This kitchen inherits {self.name}, which is read only here. Write the secret in"
                f" {self.source}, or give this kitchen a vault of its own first."
            )
        if self.is_disabled:
            raise VaultReadOnly(
                f"{_capital(self.name)} is disabled; configure it before writing to it."
            )
        if self.is_private:
            raise VaultReadOnly(
                f"{_capital(self.name)} is private: nothing but runs reaches it from here. Write to"
                " it where it is."
            )


def vault_of_account(session: Session) -> Vault:
    """The account's vault; Galley's own store where nothing is configured."""
    row = config_of(session, ACCOUNT_SCOPE)
    name = "the account's vault"
    return Vault(ACCOUNT_SCOPE, name) if row is None else _vault(row, name)


def vault_of_kitchen(session: Session, kitchen: Kitchen) -> Vault | None:
    """The kitchen's vault: its own, or the one it inherits; None if it has neither."""
    for one in _line(session, kitchen):
        row = config_of(session, scope_of(one))
        if row is None:
            continue
        name = f"the vault of kitchen {one.name}"
        if one is kitchen:
            return _vault(row, name)
        return _vault(row, name, source=one.name) if row.is_inheritable else None
    return None


def vaults_of_run(session: Session, kitchen_id: int | None) -> list[Vault]:
    """Where a run's references are looked up, in this order; disabled ones are left out."""
    kitchen = None if kitchen_id is None else KitchenRepository(session).of_id(kitchen_id)
    own = None if kitchen is None else vault_of_kitchen(session, kitchen)
    found = [own, vault_of_account(session)]
    return [vault for vault in found if vault is not None and not vault.is_disabled]


def config_of(session: Session, scope: str) -> VaultConfig | None:
    """The scope's own configuration."""
    return session.scalar(sa.select(VaultConfig).where(VaultConfig.scope == scope))


def _line(session: Session, kitchen: Kitchen) -> Iterator[Kitchen]:
    """The kitchen, its parent, and so on up."""
    seen: set[int] = set()
    row: Kitchen | None = kitchen
    while row is not None and row.id not in seen and len(seen) < _DEPTH:
        seen.add(row.id)
        yield row
        row = None if row.parent is None else KitchenRepository(session).find(row.parent)


def _vault(row: VaultConfig, name: str, source: str | None = None) -> Vault:
    return Vault(
        scope=row.scope,
        name=name,
        service=VaultService(row.service),
        url=row.url,
        prefix=row.prefix,
        is_private=row.is_private,
        is_inheritable=row.is_inheritable,
        source=source,
        sealed_token=row.sealed_token,
        seal_place=row.seal_place(),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
