"""What clients send about vaults and secrets. Source: contract 3.9."""

from typing import Any, Literal

from pydantic import Field, field_validator

from galley.core.secrets.errors import VaultConfigInvalid
from galley.core.secrets.models import VaultService
from galley.core.vaults.configuring import WantedVault
from galley.dialects.datakitchen.schemas import Body, structure_from_text
from galley.kit.destinations import MAX_URL

GLOBAL = "**__GLOBAL__**"
"""What the account's vault is called everywhere. Source: contract 3.9."""


class VaultQuery(Body):
    """Whose vault is wanted beside the account's; one kitchen, in spite of the key's name."""

    kitchen: str | None = Field(default=None, validation_alias="kitchens", max_length=255)


class VaultDocument(Body):
    """A vault as clients send it. The account's is `custom` as soon as it has a url."""

    service: Literal["default", "custom"] | None = None
    url: str | None = Field(default=None, max_length=MAX_URL)
    token: str | None = None
    prefix: str | None = None
    private: bool = False
    inheritable: bool | None = None
    disabled: bool = False
    source: str | None = Field(default=None, validation_alias="sourceKitchen")

    def wanted(self, name: str) -> WantedVault:
        """The vault that is meant for this kitchen, or for `**__GLOBAL__**`.

        Raises:
            VaultConfigInvalid: it says nothing, or is another kitchen's.
        """
        if self.source is not None:
            raise VaultConfigInvalid(
                f"config: {name} inherits this vault from {self.source}; change it there, or leave"
                " sourceKitchen out to give the kitchen its own."
            )
        if self.disabled:
            return WantedVault(VaultService.DISABLED)
        if self.service is None and not self.url:
            raise VaultConfigInvalid(
                f"config: {name} needs a service (default or custom), or disabled: true."
            )
        return WantedVault(
            self._service(name),
            url=(self.url or "").strip().rstrip("/"),
            token=self.token or "",
            prefix=(self.prefix or "").strip().strip("/"),
            is_private=self.private,
            is_inheritable=self.inheritable,
        )

    def _service(self, name: str) -> VaultService:
        """The command line says `default` of an account's vault that it gives a url."""
        is_external = self.service != "default" or (name == GLOBAL and bool(self.url))
        return VaultService.EXTERNAL if is_external else VaultService.DEFAULT


class VaultConfigs(Body):
    """The body of POST `vault/config`: vaults by kitchen, the account's under its own name."""

    config: dict[str, VaultDocument] = Field(min_length=1, max_length=1000)

    @field_validator("config", mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        return structure_from_text(value)


class NewSecret(Body):
    """The body of POST `secret`; without a kitchen the account is meant."""

    value: str
    kitchen: str | None = Field(default=None, max_length=255)


class OldSecret(Body):
    """The body of DELETE `secret`; without a kitchen the account is meant."""

    kitchen: str | None = Field(default=None, max_length=255)
