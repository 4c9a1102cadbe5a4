"""The tables of sealed secrets, and of which vault keeps them."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from galley.storage.db import Base, Id, UtcTime


class Secret(Base):
    """A sealed value at a path of one scope: `account`, or `kitchen:<id>`.

    `version` counts the writes; it is bound into the seal, so an old value cannot be put back.
    """

    __tablename__ = "secret"
    __table_args__ = (UniqueConstraint("scope", "path"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Id, default=1)
    sealed: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_by: Mapped[int | None] = mapped_column(Id)

    def seal_place(self) -> str:
        """The place that the value's seal is bound to."""
        return f"secret|{self.scope}|{self.path}|{self.version}"


class VaultService(StrEnum):
    """Who keeps the secrets: Galley's own sealed store, a HashiCorp Vault, or nobody."""

    DEFAULT = "default"
    EXTERNAL = "external"
    DISABLED = "disabled"


class VaultConfig(Base):
    """Which vault a scope has: `account`, or `kitchen:<id>`; one row at most.

    `service` is a `VaultService`. `url`, `prefix`, `is_private` and `sealed_token` say something of
    an external vault only. `version` counts the writes; it is bound into the token's seal.
    """

    __tablename__ = "vault_config"
    __table_args__ = (UniqueConstraint("scope"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    service: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text, default="")
    prefix: Mapped[str] = mapped_column(Text, default="")
    is_private: Mapped[bool] = mapped_column(Boolean, default=False)
    is_inheritable: Mapped[bool] = mapped_column(Boolean, default=False)
    version: Mapped[int] = mapped_column(Id, default=1)
    sealed_token: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_by: Mapped[int | None] = mapped_column(Id)

    def seal_place(self) -> str:
        """The place that the token's seal is bound to."""
        return f"vault-token|{self.scope}|{self.version}"
