"""Signing in: the token, its check, its end."""

import base64
import json
import time

import httpx2
import pytest
from tests.contract.datakitchen.world import ADMIN, MEMBER
from tests.contract.live import PASSWORD, Api, serve

FOUR_HOURS_S = 4 * 3600
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def payload(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def header(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.evidence("docs", "Automation API, API authentication; contract 3.2, rule 2")
def test_a_login_answers_a_bare_token(live):
    got = httpx2.post(
        f"{live.base}/v2/login", data={"username": MEMBER, "password": PASSWORD}, trust_env=False
    )
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/plain")
    token = got.text
    assert token == token.strip()
    assert token.count(".") == 2
    assert "alg" in header(token)
    assert 0 < payload(token)["exp"] - time.time() <= FOUR_HOURS_S + 5
    assert Api(live.base, token).good("GET", "/v2/userinfo")["login"] == MEMBER


@pytest.mark.evidence("docs", "old shell examples label the form as JSON; contract 3.0")
@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (f"username=mia%40example.com&password={PASSWORD}", FORM),
        (f"username=mia%40example.com&password={PASSWORD}", JSON),
        (f"username=mia@example.com&password={PASSWORD}", {"Content-Type": "text/plain"}),
        (json.dumps({"username": MEMBER, "password": PASSWORD}), JSON),
        (json.dumps({"username": MEMBER, "password": PASSWORD}), FORM),
        (json.dumps({"username": MEMBER.upper(), "password": PASSWORD}), {}),
    ],
)
def test_a_login_is_understood_whatever_its_label(live, content, headers):
    got = Api(live.base).call("POST", "/v2/login", content=content, headers=headers)
    assert got.status == 200, got.text
    assert got.text.count(".") == 2


@pytest.mark.evidence("client", "datakitchen-api-tools 0.4.1 compares the whole text")
@pytest.mark.parametrize(
    ("user", "password"),
    [(MEMBER, "wrong"), ("nobody@example.com", PASSWORD), (MEMBER, ""), ("", "")],
)
def test_a_wrong_password_is_401_with_exactly_this_text(live, user, password):
    got = httpx2.post(
        f"{live.base}/v2/login", data={"username": user, "password": password}, trust_env=False
    )
    assert (got.status_code, got.text) == (401, "Credentials are invalid")


@pytest.mark.evidence("assumed", "contract 3.1: bad input is 400")
@pytest.mark.parametrize("body", [{}, {"username": "a"}, {"password": "b"}, []])
def test_a_login_that_lacks_a_field_says_which(live, body):
    got = Api(live.base).call("POST", "/v2/login", body)
    assert got.status == 400
    assert set(got.json) == {"message"}
    assert got.json["message"]["error"]


@pytest.mark.evidence("client", "dkcloudcommand 1.5.33, DKApiHelper.valid_token")
def test_a_good_token_is_handed_back(live, member):
    assert member.good("GET", "/v2/validatetoken") == {"token": member.token}
    assert member.good("GET", "/v2/validatetoken", {}) == {"token": member.token}
    lower = Api(live.base, authorization=f"bearer {member.token}")
    assert lower.good("GET", "/v2/validatetoken") == {"token": member.token}


@pytest.mark.evidence("client", "DKUtils 2.11.6 asks without a token first, and logs in on 401")
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer nonsense", "Bearer a.b.c", "Basic !!!", "Digest x", "Bearer é"],
)
def test_a_missing_or_bad_token_is_401_in_json(live, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    got = Api(live.base).call("GET", "/v2/validatetoken", {}, headers=headers)
    assert got.status == 401
    assert got.json["message"]["error"]


@pytest.mark.evidence("client", "dkcloudcommand 1.5.33 needs role and customer_name")
def test_userinfo_tells_who_calls(admin, member):
    shown = member.good("GET", "/v2/userinfo")
    assert shown == {
        "login": MEMBER, "email": MEMBER, "name": MEMBER, "role": "DEVELOPER",
        "customer_name": shown["customer_name"],
        "customer_git_name": shown["customer_git_name"],
        "customer_git_org": shown["customer_git_org"],
        "support_email": shown["support_email"], "email_verified": True,
    }  # fmt: skip
    assert all(isinstance(shown[key], str) for key in shown if key != "email_verified")
    assert shown["customer_name"]
    assert admin.good("GET", "/v2/userinfo")["role"] == "ADMIN"


@pytest.mark.evidence("client", "DKUtils 2.11.6 with is_api_token: HTTP Basic, no login")
def test_an_api_token_pair_signs_in_by_basic(live):
    api = live.pair(ADMIN)
    assert api.good("GET", "/v2/userinfo")["login"] == ADMIN
    assert api.good("GET", "/v2/kitchen/list")["kitchens"]


@pytest.mark.evidence("assumed", "a password is no API token")
def test_basic_with_a_password_is_refused(live):
    text = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
    assert Api(live.base, Authorization=f"Basic {text}").call("GET", "/v2/userinfo").status == 401


@pytest.mark.evidence("docs", "a session token expires after four hours; contract 3.0")
def test_a_token_is_renewed_near_its_end_and_refused_after_it(tmp_path):
    clock = tmp_path / "offset"
    clock.write_text("0")
    with serve(tmp_path / "data", GALLEY_TEST_CLOCK=str(clock)) as server:
        server.add_user(ADMIN, admin=True)
        api = server.log_in(ADMIN)
        clock.write_text(str(FOUR_HOURS_S - 660))
        assert api.good("GET", "/v2/validatetoken")["token"] == api.token
        clock.write_text(str(FOUR_HOURS_S - 300))
        fresh = api.good("GET", "/v2/validatetoken")["token"]
        assert fresh != api.token
        assert payload(fresh)["exp"] - payload(api.token)["exp"] >= FOUR_HOURS_S - 660
        assert api.good("GET", "/v2/userinfo")["login"] == ADMIN
        clock.write_text(str(FOUR_HOURS_S + 60))
        assert api.call("GET", "/v2/userinfo").status == 401
        assert api.call("GET", "/v2/validatetoken").status == 401
        assert Api(server.base, fresh).good("GET", "/v2/userinfo")["login"] == ADMIN
