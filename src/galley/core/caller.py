"""Who is calling: what every operation is told, whichever API the call came through."""

from dataclasses import dataclass, field
from typing import Any, Protocol


class Guarded(Protocol):
    """An object that the policy table can judge: its kind, and whom it belongs to."""

    def policy_kind(self) -> str:
        """The word the policy table uses for it: `kitchen`, `run`, `user`, `account`, ..."""
        ...


class Judge(Protocol):
    """Decides by the policy table; implemented in `core.identity.policy`."""

    def allows(self, caller: "Caller", action: str, target: Any) -> bool:
        """Whether the caller may do this to the target."""
        ...

    def require(self, caller: "Caller", action: str, target: Any) -> None:
        """Do nothing if the caller may.

        Raises:
            Unauthenticated: nobody is calling and the action needs somebody.
            NotFound: the caller may not even see the target.
            Forbidden: the caller sees it but may not do this.
        """
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """A user (or nobody) acting through one credential, with that credential's bounds.

    `roles` are account-wide roles (`admin`, `operator`, `member`); `token_kind` is None for a
    browser session; `scopes` is None where the credential does not narrow the user's rights.
    """

    judge: Judge = field(repr=False, compare=False)
    user_id: int | None = None
    login: str | None = None
    name: str = ""
    roles: frozenset[str] = frozenset()
    token_id: int | None = None
    token_kind: str | None = None
    scopes: frozenset[str] | None = None
    bounds: frozenset[str] | None = None
    address: str | None = None
    request_id: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether somebody is calling at all."""
        return self.user_id is not None

    @property
    def is_admin(self) -> bool:
        """Whether the caller administers the account."""
        return "admin" in self.roles

    def may(self, action: str, target: Any = None) -> bool:
        """Whether the policy table allows it."""
        return self.judge.allows(self, action, target)

    def require(self, action: str, target: Any = None) -> None:
        """Refuse unless the policy table allows it (see `Judge.require`)."""
        self.judge.require(self, action, target)
