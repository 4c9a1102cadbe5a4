"""Signing in by password: throttled, in constant work, and silent about who exists."""

import hashlib
import ipaddress
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from galley.core.identity import passwords
from galley.core.identity.errors import BadCredentials, TooManyFailures
from galley.core.identity.models import User
from galley.core.identity.passwords import GATE, HashingGate
from galley.core.identity.repository import LoginFailureRepository, UserRepository
from galley.core.identity.users import normal_login
from galley.kit.clock import Clock
from galley.storage.db import Database

_NETWORK_BITS_V6 = 64


@dataclass(frozen=True, slots=True)
class Throttle:
    """How many failures close sign-in, for an account from an address and for an address alone."""

    window: timedelta = timedelta(minutes=15)
    per_account_and_address: int = 10
    per_address: int = 100


THROTTLE = Throttle()


def log_in(
    database: Database,
    *,
    login: str,
    password: str,
    address: str | None,
    clock: Clock,
    throttle: Throttle = THROTTLE,
    gate: HashingGate = GATE,
) -> User:
    """The user that a login and password belong to.

    Runs its own short transactions, none of them open while it hashes. An unknown account costs
    as much work as a known one and gets the same answer.

    Raises:
        BadCredentials: the account is unknown or disabled, or the password wrong.
        TooManyFailures: ten failures in fifteen minutes for this account from this address.
        HashingBusy: too many sign-ins at once.
    """
    name = normal_login(login)
    keys = _keys(name if name is not None else login, address)
    _refuse_throttled(database, keys, clock, throttle)
    with gate.slot():
        # Asked again in the slot: whoever waited here has seen the failures of those before.
        user = _refuse_throttled(database, keys, clock, throttle, name=name)
        stored = user.password_hash if user else None
        good = passwords.matches(stored, password)
        if user is None or stored is None or not good or not user.is_active:
            _count(database, keys, clock, throttle)
            raise BadCredentials(_reason(user, good=good))
        fresh = passwords.rehash(password) if passwords.needs_rehash(stored) else stored
        return _welcome(database, user.id, keys, clock, checked=stored, fresh=fresh)


def _refuse_throttled(
    database: Database,
    keys: tuple[str, str],
    clock: Clock,
    throttle: Throttle,
    *,
    name: str | None = None,
) -> User | None:
    """Refuse where the throttle is closed; else look the user up in the same short transaction."""
    now = clock.now()
    with database.reading() as session:
        failures = LoginFailureRepository(session)
        of_account = partial(failures.of_account, keys[0])
        of_address = partial(failures.of_address, keys[1])
        wait_s = max(
            _wait_s(of_account, throttle.per_account_and_address, throttle, now),
            _wait_s(of_address, throttle.per_address, throttle, now),
        )
        if wait_s:
            raise TooManyFailures(wait_s)
        return UserRepository(session).find(name) if name is not None else None


def _wait_s(
    newest: Callable[[datetime, int], Sequence[datetime]],
    limit: int,
    throttle: Throttle,
    now: datetime,
) -> int:
    """Seconds until fewer than `limit` failures lie in the window; 0 if that is so now."""
    since = now - throttle.window
    times = newest(since, limit)
    if len(times) < limit:
        return 0
    return max(1, math.ceil((times[limit - 1] - since).total_seconds()))


def _count(database: Database, keys: tuple[str, str], clock: Clock, throttle: Throttle) -> None:
    now = clock.now()
    with database.writing() as session:
        failures = LoginFailureRepository(session)
        failures.forget_before(now - throttle.window)
        failures.add(*keys, now)


def _welcome(
    database: Database,
    user_id: int,
    keys: tuple[str, str],
    clock: Clock,
    *,
    checked: str,
    fresh: str,
) -> User:
    """Note the sign-in, unless the account changed while its password was being checked."""
    with database.writing() as session:
        user = UserRepository(session).get(user_id)
        if not user.is_active or user.password_hash != checked:
            raise BadCredentials("the account changed meanwhile")
        user.last_login_at = clock.now()
        user.password_hash = fresh
        LoginFailureRepository(session).forget(keys[0])
        return user


def _reason(user: User | None, *, good: bool) -> str:
    if user is None:
        return "unknown account"
    if user.password_hash is None:
        return "the account has no password"
    return "the account is disabled" if good else "wrong password"


def _keys(login: str, address: str | None) -> tuple[str, str]:
    network = _network(address or "")
    return _digest(f"account|{login}|{network}"), _digest(f"address|{network}")


def _network(address: str) -> str:
    """An IPv6 caller commands a whole /64, so that is what is counted."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _NETWORK_BITS_V6), strict=False))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
