"""What webhooks are signed with: the setting, or keys that come from the secret key."""

import base64

from galley.core.secrets.sealing import Sealer
from galley.settings import Settings


def webhook_keys(settings: Settings, sealer: Sealer) -> tuple[bytes, ...]:
    """The keys, the newest first: each signs, so that receivers can change over in their time.

    Nothing of them is stored. Who puts the secret key back after a restore has them back.
    """
    if settings.webhook_key is not None:
        return (settings.webhook_key.encode(),)
    return sealer.derived("webhooks")


def as_text(key: bytes) -> str:
    """A key as receivers of Standard Webhooks write it."""
    return "whsec_" + base64.b64encode(key).decode()
