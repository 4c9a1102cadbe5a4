"""The policy table: the whole matrix as it was reviewed, and what must hold whatever it says."""

import dataclasses
import difflib
import os
from pathlib import Path

import pytest

from galley.core.caller import Caller
from galley.core.errors import Forbidden, NotFound, Unauthenticated
from galley.core.identity.actions import (
    ACTIONS,
    KIND_CEILINGS,
    READING,
    SCOPES,
    TABLE,
    unknown_actions,
)
from galley.core.identity.actors import nobody, system_caller
from galley.core.identity.models import ROLES, Token, User, WebSession
from galley.core.identity.policy import JUDGE
from galley.core.identity.tokens import TokenKind

from .matrix import CALLERS, TARGETS, Target, questions, verdict, written

REVIEWED = Path(__file__).with_name("policy_matrix.txt")
QUESTIONS = list(questions())


def test_the_matrix_is_as_reviewed() -> None:
    now = written()
    if os.environ.get("GALLEY_ACCEPT_MATRIX"):
        REVIEWED.write_text(now)
    changed = list(
        difflib.unified_diff(
            REVIEWED.read_text().splitlines(), now.splitlines(), "reviewed", "now", lineterm="", n=0
        )
    )
    assert changed == []
    assert len(now.splitlines()) == len(QUESTIONS) + 1


def test_every_action_is_asked_about() -> None:
    assert {action for action, _, _ in QUESTIONS} == ACTIONS
    assert len(QUESTIONS) > 120


def test_nobody_may_only_what_is_public() -> None:
    for action, _, target in QUESTIONS:
        expected = "ok" if action == "public" else "401"
        assert verdict(nobody(), action, target) == expected


def test_administrators_and_the_system_may_everything() -> None:
    for action, _, target in QUESTIONS:
        assert verdict(CALLERS["admin"], action, target) == "ok", action
        assert verdict(system_caller(), action, target) == "ok", action


def test_a_credential_never_gives_more_than_its_owner_has() -> None:
    for action, name, target in QUESTIONS:
        if verdict(CALLERS["member"], action, target) == "ok":
            continue
        for caller in (c for c in CALLERS.values() if c.user_id == 1):
            assert verdict(caller, action, target) != "ok", (action, name, caller)


def test_strangers_are_told_nothing_of_closed_kitchens() -> None:
    for action, _, target in QUESTIONS:
        for hidden in ("closed-kitchen", "gone-kitchen"):
            if target is TARGETS[hidden]:
                assert verdict(CALLERS["stranger"], action, target) == "404", action
                assert verdict(CALLERS["operator"], action, target) == "404", action


def test_bounds_hide_what_lies_outside() -> None:
    for action, name, target in QUESTIONS:
        if name.endswith("-kitchen") or name == "project":
            assert verdict(CALLERS["elsewhere"], action, target) == "404", (action, name)
        elif verdict(CALLERS["elsewhere"], action, target) == "ok":
            assert action in READING


def test_reading_scopes_and_guests_change_nothing() -> None:
    for action, name, target in QUESTIONS:
        if action not in READING:
            assert verdict(CALLERS["read"], action, target) != "ok", (action, name)
            if name == "roles-kitchen":
                assert verdict(CALLERS["guest"], action, target) == "403", action


def test_an_account_role_gives_at_least_what_the_one_below_gives() -> None:
    steps = [frozenset({"member"}), frozenset({"member", "operator"}), frozenset(ROLES)]
    for action, name, target in QUESTIONS:
        answers = [
            verdict(dataclasses.replace(CALLERS["stranger"], roles=roles), action, target) == "ok"
            for roles in steps
        ]
        assert answers == sorted(answers), (action, name)


def test_a_user_without_roles_may_nothing_but_what_is_public_or_own() -> None:
    bare = dataclasses.replace(CALLERS["member"], roles=frozenset())
    for action, name, target in QUESTIONS:
        if verdict(bare, action, target) == "ok":
            assert action == "public" or name.startswith("own-"), (action, name)


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({"unheard-of"})])
def test_scopes_that_are_not_known_allow_nothing(scopes: frozenset[str]) -> None:
    caller = dataclasses.replace(CALLERS["admin"], scopes=scopes)
    for action, _, target in QUESTIONS:
        assert caller.may(action, target) == (action == "public")


@pytest.mark.parametrize("bounds", [frozenset(), frozenset({"kitchen:1"}), frozenset({"project:"})])
def test_bounds_hold_for_administrators_too(bounds: frozenset[str]) -> None:
    caller = dataclasses.replace(CALLERS["admin"], bounds=bounds)
    for action, name, target in QUESTIONS:
        if "kitchen" in name or name == "project":
            assert not caller.may(action, target), (action, name)


def test_bounds_leave_an_administrator_what_lies_inside() -> None:
    bound = dataclasses.replace(CALLERS["admin"], bounds=frozenset({"project:1"}))
    assert bound.may("project.manage", Target("project", 1))
    assert not bound.may("project.manage", Target("project", 2))
    assert bound.may("secret.write", Target("project", 1))
    assert bound.may("secret.read")
    assert not bound.may("secret.write")
    assert not bound.may("account.manage")


def test_roles_without_a_user_are_nothing() -> None:
    ghost = Caller(judge=JUDGE, roles=frozenset({"admin", "member"}))
    for action, _, target in QUESTIONS:
        assert verdict(ghost, action, target) == ("ok" if action == "public" else "401")


def test_unknown_actions_and_wrong_targets_are_faults_not_answers() -> None:
    admin = CALLERS["admin"]
    for ask in (admin.may, admin.require):
        with pytest.raises(LookupError, match=r"kitchen\.fly"):
            ask("kitchen.fly", None)
        with pytest.raises(TypeError, match=r"order\.create"):
            ask("order.create", None)
        with pytest.raises(TypeError, match=r"audit\.read"):
            ask("audit.read", TARGETS["open-kitchen"])


def test_routes_with_unknown_actions_are_found() -> None:
    assert unknown_actions({"order.create", "public"}) == frozenset()
    assert unknown_actions({"order.create", "order.fly"}) == {"order.fly"}


def test_the_table_is_sound() -> None:
    kinds = {"account", "kitchen", "project", "user", "token"}
    for action, rule in TABLE.items():
        assert rule.targets, action
        assert rule.targets <= kinds, action
        assert rule.roles <= ROLES, action
        assert rule.roles_on.keys() <= rule.targets, action
        assert "admin" in rule.roles or rule.public, action
    assert [action for action, rule in TABLE.items() if rule.public] == ["public"]
    for allowed in (*SCOPES.values(), *KIND_CEILINGS.values()):
        assert allowed <= ACTIONS
        assert "public" in allowed
    assert KIND_CEILINGS.keys() <= set(TokenKind)


@pytest.mark.parametrize("staff", [["ann@x.org"], ["ANN@X.ORG"], ["b@x.org", "Ann@x.org"]])
def test_staff_are_known_by_login_in_any_spelling(staff: list[str]) -> None:
    assert CALLERS["member"].may("order.create", Target("kitchen", 1, staff=staff))


@pytest.mark.parametrize("staff", [["xann@x.org"], ["ann@x.orgx"], [""], ["ann"], [" "]])
def test_others_are_not_staff(staff: list[str]) -> None:
    kitchen = Target("kitchen", 1, staff=staff)
    assert not CALLERS["member"].may("order.create", kitchen)
    assert not dataclasses.replace(CALLERS["member"], login="").may("order.create", kitchen)
    assert not dataclasses.replace(CALLERS["member"], login=None).may("order.create", kitchen)


def test_refusals_say_what_to_do_and_what_was_asked() -> None:
    kitchen = TARGETS["open-kitchen"]
    with pytest.raises(Unauthenticated, match="Sign in"):
        nobody().require("order.create", kitchen)
    with pytest.raises(Forbidden, match=r"scopes \(read\) do not allow order\.create") as refused:
        CALLERS["read"].require("order.create", kitchen)
    error = refused.value
    assert (error.action, error.object_kind, error.object_id) == ("order.create", "kitchen", "open")
    with pytest.raises(Forbidden, match="kind job does not allow"):
        CALLERS["job"].require("order.create", kitchen)
    with pytest.raises(Forbidden, match="bound to other objects"):
        CALLERS["in-kitchen"].require("kitchen.create", kitchen)
    with pytest.raises(Forbidden, match="needs the role admin; ask"):
        CALLERS["member"].require("audit.read")
    with pytest.raises(Forbidden, match="needs the role admin or operator"):
        CALLERS["member"].require("secret.write")
    with pytest.raises(Forbidden, match="role in this kitchen"):
        CALLERS["guest"].require("order.create", TARGETS["roles-kitchen"])
    with pytest.raises(NotFound, match="no such kitchen"):
        CALLERS["stranger"].require("order.create", TARGETS["closed-kitchen"])


def test_whoever_may_not_delete_a_kitchen_may_not_take_its_orders_either() -> None:
    for caller in CALLERS.values():
        for target in (found for action, _, found in QUESTIONS if action == "kitchen.delete"):
            both = [verdict(caller, act, target) for act in ("kitchen.delete", "order.clear")]
            assert both[0] == both[1], (caller, target)


def test_a_refusal_of_what_only_rulers_may_names_them() -> None:
    for action in (name for name, rule in TABLE.items() if rule.chiefs):
        with pytest.raises(Forbidden, match="by whoever made it"):
            CALLERS["member"].require(action, TARGETS["open-kitchen"])
        with pytest.raises(Forbidden, match="root kitchen is"):
            CALLERS["member"].require(action, TARGETS["root-kitchen"])


def test_rows_of_identity_are_judged_by_their_owner() -> None:
    member, stranger = CALLERS["member"], CALLERS["stranger"]
    for row, action in (
        (User(id=1, login="ann@x.org"), "password.set"),
        (Token(id=5, user_id=1), "token.revoke"),
        (WebSession(id=5, user_id=1), "token.revoke"),
    ):
        assert member.may(action, row)
        assert not stranger.may(action, row)
        with pytest.raises(NotFound):
            stranger.require(action, row)


def test_callers_compare_without_their_judge() -> None:
    assert nobody() == Caller(judge=JUDGE)
    assert "judge" not in repr(nobody())
