"""Rotating tokens: lost answers lock nobody out, stolen copies end the family."""

import pytest
import sqlalchemy as sa

from galley.core.errors import Invalid
from galley.core.events import audit, idempotency
from galley.core.events.models import audit_entries, idempotency_keys
from galley.core.identity import errors
from galley.core.identity import operations as identity
from galley.core.identity.models import Token

from .conftest import People


def _rotate(people: People, text: str, **how) -> identity.IssuedToken:
    return identity.rotate_token(
        people.database,
        text,
        accepts=frozenset({"personal", "session_bearer"}),
        clock=people.clock,
        address="192.0.2.7",
        **how,
    )


def _use(people: People, text: str) -> None:
    uses = identity.UseLog(people.clock)
    people.call(text, uses=uses)
    uses.flush(people.database)


def test_the_new_token_has_the_same_rights(people: People) -> None:
    ann = people.add("ann@example.org")
    old = people.token(ann, scopes={"read"}, bounds={"project:1"}, name="ci")
    new = _rotate(people, old.text, lifetime_s=3_600)
    caller = people.call(new.text)
    assert (caller.user_id, caller.scopes, caller.bounds) == (ann.id, {"read"}, {"project:1"})
    assert new.text != old.text
    assert (new.token.name, new.token.rotated_from) == ("ci", old.token.id)
    assert new.token.family_id == old.token.id


def test_the_old_token_works_on_for_a_minute(people: People) -> None:
    old = people.token(people.add("ann@example.org"))
    _rotate(people, old.text)
    people.clock.advance(59)
    assert people.call(old.text).token_id == old.token.id
    people.clock.advance(1)
    with pytest.raises(errors.TokenReplaced, match="newer one"):
        people.call(old.text)


def test_the_first_use_of_the_new_token_ends_the_old_one(people: People) -> None:
    old = people.token(people.add("ann@example.org"))
    new = _rotate(people, old.text)
    uses = identity.UseLog(people.clock)
    people.call(new.text, uses=uses)
    with pytest.raises(errors.TokenReplaced):
        people.call(old.text, uses=uses)
    uses.flush(people.database)
    with pytest.raises(errors.TokenReplaced):
        people.call(old.text)
    assert people.call(new.text).token_id == new.token.id


def test_a_lost_answer_can_be_asked_for_again(people: People) -> None:
    old = people.token(people.add("ann@example.org"))
    lost = _rotate(people, old.text)
    people.clock.advance(30)
    again = _rotate(people, old.text)
    assert people.call(again.text).token_id == again.token.id
    with pytest.raises(errors.TokenRevoked):
        people.call(lost.text)
    people.clock.advance(31)
    with pytest.raises(errors.TokenReplaced):
        people.call(old.text)


@pytest.mark.parametrize("late", [True, False])
def test_a_replayed_rotation_revokes_the_family(people: People, late: bool) -> None:
    first = people.token(people.add("ann@example.org"))
    second = _rotate(people, first.text)
    if late:
        people.clock.advance(60)
    else:
        _use(people, second.text)
    third = _rotate(people, second.text)
    with pytest.raises(errors.TokenReplaced):
        _rotate(people, first.text)
    for text in (second.text, third.text):
        with pytest.raises((errors.TokenRevoked, errors.TokenReplaced)):
            people.call(text)
    with people.database.reading() as session:
        rows = session.execute(sa.select(audit_entries).order_by(audit_entries.c.id)).all()
        assert (rows[-1].action, rows[-1].outcome) == ("token.replay", "denied")
        assert audit.verify(session) is None


def test_use_of_a_replaced_token_is_audited_once_an_hour(people: People) -> None:
    old = people.token(people.add("ann@example.org"))
    _use(people, _rotate(people, old.text).text)
    uses = identity.UseLog(people.clock)
    for _ in range(5):
        with pytest.raises(errors.TokenReplaced):
            people.call(old.text, uses=uses)
        uses.flush(people.database)
    people.clock.advance(3_600)
    with pytest.raises(errors.TokenReplaced):
        people.call(old.text, uses=uses)
    uses.flush(people.database)
    with people.database.reading() as session:
        told = session.execute(
            sa.select(audit_entries.c.object_id).where(audit_entries.c.action == "token.replay")
        ).all()
    assert [row.object_id for row in told] == [str(old.token.id)] * 2


def test_what_cannot_be_rotated(people: People) -> None:
    ann = people.add("ann@example.org")
    with pytest.raises(errors.TokenInvalid):
        _rotate(people, "gly_personal_nothing")
    with pytest.raises(errors.TokenKindRefused):
        _rotate(people, people.token(ann, "session_bearer").text)
    with pytest.raises(errors.TokenKindRefused):
        _rotate(people, people.token(ann, "bot").text)
    gone = people.token(ann)
    with people.database.writing() as session:
        identity.revoke_token(session, gone.token, clock=people.clock)
    with pytest.raises(errors.TokenRevoked):
        _rotate(people, gone.text)
    short = people.token(ann, lifetime_s=5)
    with pytest.raises(Invalid):
        _rotate(people, short.text, lifetime_s=-1)
    people.clock.advance(5)
    with pytest.raises(errors.TokenExpired):
        _rotate(people, short.text)


def test_the_idempotency_row_comes_with_the_new_token_or_not_at_all(people: People) -> None:
    old = people.token(people.add("ann@example.org"))
    scope = idempotency.Scope("user:1", "POST", "/rotate", "k1")

    def companion(issued: identity.IssuedToken):
        row = idempotency.row(
            scope,
            body_sha256="b",
            status=200,
            answer=issued.text.encode(),
            at=people.clock.now(),
        )
        return [row]

    new = _rotate(people, old.text, companions=companion)
    with people.database.reading() as session:
        stored = idempotency.find(session, scope)
        assert stored is not None
        assert stored.answer == new.text.encode()
    with pytest.raises(sa.exc.IntegrityError):  # the key is taken: nothing of it happens
        _rotate(people, old.text, companions=companion)
    with people.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Token)) == 2
        assert session.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)) == 1
