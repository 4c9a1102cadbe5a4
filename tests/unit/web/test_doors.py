from datetime import timedelta

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from galley.core.identity import operations as identity
from galley.web.app import PAGES

from .conftest import ORIGIN, Browser
from .world import EMAIL, PASSWORD

PUBLIC = {"/", "/setup", "/sign-in"}


@pytest.fixture
def database(sqlite_database):
    """The doors ask the database nothing of their own: one kind is enough."""
    return sqlite_database


def make_link(world):
    with world.database.writing() as session:
        return identity.make_setup_token(session, world.clock)


def test_every_page_has_one_handler_and_a_known_action(world):
    for page in PAGES:
        handlers = [page.reads, page.writes, page.acts, page.watches]
        assert sum(handler is not None for handler in handlers) == 1, page.path
        assert page.action in world.services.actions
        assert page.method == "GET" or page.watches is None


def test_no_get_page_changes_anything():
    assert all(page.method == "POST" for page in PAGES if page.writes or page.acts)


def test_the_set_up_link_makes_the_administrator_once(world, stranger):
    token = make_link(world)
    page = stranger.get(f"/setup?token={token}")
    assert page.status_code == 200
    fields = {"token": token, "email": EMAIL, "name": "Ada", "password": PASSWORD}
    done = stranger.submit("/setup", {**fields, "again": PASSWORD}, token=False)
    assert done.status_code == 303
    assert done.headers["location"] == "/runs?done=welcome"
    assert "You are its administrator" in stranger.get(done.headers["location"]).text
    with Browser(world.app) as second:
        again = second.submit("/setup", {**fields, "again": PASSWORD}, token=False)
        assert again.status_code == 409
        assert second.get(f"/setup?token={token}").headers["location"] == "/sign-in"
    with world.database.reading() as session:
        assert identity.find_user(session, EMAIL).roles == {"admin", "member"}


@pytest.mark.parametrize("token", ["", "nonsense", "gly_setup_" + "a" * 38])
def test_a_wrong_set_up_link_says_how_to_get_a_good_one(world, stranger, token):
    make_link(world)
    answer = stranger.get("/setup", params={"token": token})
    assert answer.status_code == 403
    assert "galley serve" in answer.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"again": "something else"}, "passwords differ"),
        ({"password": "short", "again": "short"}, "at least 12"),
        ({"email": "nobody"}, "not an e-mail address"),
    ],
)
def test_what_is_wrong_at_set_up_is_said_and_the_link_stays_good(world, stranger, changes, said):
    token = make_link(world)
    fields = {"token": token, "email": EMAIL, "password": PASSWORD, "again": PASSWORD}
    refused = stranger.submit("/setup", {**fields, **changes}, token=False)
    assert refused.status_code == 422
    assert said in refused.text
    assert PASSWORD not in refused.text
    assert stranger.submit("/setup", fields, token=False).status_code == 303


def test_strangers_are_sent_to_sign_in_and_come_back(world, stranger):
    world.add_user()
    sent = stranger.get("/account/tokens?x=1")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/sign-in?next=%2Faccount%2Ftokens%3Fx%3D1"
    page = stranger.get(sent.headers["location"])
    assert 'name="next" value="/account/tokens?x=1"' in page.text
    done = stranger.sign_in(next="/account/tokens?x=1")
    assert done.headers["location"] == "/account/tokens?x=1"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_never_leads_to_another_site(world, stranger, target):
    world.add_user()
    assert stranger.sign_in(next=target).headers["location"] == "/runs"
    assert stranger.get("/sign-in", params={"next": target}).headers["location"] == "/runs"


@pytest.mark.parametrize("page", [p for p in PAGES if p.path not in PUBLIC], ids=lambda p: p.path)
def test_no_page_shows_anything_to_strangers(stranger, page):
    path = page.path.replace("{run}", "x").replace("{session}", "x")
    path = path.replace("{artifact:int}", "1").replace("{token:int}", "1")
    if page.method == "GET":
        answer = stranger.get(path)
        assert answer.status_code in {303, 401}
        assert answer.status_code == 401 or answer.headers["location"].startswith("/sign-in")
    else:
        assert stranger.submit(path, token=False).status_code == 401


def test_after_a_refusal_the_page_asks_for_the_password_not_the_email(world, stranger):
    world.add_user()

    def focused(page):
        return [field for field in page.split("<input") if "autofocus" in field]

    (first,) = focused(stranger.get("/sign-in").text)
    assert 'name="email"' in first
    (again,) = focused(stranger.sign_in(password="not the password").text)
    assert 'name="password"' in again


def test_a_wrong_password_and_an_unknown_account_look_alike(world, stranger):
    world.add_user()
    wrong = stranger.sign_in(password="not the password")
    unknown = stranger.sign_in(email="eve@example.org", password="not the password")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text.replace(EMAIL, "") == unknown.text.replace("eve@example.org", "")
    assert "set-cookie" not in wrong.headers
    assert "not the password" not in wrong.text
    assert "This email and password open no account here. Check both and try again." in wrong.text


def test_too_many_failures_say_when_to_come_back(world, stranger):
    world.add_user()
    for _ in range(10):
        stranger.sign_in(password="not the password")
    throttled = stranger.sign_in()
    assert throttled.status_code == 429
    assert int(throttled.headers["retry-after"]) > 0


def test_every_sign_in_gets_a_new_session_and_ends_the_old_one(world, ada):
    first = ada.cookies["galley"]
    ada.sign_in()
    assert ada.cookies["galley"] != first
    with Browser(world.app, cookies={"galley": first}) as thief:
        assert thief.get("/runs").status_code == 303


def test_signing_out_ends_the_session_on_the_server(world, ada):
    cookie = ada.cookies["galley"]
    done = ada.submit("/sign-out")
    assert done.headers["location"] == "/sign-in"
    assert "galley" not in ada.cookies
    with Browser(world.app, cookies={"galley": cookie}) as thief:
        assert thief.get("/runs").status_code == 303


def test_an_idle_session_ends(world, ada):
    world.clock.advance(timedelta(hours=7, minutes=59).total_seconds())
    assert ada.get("/runs").status_code == 200
    world.clock.advance(timedelta(hours=8).total_seconds())
    assert ada.get("/runs").status_code == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"hx-request": "true"}, 303), ({"accept": "text/event-stream"}, 303)],
)
def test_an_open_page_alone_does_not_keep_a_session_alive(world, ada, headers, status):
    world.clock.advance(timedelta(hours=7).total_seconds())
    assert ada.head("/runs/stream", headers=headers).status_code == 200
    world.services.uses.flush(world.database)
    world.clock.advance(timedelta(hours=7).total_seconds())
    assert ada.get("/runs").status_code == status


def test_a_disabled_user_is_out_at_once(world, ada):
    world.add_user("bob@example.org")
    with world.database.writing() as session:
        identity.disable_user(session, identity.find_user(session, EMAIL), clock=world.clock)
    assert ada.get("/runs").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.method == "POST"], ids=lambda page: page.path
)
def test_posts_from_other_sites_are_refused_everywhere(world, ada, page, headers):
    path = page.path.replace("{run}", "x").replace("{session}", "x")
    answer = ada.submit(path.replace("{token:int}", "1"), **headers)
    assert answer.status_code == 403
    assert ada.get("/runs").status_code == 200
    assert world.writer.messages == []


@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_a_form_without_the_sessions_token_is_refused(ada, token):
    assert ada.submit("/sign-out", {"csrf": token}).status_code == 403
    assert ada.get("/runs").status_code == 200


def test_the_token_of_another_session_is_refused(world, ada):
    world.add_user("bob@example.org")
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        stolen = bob.csrf()
    assert ada.submit("/sign-out", {"csrf": stolen}).status_code == 403


def test_only_forms_are_read(ada):
    headers = {"origin": ORIGIN, "content-type": "text/plain"}
    assert ada.post("/sign-out", content=b"{}", headers=headers).status_code == 415
    headers["content-type"] = "application/x-www-form-urlencoded"
    assert ada.post("/sign-out", content=b"a=" + b"x" * 70_000, headers=headers).status_code == 413
    assert ada.post("/sign-out", content=b"a=b&" * 200, headers=headers).status_code == 400
    assert ada.post("/sign-out", content=b"a=\xff%ff", headers=headers).status_code == 400


def test_over_plain_http_from_afar_nobody_signs_in(world):
    world.add_user()
    with Browser(world.app) as browser:
        browser.base_url = "http://galley.example.org"
        assert "not encrypted" in browser.get("/sign-in").text
        refused = browser.post(
            "/sign-in",
            data={"email": EMAIL, "password": PASSWORD},
            headers={"origin": "http://galley.example.org"},
        )
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


def test_over_https_the_cookie_carries_the_host_prefix(world):
    world.add_user()
    with Browser(world.app) as browser:
        browser.base_url = "https://galley.example.org"
        done = browser.post(
            "/sign-in",
            data={"email": EMAIL, "password": PASSWORD},
            headers={"origin": "https://galley.example.org"},
        )
        assert done.headers["set-cookie"].startswith("__Host-galley=")
        assert browser.get("/runs").status_code == 200


@pytest.mark.parametrize("path", ["/sign-in", "/runs", "/nowhere", "/static/base.css"])
def test_every_answer_carries_the_headers_of_trust(ada, path):
    headers = ada.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    if path != "/static/base.css":
        assert headers["cache-control"] == "no-store"


def test_assets_are_kept_by_the_browser_as_long_as_their_name_holds(ada):
    page = ada.get("/runs").text
    link = page.split('href="/static/console.css')[1].split('"')[0]
    named = ada.get(f"/static/console.css{link}")
    assert "immutable" in named.headers["cache-control"]
    assert ada.get("/static/console.css").headers["cache-control"] == "no-cache"
    assert ada.get("/static/../app.py").status_code == 404
    assert ada.get("/static/%2e%2e/app.py").status_code == 404


def test_colours_are_remembered_and_lead_nowhere_else(ada):
    done = ada.submit("/theme", {"theme": "dark", "next": "//evil.example"})
    assert done.headers["location"] == "/runs"
    assert 'class="theme-dark"' in ada.get("/runs").text
    assert ada.submit("/theme", {"theme": "<script>"}).status_code == 422


def test_a_bug_shows_no_inside_and_is_logged(world, ada, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyError("/secret/path")

    monkeypatch.setattr("galley.core.runs.reading.list_runs", fail)
    with (
        Browser(world.app, cookies=dict(ada.cookies), raise_server_exceptions=False) as browser,
        structlog.testing.capture_logs() as logged,
    ):
        answer = browser.get("/runs")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (entry,) = logged
    assert entry["event"] == "bug"
    assert f"Request <code>{entry['request_id']}</code>" in answer.text


def test_a_lost_database_is_told_as_a_page(world, ada, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OperationalError("select", {}, OSError("gone"))

    monkeypatch.setattr("galley.web.door.identity.caller_for_web_session", fail)
    with structlog.testing.capture_logs():
        answer = ada.get("/runs")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "Try again" in answer.text
