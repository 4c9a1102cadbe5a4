"""Callers who come without a credential: nobody, Galley itself, and whom it works for."""

from galley.core.caller import Caller, Judge
from galley.core.identity.models import User
from galley.core.identity.policy import JUDGE

SYSTEM_ID = 0
"""The user id of Galley itself; no row has it."""


def nobody(
    judge: Judge = JUDGE, address: str | None = None, request_id: str | None = None
) -> Caller:
    """Whoever sent no credential: may only do what is public."""
    return Caller(judge=judge, address=address, request_id=request_id)


def system_caller(judge: Judge = JUDGE) -> Caller:
    """Galley itself, or an operator at the machine's own command line: may do everything."""
    return Caller(
        judge=judge, user_id=SYSTEM_ID, login="system", name="Galley", roles=frozenset({"admin"})
    )


def caller_of(user: User, judge: Judge = JUDGE) -> Caller:
    """A user for whom Galley works while they are away: may do what they may, no less, no more."""
    return Caller(judge=judge, user_id=user.id, login=user.login, name=user.name, roles=user.roles)
