"""The policy table: every action there is, on what, and who may.

One row decides in every dialect, in the pages and in the command line. What is not listed here
does not exist: a route with an unknown action keeps the server from starting.
"""

from dataclasses import dataclass, field

ACCOUNT = "account"
KITCHEN = "kitchen"
PROJECT = "project"
USER = "user"
TOKEN = "token"  # noqa: S105 - a kind of object, not a credential

ANYBODY = frozenset({"admin", "operator", "member"})
OPERATORS = frozenset({"admin", "operator"})
ADMINS = frozenset({"admin"})


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do an action.

    `targets` are the kinds of object it is done to (`account` is asked with target None);
    `roles` the account roles that may, by target kind where they differ (`roles_on`);
    `own`: whoever owns the target may as well;
    `reads`: changes nothing (what a kitchen's guests may do, and the scope `read` contains);
    `wide`: reaches beyond one kitchen, so a token bound to a kitchen may not;
    `chiefs`: only whoever rules a kitchen may (see `policy.PolicyJudge`);
    `public`: needs nobody to be known.
    """

    targets: frozenset[str]
    roles: frozenset[str] = ANYBODY
    roles_on: dict[str, frozenset[str]] = field(default_factory=dict)
    own: bool = False
    reads: bool = False
    wide: bool = False
    chiefs: bool = False
    public: bool = False


def _on(*targets: str, **how: object) -> Rule:
    return Rule(targets=frozenset(targets), **how)  # type: ignore[arg-type]


TABLE: dict[str, Rule] = {
    # Anybody at all: sign in, is the server alive.
    "public": _on(ACCOUNT, roles=frozenset(), reads=True, public=True),
    # The account, its people and its books.
    "account.read": _on(ACCOUNT, reads=True),
    "account.manage": _on(ACCOUNT, roles=ADMINS, wide=True),
    "settings.read": _on(ACCOUNT, roles=OPERATORS, reads=True, wide=True),
    "settings.manage": _on(ACCOUNT, roles=OPERATORS, wide=True),
    "user.list": _on(ACCOUNT, reads=True, wide=True),
    "user.read": _on(USER, roles=ADMINS, own=True, reads=True, wide=True),
    "user.manage": _on(ACCOUNT, USER, roles=ADMINS, wide=True),
    "password.set": _on(USER, roles=ADMINS, own=True, wide=True),
    "token.own": _on(ACCOUNT, wide=True),
    "token.read": _on(TOKEN, USER, roles=ADMINS, own=True, reads=True, wide=True),
    "token.issue": _on(USER, roles=ADMINS, own=True, wide=True),
    "token.revoke": _on(TOKEN, USER, roles=ADMINS, own=True, wide=True),
    "audit.read": _on(ACCOUNT, roles=ADMINS, reads=True, wide=True),
    "metrics.read": _on(ACCOUNT, roles=OPERATORS, reads=True, wide=True),
    "worker.read": _on(ACCOUNT, roles=OPERATORS, reads=True, wide=True),
    "worker.manage": _on(ACCOUNT, roles=OPERATORS, wide=True),
    # Kitchens. The list shows closed ones by name; what is in them is another matter.
    "kitchen.list": _on(ACCOUNT, reads=True),
    "kitchen.read": _on(KITCHEN, reads=True),
    "kitchen.create": _on(KITCHEN, wide=True),
    "kitchen.update": _on(KITCHEN),
    "kitchen.staff": _on(KITCHEN, chiefs=True),
    "kitchen.delete": _on(KITCHEN, chiefs=True),
    # Projects and what is stored in them.
    "project.list": _on(ACCOUNT, reads=True),
    "project.read": _on(PROJECT, reads=True),
    "project.manage": _on(ACCOUNT, PROJECT, roles=ADMINS, wide=True),
    "repository.read": _on(KITCHEN, PROJECT, reads=True),
    "repository.write": _on(KITCHEN, PROJECT),
    "recipe.read": _on(KITCHEN, PROJECT, reads=True),
    "recipe.write": _on(KITCHEN, PROJECT),
    # Orders and runs, judged by where they belong.
    "order.read": _on(KITCHEN, PROJECT, reads=True),
    "order.create": _on(KITCHEN, PROJECT),
    "order.stop": _on(KITCHEN, PROJECT),
    "order.delete": _on(KITCHEN, PROJECT),
    "order.clear": _on(KITCHEN, chiefs=True),
    "run.read": _on(KITCHEN, PROJECT, reads=True),
    "run.stop": _on(KITCHEN, PROJECT),
    "run.resume": _on(KITCHEN, PROJECT),
    "run.delete": _on(KITCHEN, PROJECT),
    "log.read": _on(KITCHEN, PROJECT, reads=True),
    "artifact.read": _on(KITCHEN, PROJECT, reads=True),
    "schedule.manage": _on(KITCHEN, PROJECT),
    # Secrets: the names may be listed, the values never; the account's are written by operators.
    "secret.read": _on(ACCOUNT, KITCHEN, PROJECT, reads=True),
    "secret.write": _on(ACCOUNT, KITCHEN, PROJECT, roles_on={ACCOUNT: OPERATORS}),
}

ACTIONS: frozenset[str] = frozenset(TABLE)
"""Every known action; a route that declares another one keeps the server from starting."""

READING: frozenset[str] = frozenset(name for name, rule in TABLE.items() if rule.reads)

_ORDERING = {
    "order.create",
    "order.stop",
    "order.delete",
    "run.stop",
    "run.resume",
    "run.delete",
    "schedule.manage",
}
_AUTHORING = {"recipe.write", "repository.write", "kitchen.create", "kitchen.update"}

SCOPES: dict[str, frozenset[str]] = {
    "all": ACTIONS,
    "read": READING,
    "run": READING | _ORDERING,
    "write": READING | _ORDERING | _AUTHORING,
    "secrets": frozenset(
        {"public", "account.read", "kitchen.list", "kitchen.read", "secret.read", "secret.write"}
    ),
    "repository.read": frozenset({"public", "repository.read"}),
    "repository.write": frozenset({"public", "repository.read", "repository.write"}),
}
"""What a token's scopes allow at most; several add up."""

KIND_CEILINGS: dict[str, frozenset[str]] = {
    "trigger": frozenset({"public", "order.create"}),
    "job": frozenset(
        {"public", "account.read", "repository.read", "recipe.read", "run.read", "artifact.read"}
    ),
    "node_admin": frozenset({"public"}),
    "portal": frozenset({"public", "account.read"}),
    "setup": frozenset({"public"}),
}
"""What tokens of a narrow kind can do at most, whatever their scopes and owner."""


def unknown_actions(declared: frozenset[str] | set[str]) -> frozenset[str]:
    """Which of the declared actions are not in the table; for the check at start-up."""
    return frozenset(declared) - ACTIONS
