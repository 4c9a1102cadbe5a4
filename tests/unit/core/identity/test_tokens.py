"""The texts of tokens: their format, checksum and hash."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galley.core.identity import tokens
from galley.core.identity.tokens import TokenKind

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("kind", sorted(TokenKind))
def test_a_token_tells_its_kind(kind: TokenKind) -> None:
    text = tokens.new_text(kind)
    assert re.fullmatch(rf"gly_{kind}_[0-9A-Za-z]{{38}}", text)
    assert tokens.is_well_formed(text)
    assert tokens.kind_of(text) == kind


def test_tokens_do_not_repeat() -> None:
    texts = {tokens.new_text("personal") for _ in range(500)}
    keys = {tokens.new_key_id() for _ in range(500)}
    assert (len(texts), len(keys)) == (500, 500)


@given(st.integers(0, 60), st.characters(codec="ascii"))
def test_any_changed_character_is_noticed(position: int, character: str) -> None:
    text = "gly_personal_" + "a1B2c3D4" * 4
    text += tokens._check(text)
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    assert tokens.is_well_formed(changed) == (changed == text) or "." in changed


@pytest.mark.parametrize(
    "text",
    ["", "x", "gly_personal_", "gly_", "a.b", "a.b.c.d", "gly_personal_é" + "a" * 37, "x" * 5_000],
)
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not tokens.is_well_formed(text)
    assert tokens.kind_of(text) is None


def test_the_bearer_has_the_shape_of_a_jwt_with_its_expiry() -> None:
    text = tokens.new_bearer(issued_at=NOW, expires_at=NOW + timedelta(hours=4))
    header, payload, signature = text.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(header + "=="))
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert decoded["alg"]
    assert claims["exp"] == int((NOW + timedelta(hours=4)).timestamp())
    assert claims["iat"] == int(NOW.timestamp())
    assert len(base64.urlsafe_b64decode(signature + "==")) == 32
    assert tokens.is_well_formed(text)
    assert tokens.kind_of(text) == "session_bearer"


def test_the_digest_is_the_sha256_of_the_whole_text() -> None:
    assert tokens.digest_of("a") == (
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    )
