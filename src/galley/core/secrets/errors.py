"""What can go wrong with secrets and the vaults that keep them."""

from galley.core.errors import Conflict, Invalid, NotFound, Refused, Unavailable


class SecretsMissing(Refused):
    """A run needs secrets that nobody has written."""

    code = "secrets_missing"


class SecretNotFound(NotFound):
    """There is no secret at that path of that vault."""

    code = "secret_not_found"


class VaultConfigMissing(NotFound):
    """There is no vault configuration to remove."""

    code = "vault_config_missing"

    def __init__(self, whose: str) -> None:
        super().__init__(f"No configuration exists for {whose}: there is nothing to remove.")


class VaultConfigInvalid(Invalid):
    """A vault cannot be configured like this; the message names the key and its cure."""

    code = "vault_config_invalid"


class VaultReadOnly(Conflict):
    """Nothing can be written here: the vault is another kitchen's, disabled or private."""

    code = "vault_read_only"


class VaultChanged(Conflict):
    """The vault was configured otherwise while it was being written to."""

    code = "vault_changed"

    def __init__(self) -> None:
        super().__init__(
            "The vault was configured otherwise at this moment; nothing was written. Send it again."
        )


class VaultRefused(Refused):
    """An external vault does not do what is asked: its answer, its address or the token bars it."""

    code = "vault_refused"


class VaultUnreachable(Unavailable):
    """An external vault does not answer now, or not in time."""

    code = "vault_unreachable"
