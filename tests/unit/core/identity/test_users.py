"""Making, changing and disabling users."""

from functools import partial

import pytest

from galley.core.errors import Forbidden, Invalid, NotFound
from galley.core.events import audit
from galley.core.identity import errors
from galley.core.identity import operations as identity
from galley.core.identity.errors import LastAdmin, LoginTaken, WeakPassword
from galley.kit.pages import PageRequest

from .conftest import PASSWORD, People


def test_a_new_user_is_stored_with_a_lower_case_login(people: People) -> None:
    people.add("  Ann@Example.ORG ", "operator")
    with people.database.reading() as session:
        found = identity.find_user(session, "ANN@example.org")
    assert found is not None
    assert (found.login, found.email, found.kind) == ("ann@example.org", "ann@example.org", "user")
    assert found.roles == {"operator", "member"}
    assert found.created_at == people.clock.now()
    assert found.password_hash is not None
    assert PASSWORD not in found.password_hash


def test_what_is_no_address_makes_no_user(people: People) -> None:
    for email in (
        *("", "ann", "ann@", "@x", "a b@x.org", "a@b@c", "a\x00@x.org", "a@x.org\nBcc: b@x.org"),
        *("x" * 250 + "@x.org", "\ud800@x.org", "<script>@x.org", "../a@x.org"),
    ):
        with pytest.raises(Invalid, match="not an e-mail address"):
            people.add(email)
    with people.database.reading() as session:
        assert identity.list_users(session, identity.system_caller()).total == 0


def test_a_login_is_taken_once(people: People) -> None:
    people.add("ann@example.org")
    with pytest.raises(LoginTaken, match=r"ann@example\.org"):
        people.add("ANN@example.org")


def test_unknown_roles_and_weak_passwords_are_refused(people: People) -> None:
    with pytest.raises(Invalid, match="Unknown role boss"):
        people.add("ann@example.org", "boss")
    with pytest.raises(WeakPassword):
        people.add("ann@example.org", password="ann@example.org")
    with people.database.reading() as session:
        assert identity.find_user(session, "ann@example.org") is None


def test_only_administrators_make_users(people: People) -> None:
    ann, bob = people.add("ann@example.org", "admin"), people.add("bob@example.org")
    with people.database.writing() as session, pytest.raises(Forbidden, match="role admin"):
        identity.create_user(
            session,
            email="eve@example.org",
            password=None,
            clock=people.clock,
            by=people.caller(bob),
        )
    with people.database.writing() as session:
        made = identity.create_user(
            session,
            email="eve@example.org",
            password=None,
            clock=people.clock,
            by=people.caller(ann),
        )
    assert made.password_hash is None


def test_others_are_hidden_from_members(people: People) -> None:
    ann, bob = people.add("ann@example.org", "admin"), people.add("bob@example.org")
    with people.database.reading() as session:
        assert identity.get_user(session, people.caller(ann), "bob@example.org").id == bob.id
        assert identity.get_user(session, people.caller(bob), "bob@example.org").id == bob.id
        with pytest.raises(NotFound):
            identity.get_user(session, people.caller(bob), "ann@example.org")
        with pytest.raises(NotFound):
            identity.get_user(session, people.caller(ann), "nobody@example.org")


def test_users_are_listed_in_pages(people: People) -> None:
    for login in ("c@x.org", "a@x.org", "b@x.org"):
        people.add(login)
    with people.database.reading() as session:
        page = identity.list_users(
            session, identity.system_caller(), PageRequest(limit=2, offset=1)
        )
    assert [user.login for user in page.items] == ["b@x.org", "c@x.org"]
    assert page.total == 3


def test_roles_change_at_once_and_are_audited(people: People) -> None:
    people.add("ann@example.org", "admin")
    bob = people.add("bob@example.org")
    text = people.token(bob).text
    with people.database.writing() as session:
        identity.set_roles(session, bob, {"operator"}, clock=people.clock)
    assert people.call(text).roles == {"operator", "member"}
    with people.database.reading() as session:
        assert audit.verify(session) is None


@pytest.mark.parametrize("act", ["disable", "demote"])
def test_the_last_administrator_stays(people: People, act: str) -> None:
    ann = people.add("ann@example.org", "admin")
    people.add("bob@example.org")
    acts = {
        "disable": identity.disable_user,
        "demote": partial(identity.set_roles, roles={"member"}),
    }
    with people.database.writing() as session, pytest.raises(LastAdmin):
        acts[act](session, ann, clock=people.clock)
    people.add("carl@example.org", "admin")
    with people.database.writing() as session:
        identity.disable_user(session, ann, clock=people.clock)
    with people.database.reading() as session:
        found = identity.find_user(session, "ann@example.org")
        assert found is not None
        assert not found.is_active


def test_a_new_password_ends_sign_ins_but_no_other_tokens(people: People) -> None:
    ann = people.add("ann@example.org")
    bearer, personal = people.token(ann, "session_bearer"), people.token(ann)
    with people.database.writing() as session:
        kept, kept_cookie, _ = identity.open_web_session(
            session, ann, clock=people.clock, address=None
        )
        _, lost_cookie, _ = identity.open_web_session(
            session, ann, clock=people.clock, address=None
        )
        identity.set_password(
            session,
            ann,
            "other unrelated words",
            clock=people.clock,
            by=people.caller(ann),
            keep_web_session=kept.id,
        )
    assert people.call(personal.text).user_id == ann.id
    with pytest.raises(errors.TokenRevoked):
        people.call(bearer.text, "session_bearer")
    with people.database.reading() as session:
        caller, _ = identity.caller_for_web_session(session, kept_cookie, people.clock)
        assert caller.login == "ann@example.org"
        with pytest.raises(errors.SessionEnded):
            identity.caller_for_web_session(session, lost_cookie, people.clock)


def test_nobody_sets_another_ones_password(people: People) -> None:
    ann, bob = people.add("ann@example.org"), people.add("bob@example.org")
    with people.database.writing() as session, pytest.raises(NotFound):
        identity.set_password(
            session,
            ann,
            "other unrelated words",
            clock=people.clock,
            by=people.caller(bob),
        )
