"""Passwords: which are good enough, and their argon2id hashes, made by few at a time."""

import functools
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from galley.core.identity.errors import HashingBusy, WeakPassword

MIN_LENGTH = 12
MAX_LENGTH = 1_024
MEMORY_KIB = 19 * 1_024
ROUNDS = 2
LANES = 1
SLOTS = 2
QUEUE = 20
_FEWEST_DIFFERENT = 5
_COMMON = "common_passwords.txt"
_ENDINGS = "0123456789!?.,;:*#$@-_ "

NOBODY = (
    "$argon2id$v=19$m=19456,t=2,p=1$XNwLOHuQnf/UQ3YHwaIKBQ"
    "$3YCuzRqNNczGpL+huGko0aEBF5IC6yUMcIPOeClyO7A"
)
"""A hash that no password is checked against in earnest: unknown accounts cost the same work."""


class HashingGate:
    """Lets `slots` threads hash at once and `queue` more wait; whoever comes after is sent away.

    A hash costs about 80 ms of a core and 19 MiB; without a gate, sign-ins could starve the server.
    """

    def __init__(self, slots: int = SLOTS, queue: int = QUEUE) -> None:
        self._slots = threading.Semaphore(slots)
        self._places = threading.Semaphore(slots + queue)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the slots.

        Raises:
            HashingBusy: the queue is full too.
        """
        if not self._places.acquire(blocking=False):
            raise HashingBusy
        try:
            with self._slots:
                yield
        finally:
            self._places.release()


GATE = HashingGate()
"""The process's one gate; everything that hashes goes through it."""

_HASHER = PasswordHasher(time_cost=ROUNDS, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)


def check_strength(password: str, *, about: tuple[str, ...] = ()) -> None:
    """Accept a password that is long enough and neither common nor about its owner.

    Raises:
        WeakPassword: the message says which rule it breaks.
    """
    text = _normal(password)
    if text is None or len(text) < MIN_LENGTH:
        raise WeakPassword(f"A password has at least {MIN_LENGTH} characters.")
    if len(text) > MAX_LENGTH:
        raise WeakPassword(f"A password has at most {MAX_LENGTH} characters.")
    if len(set(text.lower())) < _FEWEST_DIFFERENT or _is_common(text.lower()):
        raise WeakPassword("This password is too common; several unrelated words are a good one.")
    if _core(text.lower()) in {_core(word.lower()) for word in about if word}:
        raise WeakPassword("A password must not be your own name or address.")


def hash_password(password: str, *, gate: HashingGate = GATE) -> str:
    """The argon2id hash, with its parameters and salt, as text.

    Raises:
        HashingBusy: too many are hashing.
        WeakPassword: it holds characters that cannot be encoded.
    """
    text = _normal(password)
    if text is None:
        raise WeakPassword("A password is text without broken characters.")
    with gate.slot():
        return _HASHER.hash(text)


def matches(stored: str | None, password: str) -> bool:
    """Whether the password is the one of the hash; always costs one hash, also for None.

    Call it while holding a slot of the gate.
    """
    text = _normal(password)
    usable = stored is not None and text is not None and len(text) <= MAX_LENGTH
    try:
        same = _HASHER.verify(stored or NOBODY, text if usable and text else "")
    except (VerificationError, InvalidHashError):
        return False
    return usable and same


def needs_rehash(stored: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


def rehash(password: str) -> str:
    """Hash anew while already holding a slot of the gate."""
    return _HASHER.hash(_normal(password) or "")


def _normal(password: str) -> str | None:
    """One spelling for what looks the same (NFKC); None if it cannot be encoded."""
    try:
        password.encode()
    except UnicodeEncodeError:
        return None
    if len(password) > MAX_LENGTH:
        return password
    return unicodedata.normalize("NFKC", password)


def _is_common(text: str) -> bool:
    common = _common()
    return text in common or _core(text) in common


def _core(text: str) -> str:
    """What remains of a password without the digits and marks that people put around a word."""
    return text.strip(_ENDINGS) or text


@functools.cache
def _common() -> frozenset[str]:
    text = resources.files(__package__).joinpath(_COMMON).read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("# "))
