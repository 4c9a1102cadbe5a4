"""Every action, on every kind of target, by every kind of caller: what the policy says, as text.

To accept a wanted change of the policy, run the test with GALLEY_ACCEPT_MATRIX=1 and read the diff
of `policy_matrix.txt` line by line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from galley.core.caller import Caller
from galley.core.errors import Forbidden, NotFound, Unauthenticated
from galley.core.identity.actions import TABLE
from galley.core.identity.policy import JUDGE, GoneKitchen

MEMBER = frozenset({"member"})


@dataclass
class Target:
    kind: str
    id: int
    name: str = ""
    staff: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    owner_id: int | None = None
    project_id: int | None = None
    is_root: bool = False
    created_by: int | None = None

    def policy_kind(self) -> str:
        return self.kind


def _caller(user_id: int, login: str, *roles: str, **how: Any) -> Caller:
    given = frozenset(roles or ("member",))
    return Caller(judge=JUDGE, user_id=user_id, login=login, roles=given, **how)


def _ann(**how: Any) -> Caller:
    narrowed = {name: frozenset(how.pop(name)) for name in ("scopes", "bounds") if name in how}
    return _caller(1, "ann@x.org", token_kind=how.pop("kind", "personal"), **narrowed, **how)


CALLERS: dict[str, Caller] = {
    "nobody": Caller(judge=JUDGE),
    "stranger": _caller(2, "eve@x.org"),
    "member": _caller(1, "ann@x.org"),
    "guest": _caller(3, "guy@x.org"),
    "chief": _caller(4, "cat@x.org"),
    "operator": _caller(5, "oli@x.org", "operator", "member"),
    "admin": _caller(6, "adm@x.org", "admin", "member"),
    "read": _ann(scopes={"read"}),
    "run": _ann(scopes={"run"}),
    "write": _ann(scopes={"write"}),
    "secrets": _ann(scopes={"secrets"}),
    "in-kitchen": _ann(bounds={"kitchen:10"}),
    "in-project": _ann(bounds={"project:1"}),
    "elsewhere": _ann(bounds={"kitchen:99", "project:99"}),
    "trigger": _ann(kind="trigger"),
    "job": _ann(kind="job"),
    "node_admin": _ann(kind="node_admin"),
    "portal": _ann(kind="portal"),
}
"""Ann is staff of the closed kitchen and made her own one; from `read` on they are her tokens."""

TARGETS: dict[str, Any] = {
    "account": None,
    "open-kitchen": Target("kitchen", 10, "open", project_id=1),
    "closed-kitchen": Target(
        "kitchen", 11, "closed", staff=["Ann@X.org", "guy@x.org", "cat@x.org"], project_id=1
    ),
    "roles-kitchen": Target(
        "kitchen",
        12,
        "roles",
        roles={"GUY@x.org": "Guest", "cat@x.org": "Admin", "ann@x.org": "Developer"},
        project_id=1,
    ),
    "root-kitchen": Target("kitchen", 13, "master", project_id=1, is_root=True, created_by=1),
    "own-kitchen": Target("kitchen", 14, "mine", project_id=1, created_by=1),
    "gone-kitchen": GoneKitchen("gone", project_id=1),
    "own-gone": GoneKitchen("gone", project_id=1, owner_id=1),
    "project": Target("project", 1, "main/recipes"),
    "own-user": Target("user", 1, "ann", owner_id=1),
    "own-token": Target("token", 21, "t", owner_id=1),
}

WORDS = {Unauthenticated: "401", NotFound: "404", Forbidden: "403"}


def verdict(caller: Caller, action: str, target: Any) -> str:
    """`ok`, `401`, `403` or `404`; `allows` and `require` must agree."""
    if caller.may(action, target):
        caller.require(action, target)
        return "ok"
    with pytest.raises(tuple(WORDS)) as refused:
        caller.require(action, target)
    return next(word for kind, word in WORDS.items() if isinstance(refused.value, kind))


def questions() -> Iterator[tuple[str, str, Any]]:
    """All pairs of an action and a target that it can be done to: action, target's name, target."""
    for action, rule in sorted(TABLE.items()):
        for name, target in TARGETS.items():
            kind = "account" if target is None else target.policy_kind()
            if kind in rule.targets:
                yield action, name, target


def written() -> str:
    """The matrix: one line for each question, one column for each caller."""
    left, width = 33, 11
    lines = [" " * left + "".join(f"{name:<{width}}" for name in CALLERS).rstrip()]
    for action, name, target in questions():
        cells = (f"{verdict(c, action, target):<{width}}" for c in CALLERS.values())
        lines.append(f"{f'{action} {name}':<{left}}{''.join(cells)}".rstrip())
    return "\n".join(lines) + "\n"
