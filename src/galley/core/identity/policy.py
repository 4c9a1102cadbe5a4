"""The judge: applies the table of `actions` to a caller and a target. Whatever is unclear is no."""

from dataclasses import dataclass
from typing import Any

from galley.core.caller import Caller, Guarded
from galley.core.errors import Unauthenticated
from galley.core.identity.actions import (
    ACCOUNT,
    ACTIONS,
    KIND_CEILINGS,
    KITCHEN,
    PROJECT,
    SCOPES,
    TABLE,
    Rule,
    unknown_actions,
)
from galley.core.identity.errors import ActionForbidden, TargetHidden

__all__ = ["ACTIONS", "JUDGE", "SCOPES", "TABLE", "GoneKitchen", "PolicyJudge", "unknown_actions"]

_GUEST = "guest"
_CHIEF = "admin"
_RULERS = (
    "is decided by whoever made it, by those with its role Admin, by its staff if it is closed and"
    " names no roles, and by administrators; ask one of them."
)
_RULED = {
    "kitchen.staff": f"Who works in this kitchen {_RULERS}",
    "kitchen.delete": f"Whether this kitchen is deleted {_RULERS}",
    "order.clear": f"Whether this kitchen is emptied of its orders {_RULERS}",
}
_RULED_AT_ROOT = {
    "kitchen.staff": "Who works in the root kitchen is decided by administrators; ask one of them.",
    "kitchen.delete": "The root kitchen is never deleted.",
    "order.clear": (
        "Whether the root kitchen is emptied of its orders is decided by administrators; ask one of"
        " them, or delete the orders one by one."
    ),
}


@dataclass(frozen=True, slots=True)
class GoneKitchen:
    """Stands for a kitchen whose row is deleted, so that what is left of it can be judged.

    Its staff list is gone with it: administrators see what it left, and whoever owns that.
    """

    name: str
    project_id: int | None = None
    id: int = 0
    owner_id: int | None = None

    def policy_kind(self) -> str:
        """It is judged as a kitchen."""
        return KITCHEN


class PolicyJudge:
    """Decides by the table; holds no state, so one serves everybody.

    Who rules a kitchen, so that nobody else can seize it: the account's administrators; and, but
    for the root kitchen, whoever made it, its own administrators, and the staff of a closed kitchen
    that names no roles.
    """

    def allows(self, caller: Caller, action: str, target: Any) -> bool:
        """Whether the caller may do this to the target (see `require`)."""
        rule = _rule(action)
        kind = _kind(action, rule, target)
        if rule.public:
            return True
        return (
            caller.is_known
            and _sees(caller, target, kind)
            and _credential_allows(caller, action, rule, kind, target)
            and _user_may(caller, rule, kind, target)
        )

    def require(self, caller: Caller, action: str, target: Any) -> None:
        """Do nothing if the caller may.

        Raises:
            Unauthenticated: nobody is calling and the action needs somebody.
            NotFound: the caller may not even see the target.
            Forbidden: the caller sees it but may not do this.
            LookupError: the action is not in the table (a fault of ours).
            TypeError: the action is not done to such targets (a fault of ours).
        """
        if self.allows(caller, action, target):
            return
        kind = _kind(action, _rule(action), target)
        told = {"action": action, "object_kind": kind, "object_id": _name(target)}
        if not caller.is_known:
            raise Unauthenticated("Sign in, or send a token, to do this.")
        if not _sees(caller, target, kind):
            raise TargetHidden(f"There is no such {kind}, or it is not shared with you.", **told)
        raise ActionForbidden(self._explain(caller, action, target), **told)

    def _explain(self, caller: Caller, action: str, target: Any) -> str:
        """Why a visible thing is refused, in words that help to mend it."""
        rule = _rule(action)
        kind = _kind(action, rule, target)
        if not _ceiling_allows(caller, action):
            if caller.scopes is None:
                return f"A token of kind {caller.token_kind} does not allow {action}."
            held = ", ".join(sorted(caller.scopes)) or "none"
            return f"The token's scopes ({held}) do not allow {action}; use one that does."
        if not _bounds_allow(caller, rule, kind, target):
            return f"The token is bound to other objects and does not allow {action} here."
        if rule.chiefs and caller.roles & rule.roles:
            return (_RULED_AT_ROOT if _is_root(target) else _RULED)[action]
        wanted = " or ".join(sorted(rule.roles_on.get(kind, rule.roles))) or "no role"
        if kind == KITCHEN and caller.roles & rule.roles:
            return f"Your role in this kitchen does not allow {action}."
        return f"{action} needs the role {wanted}; ask an administrator."


JUDGE = PolicyJudge()
"""The one judge; it holds no state."""


def _rule(action: str) -> Rule:
    rule = TABLE.get(action)
    if rule is None:
        raise LookupError(f"the policy table has no action {action!r}")
    return rule


def _kind(action: str, rule: Rule, target: Guarded | None) -> str:
    kind = ACCOUNT if target is None else target.policy_kind()
    if kind not in rule.targets:
        raise TypeError(f"{action} is not done to a target of kind {kind!r}")
    return kind


def _name(target: Any) -> str:
    if target is None:
        return ""
    return str(getattr(target, "name", None) or getattr(target, "uid", None) or target.id)


def _sees(caller: Caller, target: Any, kind: str) -> bool:
    """Whether the caller may know that the target exists."""
    if not _within_bounds(caller, target, kind):
        return False
    if caller.is_admin or kind in {ACCOUNT, PROJECT}:
        return True
    if kind == KITCHEN and not isinstance(target, GoneKitchen):
        return _is_staff(caller, target)
    return _owns(caller, target)


def _is_staff(caller: Caller, kitchen: Any) -> bool:
    """An empty staff list opens the kitchen to everybody of the account."""
    staff = kitchen.staff
    if not staff:
        return True
    login = (caller.login or "").lower()
    return bool(login) and login in {str(member).lower() for member in staff}


def _owns(caller: Caller, target: Any) -> bool:
    owner = getattr(target, "owner_id", None)
    return owner is not None and owner == caller.user_id


def _within_bounds(caller: Caller, target: Any, kind: str) -> bool:
    if caller.bounds is None or kind not in {KITCHEN, PROJECT}:
        return True
    names = {f"{kind}:{target.id}"}
    project_id = getattr(target, "project_id", None)
    if project_id is not None:
        names.add(f"{PROJECT}:{project_id}")
    return not names.isdisjoint(caller.bounds)


def _credential_allows(caller: Caller, action: str, rule: Rule, kind: str, target: Any) -> bool:
    return _ceiling_allows(caller, action) and _bounds_allow(caller, rule, kind, target)


def _ceiling_allows(caller: Caller, action: str) -> bool:
    ceiling = KIND_CEILINGS.get(caller.token_kind or "")
    if ceiling is not None and action not in ceiling:
        return False
    if caller.scopes is None:
        return True
    return any(action in SCOPES.get(scope, ()) for scope in caller.scopes)


def _bounds_allow(caller: Caller, rule: Rule, kind: str, target: Any) -> bool:
    """Whether the token's bounds leave room; that the target lies inside them is seen before."""
    if caller.bounds is None:
        return True
    if kind == ACCOUNT:
        return rule.reads and not rule.wide
    if not rule.wide:
        return True
    if kind not in {KITCHEN, PROJECT}:
        return False
    project_id = target.id if kind == PROJECT else getattr(target, "project_id", None)
    return f"{PROJECT}:{project_id}" in caller.bounds


def _user_may(caller: Caller, rule: Rule, kind: str, target: Any) -> bool:
    if rule.own and _owns(caller, target):
        return True
    if not caller.roles & rule.roles_on.get(kind, rule.roles):
        return False
    return kind != KITCHEN or _kitchen_role_allows(caller, rule, target)


def _kitchen_role_allows(caller: Caller, rule: Rule, kitchen: Any) -> bool:
    """Kitchens that name roles have guests, who only look; some acts are for those who rule it."""
    roles = getattr(kitchen, "roles", None) or {}
    if caller.is_admin:
        return True
    login = (caller.login or "").lower()
    own = {str(who).lower(): str(role).lower() for who, role in roles.items()}.get(login)
    if own == _GUEST:
        return rule.reads
    if not rule.chiefs:
        return True
    if _is_root(kitchen):
        return False
    made_by = getattr(kitchen, "created_by", None)
    if own == _CHIEF or (made_by is not None and made_by == caller.user_id):
        return True
    return bool(getattr(kitchen, "staff", None)) and not roles


def _is_root(kitchen: Any) -> bool:
    return bool(getattr(kitchen, "is_root", False))
