"""Sealing: AES-256-GCM with a key for each value, itself wrapped by the installation's key.

Changing the installation's key rewraps the small keys and leaves the sealed values alone. Every
seal is bound to the place it is stored at (`aad`), so a sealed value cannot be moved.
"""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from galley.core.errors import Invalid, Unavailable
from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder

KEY_FILE = "secret.key"
KEY_VARIABLE = "GALLEY_SECRET_KEY"
KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = "s1"
_PARTS = 4
_KEY_ID_LENGTH = 12


class SealBroken(Unavailable):
    """A sealed value does not open: another key, another place, or damage."""

    code = "seal_broken"


class KeyMissing(Unavailable):
    """The key that sealed what is stored is not here, and a new one would not open it."""

    code = "secret_key_missing"

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"Secrets are stored, and the key that opens them is not here. {cure_of_no_key(data)}."
        )


class Sealer:
    """Seals and opens with `key` (32 bytes); `older` keys open what was sealed before a change."""

    def __init__(self, key: bytes, *older: bytes) -> None:
        for one in (key, *older):
            if len(one) != KEY_BYTES:
                raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(one)}")
        self._current = _key_id(key)
        self._keys = {_key_id(one): one for one in (key, *older)}

    def __repr__(self) -> str:
        return f"Sealer(current={self._current}, keys={len(self._keys)})"

    def seal(self, content: bytes, aad: str) -> str:
        """Encrypt, bound to `aad`: the name of the place where the result will be stored."""
        data_key = AESGCM.generate_key(KEY_BYTES * 8)
        body = _encrypt(data_key, content, f"value|{aad}")
        return self._assemble(data_key, body, aad)

    def open(self, sealed: str, aad: str) -> bytes:
        """Decrypt what `seal` or `rewrap` made for the same `aad`.

        Raises:
            SealBroken: the key is not here, the place is another, or the text is damaged.
        """
        data_key, body = self._unwrap(sealed, aad)
        return _decrypt(data_key, body, f"value|{aad}")

    def rewrap(self, sealed: str, aad: str) -> str:
        """The same value under the current key; unchanged if it is there already.

        Raises:
            SealBroken: it does not open.
        """
        if self.is_current(sealed):
            return sealed
        data_key, body = self._unwrap(sealed, aad)
        return self._assemble(data_key, body, aad)

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Keys of 32 bytes for another purpose, one of each of ours, the current one's first."""
        info = f"galley|{purpose}".encode()
        return tuple(
            HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=info).derive(key)
            for key in self._keys.values()
        )

    def is_current(self, sealed: str) -> bool:
        """Whether a sealed value is under the current key."""
        return sealed.split(".", 2)[1:2] == [self._current]

    def _assemble(self, data_key: bytes, body: bytes, aad: str) -> str:
        wrapped = _encrypt(self._keys[self._current], data_key, f"key|{self._current}|{aad}")
        return ".".join((_FORMAT, self._current, _text(wrapped), _text(body)))

    def _unwrap(self, sealed: str, aad: str) -> tuple[bytes, bytes]:
        parts = sealed.split(".")
        if len(parts) != _PARTS or parts[0] != _FORMAT:
            raise SealBroken("A stored secret is damaged; write it again.")
        key = self._keys.get(parts[1])
        if key is None:
            raise SealBroken(
                f"A stored secret was sealed with the key {parts[1]}, which this server does not "
                f"have; put that key back into {KEY_FILE} or {KEY_VARIABLE}, or write the secret "
                "again."
            )
        wrapped, body = _bytes(parts[2]), _bytes(parts[3])
        return _decrypt(key, wrapped, f"key|{parts[1]}|{aad}"), body


def open_sealer(
    data: Path, environment: Mapping[str, str] | None = None, *, may_make: bool = True
) -> Sealer:
    """The installation's sealer: from GALLEY_SECRET_KEY, else from `data`/secret.key.

    With `may_make` the file is made, for its owner alone, when it is not there. Both hold base64
    of 32 bytes, the current key first; more keys (new lines, or commas) open what was sealed
    before a change.

    Raises:
        KeyMissing: there is no key, and none may be made.
        Invalid: the key is malformed, or others may read the file; the message says how to mend it.
    """
    given = (os.environ if environment is None else environment).get(KEY_VARIABLE)
    if given:
        return Sealer(*_parse(given, KEY_VARIABLE))
    path = data / KEY_FILE
    if not may_make and not path.exists():
        raise KeyMissing(data)
    try:
        _make_key_file(path)
    except FileExistsError:
        _refuse_shared(path)
    return Sealer(*_parse(path.read_text(), str(path)))


def has_key(data: Path) -> bool:
    """Whether there is a key to open the sealer of `data` with."""
    return bool(os.environ.get(KEY_VARIABLE)) or (data / KEY_FILE).exists()


def cure_of_no_key(data: Path) -> str:
    """What to do when the key of stored secrets is not there."""
    path = data / KEY_FILE
    return (
        f"Put it back into {path} (mode 600) or {KEY_VARIABLE}. If it is lost for good, make a new"
        f" one with: (umask 077; openssl rand -base64 {KEY_BYTES} > {path}), then write every"
        " secret again with `galley secret set`"
    )


def new_key_text() -> str:
    """A fresh key as it stands in the file or the variable."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _make_key_file(path: Path) -> None:
    """Make the file whole or not at all; of two processes at once one wins.

    Raises:
        FileExistsError: it is there.
    """
    if path.exists():
        raise FileExistsError(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(new_key_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        failpoint("secret_key.written")
        os.link(temporary, path)
    finally:
        temporary.unlink()
    failpoint("secret_key.linked")
    fsync_folder(path.parent)


def _refuse_shared(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Invalid(f"Others may read {path}; run: chmod 600 {path}")


def _parse(text: str, place: str) -> list[bytes]:
    keys = []
    for part in text.replace(",", "\n").split():
        try:
            key = base64.b64decode(part, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise Invalid(
                f"{place} must hold base64 of {KEY_BYTES} bytes; make one with: "
                f"openssl rand -base64 {KEY_BYTES}"
            )
        keys.append(key)
    if not keys:
        raise Invalid(f"{place} is empty; put the key back that sealed the secrets.")
    return keys


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"galley key id|" + key).hexdigest()[:_KEY_ID_LENGTH]


def _encrypt(key: bytes, content: bytes, aad: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, aad.encode())


def _decrypt(key: bytes, content: bytes, aad: str) -> bytes:
    nonce, body = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, body, aad.encode())
    except (InvalidTag, ValueError) as error:
        raise SealBroken("A stored secret does not open; it was altered or moved.") from error


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise SealBroken("A stored secret is damaged; write it again.") from error
