"""Tokens in use: who calls, with which rights, and when a token is refused."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from galley.core.errors import Forbidden, Invalid, NotFound
from galley.core.events.models import audit_entries
from galley.core.identity import errors, tokens
from galley.core.identity import operations as identity
from galley.core.identity.issuing import IssuedToken
from galley.core.identity.tokens import TokenKind
from galley.kit.pages import PageRequest
from galley.storage.db import metadata

from .conftest import PASSWORD, People

SINGLE = sorted(set(TokenKind) - {TokenKind.SETUP, TokenKind.PAIR})
APIS = {
    "orders": frozenset({"session_bearer"}),
    "node": frozenset({"node_admin"}),
    "portal": frozenset({"portal"}),
    "projects": frozenset({"personal", "bot", "job"}),
    "triggers": frozenset({"trigger"}),
}


def test_an_api_takes_its_own_kinds_only(people: People) -> None:
    ann = people.add("ann@example.org")
    texts = {kind: people.token(ann, kind).text for kind in SINGLE}
    refused = 0
    for kind, text in texts.items():
        for api, taken in APIS.items():
            if kind in taken:
                assert people.call(text, *taken).token_kind == kind, api
                continue
            with pytest.raises(errors.TokenKindRefused):
                people.call(text, *taken)
            refused += 1
    assert (len(texts), refused) == (7, 28)


def test_the_caller_carries_what_the_token_and_its_owner_have(people: People) -> None:
    ann = people.add("ann@example.org", "operator")
    issued = people.token(ann, scopes={"read", "run"}, bounds={"kitchen:7"}, name=" laptop ")
    caller = people.call(issued.text)
    assert (caller.user_id, caller.login, caller.name) == (ann.id, "ann@example.org", "Ann")
    assert caller.roles == {"operator", "member"}
    assert (caller.token_id, caller.token_kind) == (issued.token.id, "personal")
    assert (caller.scopes, caller.bounds) == ({"read", "run"}, {"kitchen:7"})
    assert caller.address == "192.0.2.7"
    assert issued.token.name == "laptop"


def test_a_token_shows_its_text_only_once(people: People) -> None:
    issued = people.token(people.add("ann@example.org"))
    assert issued.text not in repr(issued)
    assert issued.text not in repr(vars(issued.token))


def test_junk_is_refused(people: People) -> None:
    for text in ("", "junk", "gly_personal_x", "a.b.c", "\x00", "\ud800", "é", "x" * 100_000):
        with pytest.raises(errors.TokenInvalid, match="not valid"):
            people.call(text)


def test_well_formed_strangers_are_refused(people: People) -> None:
    for text in (tokens.new_text("personal"), "x.y.z"):
        with pytest.raises(errors.TokenInvalid, match="not valid"):
            people.call(text)


def test_a_revoked_token_is_refused_at_once(people: People) -> None:
    ann = people.add("ann@example.org")
    issued = people.token(ann)
    people.call(issued.text)
    revoked_at = people.clock.now()
    for _ in range(2):
        with people.database.writing() as session:
            identity.revoke_token(session, issued.token, clock=people.clock, by=people.caller(ann))
        people.clock.advance(60)
    with pytest.raises(errors.TokenRevoked):
        people.call(issued.text)
    with people.database.reading() as session:
        assert identity.get_token(session, people.caller(ann), issued.token.id).revoked_at == (
            revoked_at
        )
        told = session.scalars(
            sa.select(audit_entries.c.id).where(audit_entries.c.action == "token.revoke")
        ).all()
    assert len(told) == 1


def test_others_cannot_revoke_or_see_a_token(people: People) -> None:
    ann, bob = people.add("ann@example.org"), people.add("bob@example.org")
    issued = people.token(ann)
    stranger = people.caller(bob)
    with people.database.writing() as session, pytest.raises(NotFound):
        identity.revoke_token(session, issued.token, clock=people.clock, by=stranger)
    with people.database.reading() as session:
        with pytest.raises(NotFound):
            identity.get_token(session, stranger, issued.token.id)
        with pytest.raises(NotFound):
            identity.list_tokens(session, stranger, ann)
        assert identity.get_token(session, people.caller(ann), issued.token.id).name == ""
    assert people.call(issued.text).user_id == ann.id


def test_a_disabled_owner_is_refused_and_comes_back_enabled(people: People) -> None:
    ann = people.add("ann@example.org")
    bearer, personal = people.token(ann, "session_bearer"), people.token(ann)
    with people.database.writing() as session:
        identity.disable_user(session, ann, clock=people.clock)
    for text, kind in ((bearer.text, "session_bearer"), (personal.text, "personal")):
        with pytest.raises(errors.TokenRevoked):
            people.call(text, kind)
    with people.database.writing() as session:
        identity.enable_user(session, ann, clock=people.clock)
    assert people.call(personal.text).login == "ann@example.org"
    with pytest.raises(errors.TokenRevoked):
        people.call(bearer.text, "session_bearer")


def test_the_bearer_of_a_sign_in_lives_four_hours(people: People) -> None:
    ann = people.add("ann@example.org")
    issued = people.token(ann, "session_bearer")
    assert issued.token.expires_at == people.clock.now() + timedelta(hours=4)
    people.clock.advance(4 * 3600 - 1)
    assert people.call(issued.text, "session_bearer").user_id == ann.id
    people.clock.advance(1)
    with pytest.raises(errors.TokenExpired, match="expired at 2026-11-24 16:00:00 UTC"):
        people.call(issued.text, "session_bearer")


def test_a_bearer_with_a_forged_expiry_is_a_stranger(people: People) -> None:
    header, _, signature = people.token(people.add("a@x.org"), "session_bearer").text.split(".")
    forged = tokens._base64url(json.dumps({"exp": 4_102_444_800}).encode())
    with pytest.raises(errors.TokenInvalid):
        people.call(f"{header}.{forged}.{signature}", "session_bearer")


def _call_pair(people: People, key_id: str, secret: str, *accepts: str):
    with people.database.reading() as session:
        return identity.caller_for_pair(
            session,
            key_id,
            secret,
            accepts=frozenset(accepts or ("pair",)),
            clock=people.clock,
        )


def test_a_pair_works_as_a_pair_only(people: People) -> None:
    ann = people.add("ann@example.org")
    issued = people.token(ann, "pair")
    key_id, _, secret = issued.text.partition(":")
    assert _call_pair(people, key_id, secret).user_id == ann.id
    with pytest.raises(errors.TokenKindRefused):
        _call_pair(people, key_id, secret, "personal")
    with pytest.raises(errors.TokenKindRefused):
        people.call(secret, "pair", "personal")
    other = people.token(ann, "pair").text.partition(":")[2]
    for wrong in ((key_id, other), ("x" * 20, secret), ("", secret), (key_id, ""), ("\x00", "é")):
        with pytest.raises(errors.TokenInvalid):
            _call_pair(people, *wrong)
    with people.database.writing() as session:
        identity.revoke_token(session, issued.token, clock=people.clock)
    with pytest.raises(errors.TokenRevoked):
        _call_pair(people, key_id, secret)


IMPOSSIBLE = [
    ({"kind": "magic"}, "no tokens of kind 'magic'"),
    ({"kind": "setup"}, "no tokens of kind 'setup'"),
    ({"kind": "job", "bounds": None}, "own project or kitchen"),
    ({"scopes": {"read", "fly"}}, "Unknown scope fly"),
    ({"scopes": set()}, "Unknown scope"),
    ({"bounds": {"kitchen:seven"}}, "kitchen:seven cannot bound"),
    ({"bounds": {"kitchen:1\n"}}, "cannot bound"),
    ({"bounds": set()}, "cannot bound"),
    ({"lifetime_s": 0}, "in the future"),
    ({"lifetime_s": -5}, "in the future"),
    ({"lifetime_s": 401 * 86_400}, "400 days at most"),
    ({"kind": "session_bearer", "lifetime_s": 14_401}, "4 hours at most"),
    ({"lifetime_s": float("nan")}, "cannot be a token's lifetime"),
    ({"lifetime_s": 1e300}, "cannot be a token's lifetime"),
    ({"name": "x" * 201}, "at most 200"),
    ({"name": "a\nb"}, "at most 200"),
]


def test_tokens_that_cannot_be(people: People) -> None:
    ann = people.add("ann@example.org")
    for how, told in IMPOSSIBLE:
        with pytest.raises(Invalid, match=told):
            people.token(ann, **how)
    with people.database.reading() as session:
        assert identity.list_tokens(session, people.caller(ann), ann).total == 0


def test_lifetimes_as_asked(people: People) -> None:
    ann, now = people.add("ann@example.org"), people.clock.now()
    assert people.token(ann, lifetime_s=90).token.expires_at == now + timedelta(seconds=90)
    end = now + timedelta(days=400)
    assert people.token(ann, expires_at=end).token.expires_at == end
    assert people.token(ann).token.expires_at == now + timedelta(days=365)
    assert people.token(ann, "trigger").token.expires_at is None


@pytest.mark.parametrize(
    ("held", "wanted", "good"),
    [
        ({"scopes": frozenset({"all"})}, {"scopes": None}, True),
        ({"scopes": frozenset({"all"})}, {"scopes": {"read"}}, True),
        ({"scopes": frozenset({"read"})}, {"scopes": {"read"}}, False),
        (
            {"scopes": frozenset({"all"}), "bounds": frozenset({"project:1"})},
            {"bounds": None},
            False,
        ),
    ],
)
def test_a_narrow_token_begets_no_wider_one(
    people: People, held: dict, wanted: dict, good: bool
) -> None:
    ann = people.add("ann@example.org")
    by = people.caller(ann, token_kind="personal", **held)
    if good:
        assert people.token(ann, by=by, **wanted).token.created_by == ann.id
    else:
        with pytest.raises(Forbidden):
            people.token(ann, by=by, **wanted)


def test_a_token_revoked_meanwhile_begets_none(people: People) -> None:
    ann = people.add("ann@example.org")
    bearer = people.token(ann, "session_bearer")
    caller = people.call(bearer.text, "session_bearer")
    assert people.token(ann, "session_bearer", by=caller).token.created_by == ann.id
    with people.database.writing() as session:
        identity.revoke_token(session, bearer.token, clock=people.clock)
    with pytest.raises(errors.TokenRevoked):
        people.token(ann, "session_bearer", by=caller)


def test_a_sign_in_is_told_of_its_user_and_other_tokens_of_the_system(people: People) -> None:
    ann = people.add("ann@example.org")
    people.token(ann, "session_bearer")
    people.token(ann, "personal")
    with people.database.reading() as session:
        told = session.execute(
            sa.select(audit_entries.c.actor)
            .where(audit_entries.c.action == "token.issue")
            .order_by(audit_entries.c.id)
        ).all()
    assert [row.actor for row in told] == ["ann@example.org", "system"]


def test_members_make_tokens_for_themselves_only(people: People) -> None:
    ann, bob = people.add("ann@example.org", "admin"), people.add("bob@example.org")
    assert isinstance(people.token(bob, by=people.caller(bob)), IssuedToken)
    assert isinstance(people.token(bob, by=people.caller(ann)), IssuedToken)
    with pytest.raises(NotFound):
        people.token(ann, by=people.caller(bob))


def test_the_list_leaves_sign_ins_out(people: People) -> None:
    ann = people.add("ann@example.org")
    for kind in ("personal", "session_bearer", "pair", "job"):
        people.token(ann, kind)
    with people.database.reading() as session:
        page = identity.list_tokens(session, people.caller(ann), ann, page=PageRequest(limit=1))
        assert [token.kind for token in page.items] == ["pair"]
        assert page.total == 2


def test_a_stolen_database_opens_nothing(people: People) -> None:
    ann = people.add("ann@example.org")
    for kind in sorted(set(TokenKind) - {TokenKind.SETUP}):
        people.token(ann, kind)
    with people.database.writing() as session:
        identity.open_web_session(session, ann, clock=people.clock, address=None)
    values: set[str] = set()
    with people.database.reading() as session:
        for table in ("account_user", "token", "web_session", "audit_entry"):
            for row in session.execute(sa.select(metadata.tables[table])):
                values |= {str(value) for value in row if value is not None}
    assert len(values) > 60
    every = frozenset(TokenKind)
    for value in values:
        assert PASSWORD not in value
        with pytest.raises(errors.TokenInvalid):
            people.call(value, *every)
        with people.database.reading() as session, pytest.raises(errors.SessionEnded):
            identity.caller_for_web_session(session, value, people.clock)


def test_ended_sign_ins_are_forgotten_after_a_month(people: People) -> None:
    ann = people.add("ann@example.org")
    people.token(ann, "session_bearer")
    people.token(ann, "personal", lifetime_s=60)
    people.clock.advance(31 * 86_400)
    people.token(ann, "session_bearer")
    with people.database.writing() as session:
        assert identity.purge_ended(session, now=people.clock.now()) == 1
    with people.database.reading() as session:
        listed = identity.list_tokens(
            session, people.caller(ann), ann, kinds=frozenset({"session_bearer", "personal"})
        )
        assert [token.kind for token in listed.items] == ["session_bearer", "personal"]


def test_user_of_finds_the_callers_row(people: People) -> None:
    ann = people.add("ann@example.org")
    with people.database.reading() as session:
        assert identity.user_of(session, people.caller(ann)).login == "ann@example.org"
        with pytest.raises(NotFound):
            identity.user_of(session, identity.nobody())
