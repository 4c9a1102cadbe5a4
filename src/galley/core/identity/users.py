"""Users: making, listing, changing and disabling them."""

import re
import unicodedata
from collections.abc import Iterable

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid, NotFound
from galley.core.events import audit
from galley.core.identity import passwords
from galley.core.identity.actors import system_caller
from galley.core.identity.errors import LastAdmin
from galley.core.identity.models import ROLES, User
from galley.core.identity.repository import TokenRepository, UserRepository, WebSessionRepository
from galley.core.identity.tokens import TokenKind
from galley.kit.clock import Clock
from galley.kit.ids import new_uid
from galley.kit.pages import Page, PageRequest

MAX_LOGIN_LENGTH = 254
MAX_NAME_LENGTH = 200
SIGN_IN_KINDS = frozenset({TokenKind.SESSION_BEARER.value})
"""Tokens that stand for a sign-in; they end with the password and with the account."""

_EMAIL = re.compile(r"[^\s@,;<>\"'\\/]+@[^\s@,;<>\"'\\/]+\Z")
_MEMBER = frozenset({"member"})


def create_user(
    session: Session,
    *,
    email: str,
    name: str = "",
    password: str | None,
    roles: Iterable[str] = _MEMBER,
    clock: Clock,
    by: Caller | None = None,
    kind: str = "user",
) -> User:
    """Make a user. Without a password it cannot sign in, only use tokens.

    `by` None is the system itself (the command line, the set-up link).

    Raises:
        Invalid: the address cannot be one, or a role is unknown.
        WeakPassword: the password is short or common.
        LoginTaken: there is such a user.
        Forbidden: the caller may not make users.
    """
    actor = _actor(by)
    actor.require("user.manage")
    login = checked_login(email)
    given_roles = _checked_roles(roles)
    shown_name = _checked_name(name)
    user = User(
        uid=new_uid(),
        login=login,
        name=shown_name,
        kind=kind,
        roles=given_roles,
        is_active=True,
        created_at=clock.now(),
        password_hash=_hashed(password, login, shown_name),
    )
    UserRepository(session).add(user)
    _record(session, actor, "user.create", user, clock, after=_facts(user))
    return user


def list_users(session: Session, caller: Caller, page: PageRequest | None = None) -> Page[User]:
    """The account's users, A to Z by login."""
    caller.require("user.list")
    return UserRepository(session).list_by_login(page or PageRequest())


def get_user(session: Session, caller: Caller, login: str) -> User:
    """The user of a login.

    Raises:
        NotFound: there is none, or the caller may not know.
    """
    user = find_user(session, login)
    if user is None:
        raise NotFound(f"There is no user {login[:MAX_LOGIN_LENGTH]}.")
    caller.require("user.read", user)
    return user


def find_user(session: Session, login: str) -> User | None:
    """The user of a login in any spelling, or None; asks nobody's leave."""
    known = normal_login(login)
    return None if known is None else UserRepository(session).find(known)


def set_password(
    session: Session,
    user: User,
    password: str,
    *,
    clock: Clock,
    by: Caller | None = None,
    keep_web_session: int | None = None,
) -> None:
    """Change a password; signs the user out everywhere, but for one browser session.

    Raises:
        WeakPassword: it is short or common.
        Forbidden: the caller is neither that user nor an administrator.
    """
    user = UserRepository(session).own(user)
    actor = _actor(by)
    actor.require("password.set", user)
    user.password_hash = _hashed(password, user.login, user.name)
    session.flush()
    _sign_out(session, user, clock, but=keep_web_session)
    _record(session, actor, "password.set", user, clock)


def set_roles(
    session: Session, user: User, roles: Iterable[str], *, clock: Clock, by: Caller | None = None
) -> None:
    """Give a user exactly these roles; takes effect with the next call.

    Raises:
        LastAdmin: nobody would be left to administer.
    """
    user = UserRepository(session).own(user)
    actor = _actor(by)
    actor.require("user.manage", user)
    wanted = _checked_roles(roles)
    before = _facts(user)
    if "admin" not in wanted:
        _refuse_last_admin(session, user)
    user.roles = wanted
    session.flush()
    _record(session, actor, "user.roles", user, clock, before=before, after=_facts(user))


def disable_user(session: Session, user: User, *, clock: Clock, by: Caller | None = None) -> None:
    """Refuse everything that a user sends from now on. Disabling twice is fine.

    Sign-ins end for good; the user's other tokens sleep until the user is enabled again.

    Raises:
        LastAdmin: nobody would be left to administer.
    """
    user = UserRepository(session).own(user)
    actor = _actor(by)
    actor.require("user.manage", user)
    _refuse_last_admin(session, user)
    user.is_active = False
    session.flush()
    _sign_out(session, user, clock)
    _record(session, actor, "user.disable", user, clock)


def enable_user(session: Session, user: User, *, clock: Clock, by: Caller | None = None) -> None:
    """Let a disabled user in again."""
    user = UserRepository(session).own(user)
    actor = _actor(by)
    actor.require("user.manage", user)
    user.is_active = True
    session.flush()
    _record(session, actor, "user.enable", user, clock)


def normal_login(text: str) -> str | None:
    """A login in its stored spelling (NFC, lower case), or None where it cannot be one."""
    login = unicodedata.normalize("NFC", text).strip().lower()
    if not 0 < len(login) <= MAX_LOGIN_LENGTH or not login.isprintable():
        return None
    return login


def checked_login(email: str) -> str:
    """A new user's login.

    Raises:
        Invalid: it is not an e-mail address.
    """
    login = normal_login(email)
    if login is None or not _EMAIL.match(login):
        raise Invalid(
            f"{email[:MAX_LOGIN_LENGTH]!r} is not an e-mail address (like ann@example.org)."
        )
    return login


def _checked_roles(roles: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(roles)
    strange = sorted(wanted - ROLES)
    if strange or not wanted:
        raise Invalid(
            f"Unknown role {', '.join(strange) or '(none)'}; there are {', '.join(sorted(ROLES))}."
        )
    return wanted | _MEMBER


def _checked_name(name: str) -> str:
    shown = unicodedata.normalize("NFC", name).strip()
    if len(shown) > MAX_NAME_LENGTH or not (shown.isprintable() or not shown):
        raise Invalid(f"A name has at most {MAX_NAME_LENGTH} printable characters.")
    return shown


def _hashed(password: str | None, login: str, name: str) -> str | None:
    if password is None:
        return None
    passwords.check_strength(password, about=(login, login.partition("@")[0], name))
    return passwords.hash_password(password)


def _refuse_last_admin(session: Session, user: User) -> None:
    others = [u for u in UserRepository(session).lock_active() if u.id != user.id]
    if "admin" in user.roles and user.is_active and not any("admin" in u.roles for u in others):
        raise LastAdmin


def _sign_out(session: Session, user: User, clock: Clock, *, but: int | None = None) -> None:
    now = clock.now()
    WebSessionRepository(session).close_all(user.id, now, but=but)
    TokenRepository(session).revoke_kinds(user.id, SIGN_IN_KINDS, now)


def _actor(by: Caller | None) -> Caller:
    return system_caller() if by is None else by


def _facts(user: User) -> dict[str, object]:
    return {"login": user.login, "roles": sorted(user.roles), "active": user.is_active}


def _record(
    session: Session,
    actor: Caller,
    action: str,
    user: User,
    clock: Clock,
    *,
    before: object = None,
    after: object = None,
) -> None:
    told = audit.entry(
        actor, action, "user", user.login, before=before, after=after, at=clock.now()
    )
    audit.append(session, [told])
