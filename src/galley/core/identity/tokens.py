"""What tokens look like, and how their texts are made and checked. Nothing here stores anything.

Most are `gly_<kind>_<32 base62 characters><6 of checksum>`: 190 random bits, recognisable by
secret scanners, and a mistyped one is refused without asking the database. The bearer of a
sign-in has the shape of a JWT, because clients decode its expiry; it is checked by its stored
hash like the others. A pair is `id:secret` for HTTP Basic.
"""

import base64
import hashlib
import json
import secrets
import zlib
from datetime import datetime, timedelta
from enum import StrEnum

PREFIX = "gly"
RANDOM_LENGTH = 32
CHECK_LENGTH = 6
KEY_ID_LENGTH = 20
BEARER_LIFETIME = timedelta(hours=4)
MAX_TEXT_LENGTH = 1_024
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_JWT_PARTS = 3


class TokenKind(StrEnum):
    """What a token is for; each API accepts only its own kinds."""

    SESSION_BEARER = "session_bearer"
    PAIR = "pair"
    PERSONAL = "personal"
    BOT = "bot"
    TRIGGER = "trigger"
    NODE_ADMIN = "node_admin"
    PORTAL = "portal"
    JOB = "job"
    SETUP = "setup"


DEFAULT_LIFETIME: dict[TokenKind, timedelta | None] = {
    TokenKind.SESSION_BEARER: BEARER_LIFETIME,
    TokenKind.PAIR: timedelta(days=365),
    TokenKind.PERSONAL: timedelta(days=365),
    TokenKind.BOT: timedelta(days=365),
    TokenKind.TRIGGER: None,
    TokenKind.NODE_ADMIN: None,
    TokenKind.PORTAL: None,
    TokenKind.JOB: timedelta(hours=1),
    TokenKind.SETUP: timedelta(hours=24),
}
"""How long a token of each kind lives unless something else is asked for; None is for ever."""

MAX_LIFETIME: dict[TokenKind, timedelta] = {
    TokenKind.SESSION_BEARER: BEARER_LIFETIME,
    TokenKind.PAIR: timedelta(days=400),
    TokenKind.PERSONAL: timedelta(days=400),
    TokenKind.BOT: timedelta(days=400),
    TokenKind.SETUP: timedelta(hours=24),
}
"""What may be asked for at most; kinds that are not listed have no limit."""


def new_text(kind: str) -> str:
    """A fresh token text of the common format."""
    stem = f"{PREFIX}_{kind}_{_random(RANDOM_LENGTH)}"
    return stem + _check(stem)


def new_bearer(*, issued_at: datetime, expires_at: datetime) -> str:
    """A fresh text in the shape of a JWT: clients read `exp` from it; nobody verifies it as one."""
    header = {"alg": "HS256", "typ": "JWT"}
    payload = {
        "exp": int(expires_at.timestamp()),
        "iat": int(issued_at.timestamp()),
        "jti": secrets.token_hex(16),
    }
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, payload))
    return ".".join((*map(_base64url, parts), _base64url(secrets.token_bytes(32))))


def new_key_id() -> str:
    """The public half of a pair."""
    return _random(KEY_ID_LENGTH)


def is_well_formed(text: str) -> bool:
    """Whether a text can be a token of ours: by its checksum, or by the shape of a JWT."""
    if not text.isascii() or not 0 < len(text) <= MAX_TEXT_LENGTH:
        return False
    if text.startswith(f"{PREFIX}_"):
        stem, check = text[:-CHECK_LENGTH], text[-CHECK_LENGTH:]
        return len(stem.rpartition("_")[2]) == RANDOM_LENGTH and _check(stem) == check
    return text.count(".") == _JWT_PARTS - 1


def kind_of(text: str) -> str | None:
    """The kind that a well-formed text names; the bearer's, if it has a JWT's shape."""
    if not is_well_formed(text):
        return None
    if text.startswith(f"{PREFIX}_"):
        return text[len(PREFIX) + 1 :].rpartition("_")[0]
    return TokenKind.SESSION_BEARER.value


def digest_of(text: str) -> str:
    """What is stored of a token: the SHA-256 of its text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _check(stem: str) -> str:
    """The CRC32 of what stands before it, as six base62 digits."""
    number = zlib.crc32(stem.encode())
    digits = []
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
