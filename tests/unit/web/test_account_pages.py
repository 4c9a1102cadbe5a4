import re
from datetime import timedelta

import pytest

from galley.core.identity import operations as identity
from galley.core.identity.errors import TokenRevoked
from galley.core.identity.tokens import TokenKind
from galley.web.pages.account import KINDS, browser_text

from .conftest import Browser
from .world import EMAIL, PASSWORD

NEW = "another four unrelated words"


def shown_secret(page):
    return re.search(r'id="secret" tabindex="0">([^<]+)<', page.text)[1]


def make(browser, **changes):
    fields = {"name": "nightly", "kind": "pair", "days": "30", **changes}
    return browser.submit("/account/tokens", fields)


def test_the_kinds_on_offer_exist():
    assert set(KINDS) <= {kind.value for kind in TokenKind}


def test_a_token_is_shown_once_and_works(world, ada):
    made = make(ada)
    assert made.status_code == 200
    key_id, _, secret = shown_secret(made).partition(":")
    with world.database.reading() as session:
        caller = identity.caller_for_pair(
            session, key_id, secret, accepts=frozenset({"pair"}), clock=world.clock
        )
    assert caller.login == EMAIL
    listed = ada.get("/account/tokens").text
    assert "nightly" in listed
    assert key_id in listed
    assert secret not in listed


def test_a_revoked_token_is_refused_at_once(world, ada):
    key_id, _, secret = shown_secret(make(ada)).partition(":")
    path = re.search(r'action="(/account/tokens/\d+/revoke)"', ada.get("/account/tokens").text)[1]
    done = ada.submit(path)
    assert done.headers["location"] == "/account/tokens?done=revoked"
    page = ada.get(done.headers["location"]).text
    assert "The token is revoked." in page
    assert "Revoked" in page
    with world.database.reading() as session, pytest.raises(TokenRevoked):
        identity.caller_for_pair(
            session, key_id, secret, accepts=frozenset({"pair"}), clock=world.clock
        )


def test_tokens_that_ended_are_folded_out_of_the_way_of_those_that_work(world, ada):
    make(ada, name="early")
    path = re.search(r'action="(/account/tokens/\d+/revoke)"', ada.get("/account/tokens").text)[1]
    ada.submit(path)
    assert "No tokens that work" in ada.get("/account/tokens").text
    make(ada, name="second")
    page = ada.get("/account/tokens").text
    active, folded = page.split('<details class="fold">')
    assert "second" in active
    assert "early" not in active
    assert "Revoked, replaced and expired (1)" in folded
    assert "early" in folded


def test_an_expired_token_shows_as_such(world, ada):
    make(ada, days="7")
    world.clock.advance(timedelta(hours=7).total_seconds())
    assert "Expired" not in ada.get("/account/tokens").text
    world.clock.advance(timedelta(days=7).total_seconds())
    ada.sign_in()
    assert "Expired" in ada.get("/account/tokens").text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": " "}, "Give the token a name"),
        ({"name": "x" * 300}, "at most 200"),
        ({"kind": "setup"}, "Choose one of the kinds"),
        ({"kind": "<script>"}, "Choose one of the kinds"),
        ({"days": "100000"}, "Choose one of the times"),
        ({"days": "x"}, "Choose one of the times"),
    ],
)
def test_a_wrong_wish_is_said_and_makes_nothing(ada, changes, said):
    refused = make(ada, **changes)
    assert refused.status_code == 422
    assert said in refused.text
    assert "<script>" not in refused.text
    assert "No tokens yet" in ada.get("/account/tokens").text


def test_nobody_revokes_the_tokens_of_others(world, ada):
    make(ada)
    path = re.search(r'action="(/account/tokens/\d+/revoke)"', ada.get("/account/tokens").text)[1]
    world.add_user("bob@example.org", roles=("member",))
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        assert bob.submit(path).status_code == 404
    assert "Active" in ada.get("/account/tokens").text


def test_a_new_password_signs_the_other_browsers_out(world, ada):
    with Browser(world.app) as other:
        other.sign_in()
        fields = {"present": PASSWORD, "password": NEW, "again": NEW}
        done = ada.submit("/account/password", fields)
        assert done.headers["location"] == "/account?done=password"
        assert ada.get("/runs").status_code == 200
        assert other.get("/runs").status_code == 303
        assert other.sign_in().status_code == 401
        assert other.sign_in(password=NEW).status_code == 303


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"present": "wrong"}, 403, "present password is not right"),
        ({"again": "different"}, 422, "new passwords differ"),
        ({"password": "short", "again": "short"}, 422, "at least 12"),
    ],
)
def test_a_password_is_changed_only_with_the_present_one(ada, changes, status, said):
    fields = {"present": PASSWORD, "password": NEW, "again": NEW, **changes}
    refused = ada.submit("/account/password", fields)
    assert refused.status_code == status
    assert said in refused.text
    assert ada.sign_in().status_code == 303


def test_another_browser_can_be_signed_out_from_afar(world, ada):
    with Browser(world.app) as other:
        other.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"
        other.sign_in()
        page = ada.get("/account").text
        assert "Firefox 140 on Linux" in page
        assert page.count("this one") == 1
        (path,) = re.findall(r'action="(/account/sessions/\w+/end)"', page)
        done = ada.submit(path)
        assert done.headers["location"] == "/account?done=session"
        assert other.get("/runs").status_code == 303


def test_nobody_ends_the_sessions_of_others(world, ada):
    world.add_user("bob@example.org", roles=("member",))
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        with world.database.reading() as session:
            user = identity.find_user(session, EMAIL)
            admin = identity.system_caller()
            (one,) = identity.list_web_sessions(session, admin, user, world.clock)
        assert bob.submit(f"/account/sessions/{one.uid}/end").status_code == 404
    assert ada.get("/runs").status_code == 200


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0) Chrome/156.0 Safari/537.36 Edg/156.0",
            "Edge 156 on Windows",
        ),
        ("Mozilla/5.0 (X11; Linux) HeadlessChrome/156.0.1 Safari/537.36", "Chrome 156 on Linux"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14) Version/19.1 Safari/605",
            "Safari 19 on macOS",
        ),
        ("curl/8.5", "curl/8.5"),
        ("", "Unknown browser"),
        ("<script>" * 40, ("<script>" * 40)[:60]),
    ],
)
def test_browsers_are_named_as_people_name_them(agent, text):
    assert browser_text(agent) == text
